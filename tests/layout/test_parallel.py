"""Layouts: what is left open is worked out, what cannot exist is refused with key, value and what is allowed."""

from __future__ import annotations

import pytest

from simtrain.errors import LayoutError
from simtrain.layout.parallel import gpus_of, plan_parallel
from simtrain.scenario.load import load
from tests.small import small


def test_what_is_left_open_is_worked_out() -> None:
    parallel = plan_parallel(small("layout.cp=2"))
    assert (parallel.gpus, parallel.tp, parallel.cp, parallel.pp, parallel.dp) == (16, 2, 2, 2, 2)
    assert parallel.replicas == 8
    assert parallel.micro_batches == 8
    assert parallel.stage_layers == ((0, 1), (2, 3))
    assert gpus_of(small()) == 16


@pytest.mark.parametrize(
    ("overrides", "sp"),
    [((), True), (("layout.sp=false",), False), (("layout.tp=1",), False), (("layout.tp=1", "layout.sp=false"), False)],
)
def test_sequence_parallelism_is_on_with_tensor_parallelism_unless_told(overrides: tuple[str, ...], sp: bool) -> None:
    assert plan_parallel(small(*overrides)).sp is sp


def test_stages_of_an_interleaved_or_uneven_split_hold_consecutive_layers() -> None:
    interleaved = plan_parallel(small("layout.vpp=2"))
    assert interleaved.stage_layers == ((0,), (1,), (2,), (3,))
    uneven = plan_parallel(small("layout.layers_per_stage=[1, 3]"))
    assert uneven.stage_layers == ((0,), (1, 2, 3))
    assert plan_parallel(small("layout.layers_per_stage=[0, 4]")).stage_layers == ((), (0, 1, 2, 3))


SELECTIVE = ("layout.recompute=selective",)
KEYS_OF_6 = ("workload.model.attention.kv_heads=6",)
HEADS_OF_128 = ("workload.model.attention.head_dim=128",)
REFUSED = {
    "product without dp": (
        ("layout.tp=4", "layout.pp=8"),
        ["layout.tp * layout.cp * layout.pp = 4 * 1 * 8", "16 GPUs", "16"],
    ),
    "product with dp": (("layout.dp=3",), ["layout.dp = 3", "= 12", "16 GPUs", "layout.dp = 4 would fit"]),
    "no dp fits": (("layout.dp=2", "layout.pp=3"), ["layout.dp = 2", "no layout.dp fits", "must divide 16"]),
    "heads": (
        ("workload.model.attention.heads=6", "workload.model.attention.kv_heads=6", *HEADS_OF_128, "layout.tp=4"),
        ["layout.tp = 4", "attention.heads = 6", "1, 2, 3, 6"],
    ),
    "kv heads": (
        ("workload.model.attention.kv_heads=6", "workload.model.attention.heads=24", *HEADS_OF_128, "layout.tp=4"),
        ["layout.tp = 4", "kv_heads = 6", "1, 2, 3, 6"],
    ),
    "mlp": (("workload.model.ffn_hidden=11006", "layout.tp=4"), ["layout.tp = 4", "ffn_hidden = 11006", "1, 2"]),
    "sequence over cp": (("workload.sequence_length=1022", "layout.cp=4"), ["layout.cp = 4", "sequence_length = 1022"]),
    "heads over cp": (
        ("workload.model.attention.heads=6", "layout.cp=4", "layout.cp_comm=all_to_all", *HEADS_OF_128, *KEYS_OF_6),
        ["layout.cp_comm = all_to_all: layout.cp = 4", "attention.heads / layout.tp = 3", "1, 3"],
    ),
    "kv heads over cp": (
        ("workload.model.attention.kv_heads=2", "layout.cp=4", "layout.cp_comm=all_to_all"),
        ["layout.cp = 4", "attention.kv_heads / layout.tp = 1", "allowed: 1"],
    ),
    "sequence over tp": (("workload.sequence_length=1022", "layout.tp=4"), ["layout.tp = 4", "= 1022", "1, 2"]),
    "sp without tp": (("layout.tp=1", "layout.sp=true"), ["layout.sp = true", "layout.tp above 1"]),
    "batch over dp": (("workload.global_batch=18",), ["layout.dp = 4", "global_batch = 18", "16 and 20"]),
    "batch below dp": (
        ("workload.global_batch=3",),
        ["layout.dp = 4", "global_batch = 3 sequences; the nearest that fit: 4"],
    ),
    "micro batch": (("layout.micro_batch=3",), ["layout.micro_batch = 3", "4 sequences", "1, 2, 4"]),
    "layers": (
        ("workload.model.layers=5",),
        ["layout.pp * layout.vpp = 2", "layers = 5", "layers_per_stage (2 numbers)", "[3, 2]"],
    ),
    "split of another length": (("layout.layers_per_stage=[1, 1, 2]",), ["[1, 1, 2]", "2 numbers", "it has 3"]),
    "split of another sum": (("layout.layers_per_stage=[1, 2]",), ["[1, 2]", "4 layers", "add up to 3"]),
    "negative split": (("layout.layers_per_stage=[5, -1]",), ["[5, -1]", "not negative"]),
    "chunks without pipeline": (("layout.pp=1", "layout.vpp=2"), ["layout.vpp = 2", "layout.pp above 1", "allowed: 1"]),
    "routing of a dense model": (
        ("workload.routing.kind=natural",),
        ["workload.routing.kind = natural", "no experts", "allowed: balanced"],
    ),
    "capacity of a dense model": (
        ("workload.routing.capacity_factor=1.25",),
        ["workload.routing.capacity_factor = 1.25", "no experts", "allowed: null"],
    ),
    "experts of a dense model": (("layout.ep=2",), ["layout.ep = 2", "no experts", "allowed: 1"]),
    "modules without selective": (
        ("layout.recompute_modules=[mlp]", "layout.recompute=full"),
        ["layout.recompute_modules = [mlp]", "layout.recompute = full", "allowed: layout.recompute = selective"],
    ),
    "no modules": (
        (*SELECTIVE, "layout.recompute_modules=[]"),
        ["layout.recompute_modules = []", "core_attn, layernorm, mlp, mlp_act, or null"],
    ),
    "modules twice": (
        (*SELECTIVE, "layout.recompute_modules=[mlp, layernorm, mlp]"),
        ["layout.recompute_modules = [mlp, layernorm, mlp]", "mlp twice"],
    ),
    "modules of another model": (
        (*SELECTIVE, "layout.recompute_modules=[layernorm, moe_act]"),
        ["layout.recompute_modules = [layernorm, moe_act]", "no moe_act", "core_attn, layernorm, mlp, mlp_act"],
    ),
    "modules in one another": (
        (*SELECTIVE, "layout.recompute_modules=[mlp_act, mlp]"),
        ["layout.recompute_modules = [mlp_act, mlp]", "mlp_act is part of mlp", "name one of them"],
    ),
    "cut experts of a dense model": (("layout.etp=2",), ["layout.etp = 2", "no experts", "allowed: null"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_layout_that_cannot_exist_says_key_value_and_what_is_allowed(case: str) -> None:
    overrides, said = REFUSED[case]
    with pytest.raises(LayoutError) as caught:
        plan_parallel(small(*overrides))
    assert [part for part in said if part not in str(caught.value)] == []
    assert caught.value.exit_status == 2


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("layout.ep=3",), ["layout.ep = 3", "experts = 8", "1, 2, 4, 8"]),
        (("layout.tp=4", "workload.model.moe.expert_ffn_hidden=102"), ["layout.tp = 4", "moe.expert_ffn_hidden = 102"]),
        (("layout.tp=4", "workload.model.moe.shared_ffn_hidden=102"), ["layout.tp = 4", "moe.shared_ffn_hidden = 102"]),
        (("workload.model.moe.experts=24", "layout.ep=3"), ["layout.ep = 3", "(tp * cp * dp) = 8", "1, 2, 4, 8"]),
        (
            ("cluster.nodes=3", "layout.pp=1", "layout.ep=8", "layout.shard_group=3", "workload.global_batch=12"),
            ["layout.shard_group = 3", "its 6 GPUs", "layout.ep = 8"],
        ),
        (("layout.ep=8", "layout.etp=2"), ["layout.ep * layout.etp = 16", "(tp * cp * dp) = 8", "1, 2, 4, 8"]),
        (("layout.etp=16",), ["layout.ep * layout.etp = 16", "(tp * cp * dp) = 8"]),
        (("workload.model.moe.expert_ffn_hidden=102", "layout.ep=2", "layout.etp=4"), ["layout.etp = 4", "= 102"]),
        (("layout.tp=4", "layout.ep=2", "layout.etp=7"), ["layout.etp = 7", "layout.tp = 4", "1, 2, 4 and multiples"]),
        (
            ("layout.sp=false", "layout.etp=1"),
            ["layout.sp = false with layout.tp = 2", "layout.ep = 1 and layout.etp = 1", "allowed: layout.sp = true"],
        ),
        (
            ("cluster.nodes=6", "layout.pp=1", "layout.ep=4", "layout.etp=2", "layout.shard_group=3"),
            ["layout.shard_group = 3", "its 6 GPUs", "layout.ep * layout.etp = 8"],
        ),
    ],
)
def test_experts_are_cut_evenly(overrides: tuple[str, ...], said: list[str]) -> None:
    with pytest.raises(LayoutError) as caught:
        plan_parallel(small(*overrides, model="mixtral-8x7b"))
    assert [part for part in said if part not in str(caught.value)] == []


def test_a_module_of_dense_layers_or_shared_experts_may_lie_in_another_in_the_rest() -> None:
    """DeepSeek-V3's first layers have a dense MLP, the others shared experts: mlp_act means both."""
    modules = "layout.recompute_modules=[{}]".format
    for named in ("mlp_act, mlp", "mlp_act, moe", "mlp_act, shared_experts"):
        plan_parallel(small(*SELECTIVE, modules(named), model="deepseek-v3"))
    for named, said in (
        ("mlp, moe, mlp_act", "mlp_act is part of"),
        ("moe, shared_experts", "shared_experts is part of moe"),
    ):
        with pytest.raises(LayoutError, match=said):
            plan_parallel(small(*SELECTIVE, modules(named), model="deepseek-v3"))


@pytest.mark.parametrize(
    ("overrides", "etp", "sharing"),
    [
        ((), 2, {"dp": 4}),
        (("layout.etp=2", "layout.sp=false"), 2, {"dp": 4}),
        (("layout.etp=1",), 1, {"dp": 4, "edp": 8}),
        (("layout.etp=4",), 4, {"dp": 4, "edp": 2}),
        (("layout.ep=4",), 1, {"dp": 4, "edp": 2}),
        (("layout.ep=4", "layout.etp=2"), 2, {"dp": 4, "edp": 1}),
        (("layout.ep=2", "layout.etp=4", "layout.tp=1"), 4, {"dp": 8, "edp": 1}),
    ],
)
def test_experts_are_cut_over_tp_or_whole_unless_told(overrides: tuple[str, ...], etp: int, sharing: dict) -> None:
    parallel = plan_parallel(small(*overrides, model="mixtral-8x7b"))
    assert parallel.etp == etp
    assert parallel.shared_by == sharing


def test_the_message_starts_with_the_scenario_or_the_place_given() -> None:
    with pytest.raises(LayoutError, match=r"^mine: layout\.dp"):
        plan_parallel(small("name=mine", "layout.dp=3"))
    with pytest.raises(LayoutError, match=r"^here: layout\.dp"):
        plan_parallel(small("layout.dp=3"), where="here: ")


def test_names_must_be_loaded_first() -> None:
    scenario = small()
    unloaded = scenario.model_copy(update={"cluster": scenario.cluster.model_copy(update={"node": "hgx-h100"})})
    with pytest.raises(LayoutError, match=r"cluster\.node is a name"):
        plan_parallel(unloaded)
    workload = scenario.workload.model_copy(update={"model": "llama2-7b"})
    with pytest.raises(LayoutError, match=r"workload\.model is a name"):
        plan_parallel(scenario.model_copy(update={"workload": workload}))


@pytest.mark.parametrize(
    ("model", "changes", "said"),
    [
        ("mixtral-8x7b", ("layout.tp=4", "layout.ep=8", "layout.sp=false"), "layout.sp = false with layout.tp = 4"),
        (
            "llama2-7b",
            ("workload.model.learned_positions=1024",),
            "allowed: up to workload.model.learned_positions = 1024",
        ),
    ],
)
def test_what_would_repeat_work_or_run_off_the_table_is_refused(
    model: str, changes: tuple[str, ...], said: str
) -> None:
    scenario = load({"cluster": "2x-hgx-h100", "workload": model}, *changes)
    with pytest.raises(LayoutError, match=said.replace(".", r"\.")):
        plan_parallel(scenario)
