"""Memory: the curve read from the Timeline, the replay without an engine, and layouts that fit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as hs

import simtrain as st
from simtrain.costs.kernels import KernelTime
from simtrain.costs.memory import StageActivations, parameter_bytes, stage_activations
from simtrain.costs.step import stage_operators
from simtrain.schedules.order import Order
from simtrain.step import fit
from simtrain.step.memory import replay_peak
from simtrain.step.simulate import plan_step, simulate_memory, simulate_step
from simtrain.timeline.memory import live_bytes
from tests.small import small

CASES = {
    "plain": (),
    "gpipe": ("layout.schedule=gpipe",),
    "interleaved": ("layout.schedule=interleaved_1f1b", "layout.vpp=2"),
    "recompute full": ("layout.recompute=full", "layout.schedule=gpipe"),
    "recompute selective": ("layout.recompute=selective", "layout.attention=unfused"),
    "zero 3": ("layout.zero=3", "layout.tp=1"),
    "zero 3, weights kept": ("layout.zero=3", "layout.tp=1", "layout.reshard_after_forward=false"),
    "shard group, two layers ahead": ("layout.zero=3", "layout.tp=1", "layout.prefetch=2", "layout.shard_group=4"),
    "recompute with exchanges": (
        "layout.recompute=selective",
        "layout.cp=4",
        "layout.tp=1",
        "layout.pp=4",
    ),
    "split backward": ("layout.schedule=zb1p", "layout.cp=2"),
    "split backward, recompute full": ("layout.schedule=zb1p", "layout.recompute=full"),
    "modules recomputed": ("layout.recompute=selective", "layout.recompute_modules=[layernorm, mlp_act, core_attn]"),
    "split backward, modules recomputed": (
        "layout.schedule=zb1p",
        "layout.recompute=selective",
        "layout.recompute_modules=[layernorm, mlp]",
    ),
    "micro batch 2": ("layout.micro_batch=2",),
    "no pipeline": ("layout.pp=1",),
    "eager loss of gathered logits": ("software.loss=eager", "software.logits=gathered", "software.fragmentation=0.2"),
    "in host memory": (
        "layout.offload=[first_moment, second_moment, master, weights, gradients, residual]",
        "layout.recompute=full",
    ),
    "output layer in pieces": ("layout.head_chunks=4", "software.loss=in_place", "software.workspace_memory=1 GiB"),
    "uneven, tied": ("layout.layers_per_stage=[1, 3]", "workload.model.tied_embeddings=true"),
}
ONE_RANK = ("layout.tp=1", "layout.pp=1", "layout.recompute=full")
LEANEST = ("layout.zero=3", "layout.tp=1", "layout.recompute=full")
ONE_HEAD = ("workload.model.attention.heads=1", "workload.model.layers=16")
BIG = ("workload.sequence_length=4096", "workload.global_batch=64")


@pytest.mark.parametrize("case", CASES)
def test_the_peak_read_from_the_timeline_is_the_replayed_one(case: str) -> None:
    scenario = small(*CASES[case])
    memory = simulate_memory(scenario)
    assert memory.peak_bytes == pytest.approx(fit.peak_bytes(scenario), rel=1e-12)
    assert memory.capacity_bytes == fit.capacity_bytes(scenario)
    for rank, (times_s, held) in enumerate(memory.curve):
        total = sum(values[rank] for values in memory.parts.values())
        assert held.max() == memory.peak_bytes[rank] == pytest.approx(total, rel=1e-12)
        assert times_s[int(np.argmax(held))] == memory.peak_time_s[rank]
        assert (np.diff(times_s) >= 0).all()
        base = total - memory.parts["activations"][rank]
        assert held[0] == held.min() == pytest.approx(base)
        assert held[-1] == pytest.approx(base)


def test_the_report_of_a_step_holds_the_same_memory() -> None:
    scenario = small("layout.recompute=full")
    step, alone = simulate_step(scenario).memory, simulate_memory(scenario)
    assert step.document() == alone.document()


def test_1f1b_keeps_fewer_micro_batches_than_gpipe_and_later_stages_fewer_than_earlier() -> None:
    layers = ("layout.pp=4", "layout.tp=1", "workload.global_batch=32")
    eager = simulate_memory(small(*layers)).parts["activations"]
    lazy = simulate_memory(small(*layers, "layout.schedule=gpipe")).parts["activations"]
    assert all(a <= b for a, b in zip(eager, lazy, strict=True))
    assert eager[0] < lazy[0]
    assert eager[1] > eager[2]


def test_a_split_backward_keeps_what_it_recomputes_for_the_weight_gradients() -> None:
    """1F1B makes a layer again and drops it; zb_h2 puts the weight gradients off and holds what they need."""
    options = ("layout.tp=1", "layout.pp=4", "workload.global_batch=64", "layout.recompute=full")
    whole, split = (simulate_memory(small(*options, f"layout.schedule={s}")) for s in ("1f1b", "zb_h2"))
    layer = small(*options, "layout.recompute=none", "layout.schedule=1f1b")
    kept = simulate_memory(layer).parts["activations"][0] / 4  # of one micro batch
    assert split.parts["activations"][2] > whole.parts["activations"][2] + kept


@pytest.mark.parametrize(
    ("precision", "weights", "adam"), [("bf16", 2, 12), ("fp8", 2, 12), ("tf32", 4, 8), ("fp32", 4, 8)]
)
def test_tf32_is_kept_in_four_bytes_and_needs_no_master_weights(precision: str, weights: int, adam: int) -> None:
    options = ("layout.tp=1", "layout.pp=1", "layout.zero=0")
    found, plain = (simulate_memory(small(*options, f"layout.precision={p}")) for p in (precision, "bf16"))
    assert found.parts["weights"][0] == pytest.approx(plain.parts["weights"][0] * weights / 2)
    assert found.parts["optimizer"][0] == pytest.approx(plain.parts["weights"][0] * adam / 2)
    activations = {"bf16": 1, "tf32": 1.8, "fp32": 1.8}.get(precision, 0.5)  # inputs of matmuls in 8 bits: below 1
    assert found.parts["activations"][0] >= plain.parts["activations"][0] * activations


@pytest.mark.parametrize(
    ("options", "state", "moved"),
    [
        ((), 12, 30),
        (("layout.moment_precision=bf16",), 8, 22),
        (("layout.grad_precision=bf16",), 12, 28),
        (("layout.precision=fp32",), 8, 28),
        (("layout.master=remainder",), 10, 28),
        (("layout.master=none",), 8, 24),
        (("layout.master=bf16",), 8, 24),
    ],
)
def test_adam_moves_what_it_keeps_twice_the_gradient_and_the_weight(
    options: tuple[str, ...], state: int, moved: int
) -> None:
    plan = plan_step(small("layout.tp=1", "layout.pp=1", "layout.zero=0", *options))
    [adam] = plan.prices.optimizer
    assert isinstance(adam.cost, KernelTime)
    held = parameter_bytes(plan.model, plan.scenario.layout, plan.parallel, [0])
    assert held.optimizer == state * held.updated
    assert adam.cost.kernel.bytes == moved * held.updated


def test_a_16_bit_master_lies_with_the_optimizer_where_matmuls_read_8_bits() -> None:
    """The weight itself is then the copy that matmuls read."""
    options = ("layout.tp=1", "layout.pp=1", "layout.precision=fp8")
    plain = simulate_memory(small(*options)).parts
    found = simulate_memory(small(*options, "layout.master=bf16")).parts
    assert found["weights"][0] == plain["weights"][0] / 2
    assert found["optimizer"][0] == pytest.approx(plain["optimizer"][0] * 10 / 12)


@pytest.mark.parametrize("part", ["first_moment", "second_moment", "master", "weights", "gradients", "residual"])
def test_what_lies_in_host_memory_leaves_room(part: str) -> None:
    """Weights and gradients leave two layers behind: here the embedding or the head beside a layer."""
    options = ("layout.tp=1", "layout.pp=1", "layout.zero=0", "layout.recompute=full", "workload.model.layers=6")
    all_here, away = (simulate_memory(small(*options, f"layout.offload=[{p}]")) for p in ("", part))
    saved = {key: all_here.parts[key][0] - away.parts[key][0] for key in all_here.parts}
    parameters = all_here.parts["weights"][0] / 2
    lost = {"first_moment": 4, "second_moment": 4, "master": 4}
    if part in lost:
        assert saved.pop("optimizer") == pytest.approx(lost[part] * parameters)
    elif part == "residual":
        assert saved.pop("activations") == (6 - 2) * 2 * 1024 * 4096
    else:
        assert away.parts[part][0] == 0.0
        assert 0 < -saved.pop("buffers") < saved.pop(part)
    assert not any(saved.values())


def test_the_allocator_reserves_a_share_on_top_of_activations() -> None:
    tight, loose = (simulate_memory(small(f"software.fragmentation={share}")).parts for share in (0, 0.25))
    assert loose["activations"] == pytest.approx([1.25 * one for one in tight["activations"]])
    assert {k: v for k, v in loose.items() if k != "activations"} == {
        k: v for k, v in tight.items() if k != "activations"
    }


def test_dummy_gradients_take_one_tensor_for_each_shape_of_a_layer() -> None:
    options = ("layout.tp=1", "layout.pp=1", "software.dummy_gradients=")
    with_them, without = (simulate_memory(small(f"{options[2]}{x}", *options[:2])).parts for x in ("true", "false"))
    shapes = 4096 * (3 * 4096) + 4096 * 4096 + 4096 * (2 * 11008) + 11008 * 4096
    assert with_them["buffers"][0] - without["buffers"][0] == 2 * shapes


def test_both_gradients_are_kept_where_the_software_does() -> None:
    options = ("layout.tp=1", "layout.pp=1", "software.both_gradients=true")
    for precision, size in (("fp32", 6), ("bf16", 2)):
        parts = simulate_memory(small(*options, f"layout.grad_precision={precision}")).parts
        assert parts["gradients"][0] == parts["weights"][0] * size / 2


def test_a_split_backward_keeps_remade_norm_outputs_for_the_weight_gradients() -> None:
    """Under zb_h2 each micro batch whose weight gradients are put off holds them."""
    norms = ("layout.recompute=selective", "layout.recompute_modules=[layernorm]")
    options = ("layout.tp=1", "layout.pp=4", "workload.global_batch=64", "layout.schedule=zb_h2")
    plan = plan_step(small(*options, *norms))
    found = stage_activations(stage_operators(plan.model, plan.shard, plan.parallel))[1]
    assert found.remade == 2 * 2 * 1024 * 4096
    assert found.input_extra == 0.0
    assert found.backward_extra == found.remade


def test_deepseek_v3_fits_as_published() -> None:
    """arXiv 2412.19437, sections 3.2.3 and 3.3.3: what they recompute or keep in fewer bits, Adam's moments in bf16."""
    plain = (
        "layout.recompute=none",
        "layout.recompute_modules=null",
        "layout.compress_saved=[]",
        "layout.moment_precision=fp32",
    )
    scenario = st.load("deepseek-v3-on-2048-h800", *plain)
    assert max(fit.peak_bytes(scenario)) > fit.capacity_bytes(scenario)
    scenario = st.load("deepseek-v3-on-2048-h800")
    assert max(fit.peak_bytes(scenario)) < fit.capacity_bytes(scenario)


def test_what_a_tensor_parallel_rank_holds_whole_is_counted_whole() -> None:
    """LLaMA-3 70B has 8 key-value heads: 16 ranks hold each twice. DeepSeek-V3's compressions are on every rank."""
    fits = ("layout.pp=1", "layout.zero=0", "workload.global_batch=16")
    eight, sixteen = (
        simulate_memory(small(*fits, f"layout.tp={tp}", model="llama3-70b", layers=1)).parts["weights"][0]
        for tp in (8, 16)
    )
    keys_and_values, norms = 2 * 8 * 128 * 8192, 3 * 8192
    assert sixteen - 2 * norms == pytest.approx((eight - 2 * norms) / 2 + 2 * keys_and_values / 16)
    one, two = (
        simulate_memory(small(*fits, f"layout.tp={tp}", model="deepseek-v3", layers=1)).parts["weights"][0]
        for tp in (1, 2)
    )
    whole = 7168 * (1536 + 512 + 64) + 3 * 7168 + 1536 + 512
    assert two - 2 * whole == pytest.approx((one - 2 * whole) / 2)


@pytest.mark.parametrize("zero", [2, 3])
def test_buffers_hold_two_neighbouring_layers_the_embedding_among_them(zero: int) -> None:
    scenario = small("layout.tp=1", "layout.pp=1", f"layout.zero={zero}", model="llama3-8b")
    vocabulary = 128256 * 4096
    layer = 4096 * (4096 * 2 + 1024 * 2 + 3 * 14336) + 2 * 4096
    assert vocabulary > layer
    pair = 2 * vocabulary + 4096  # head, then the embedding of the next micro batch
    assert simulate_memory(scenario).parts["buffers"][0] == pair * (4 if zero == 2 else 6)


@pytest.mark.parametrize("prefetch", [0, 1, 2])
def test_zero_3_holds_the_layers_gathered_ahead_or_all_of_them(prefetch: int) -> None:
    options = ("layout.tp=1", "layout.pp=1", "layout.zero=3", f"layout.prefetch={prefetch}")
    embedding, layer = 32000 * 4096, 4 * 4096**2 + 3 * 4096 * 11008 + 2 * 4096
    gradients = 4 * 2 * layer
    ahead = simulate_memory(small(*options)).parts["buffers"][0] - gradients
    kept = simulate_memory(small(*options, "layout.reshard_after_forward=false")).parts["buffers"][0] - gradients
    assert ahead == 2 * layer * (prefetch + 1)
    assert kept == 2 * (4 * layer + 2 * embedding + 4096)


def test_zero_2_holds_the_gradients_of_two_buckets() -> None:
    options = ("layout.tp=1", "layout.pp=1", "layout.zero=2")
    layer = 4 * 4096**2 + 3 * 4096 * 11008 + 2 * 4096
    embedding, head = 32000 * 4096, 32000 * 4096 + 4096
    expected = {"null": 2 * layer, "1 GB": head + 3 * layer, "100 GB": 2 * (4 * layer + embedding + head)}
    for bucket, count in expected.items():
        assert simulate_memory(small(*options, f"layout.grad_bucket={bucket}")).parts["buffers"][0] == 4 * count


@pytest.mark.parametrize("zero", [1, 2, 3])
def test_each_stage_of_zero_takes_less(zero: int) -> None:
    less, more = (simulate_memory(small(f"layout.zero={z}", "layout.tp=1", "layout.pp=1")) for z in (zero, zero - 1))
    part = {1: "optimizer", 2: "gradients", 3: "weights"}[zero]
    assert less.parts[part][0] == pytest.approx(more.parts[part][0] / 16)
    assert max(less.peak_bytes) < max(more.peak_bytes)


@given(hs.lists(hs.tuples(hs.integers(0, 5), hs.integers(-100, 100)), max_size=30))
@settings(max_examples=60, deadline=None)
def test_frees_come_before_allocations_of_the_same_instant(changes: list[tuple[int, int]]) -> None:
    times_s, held = live_bytes([t for t, _ in changes], [d for _, d in changes], 1000.0)
    assert held[0] == 1000.0
    assert held[-1] == 1000.0 + sum(d for _, d in changes)
    after = {t: 1000.0 + sum(d for u, d in changes if u <= t) for t, _ in changes}
    for t, level in after.items():
        within = held[1:][times_s[1:] == t]
        assert within[-1] == level
        before = 1000.0 + sum(d for u, d in changes if u < t)
        assert within.max() <= max(level, before)


BY_HAND = {
    "full backwards": ([["F", 0, 0], ["F", 0, 1], ["B", 0, 0], ["F", 0, 2], ["B", 0, 1], ["B", 0, 2]], 23.0),
    "split backwards": ([["F", 0, 0], ["I", 0, 0], ["F", 0, 1], ["W", 0, 0], ["I", 0, 1], ["W", 0, 1]], 24.0),
    "overlapped": ([["F", 0, 0], ["X", 0, 1, 0, 0], ["B", 0, 1]], 23.0),
}


@pytest.mark.parametrize("case", BY_HAND)
def test_replay_by_hand(case: str) -> None:
    slots, peak = BY_HAND[case]
    rows = Order.from_slots(case, 3, [slots]).actions[0]
    assert replay_peak(rows, [StageActivations(10.0, 3.0, 2.0, 4.0)]) == peak


@pytest.mark.parametrize("schedule", ["interleaved_1f1b_ep_overlap", "dualpipev"])
def test_the_replay_of_overlapped_slots_is_never_below_the_timeline(schedule: str) -> None:
    scenario = small(f"layout.schedule={schedule}", "layout.vpp=2", "layout.micro_batch=1", "workload.global_batch=32")
    read, replayed = simulate_memory(scenario).peak_bytes, fit.peak_bytes(scenario)
    assert all(r <= p * (1 + 1e-12) for r, p in zip(read, replayed, strict=True))
    assert max(replayed) <= 1.05 * max(read)


@pytest.mark.parametrize("capacity", ["20 GiB", "40 GiB", "80 GiB"])
def test_the_largest_micro_batch_fits_and_the_next_does_not(capacity: str) -> None:
    scenario = small(*BIG, f"cluster.node.device.memory={capacity}")
    best = fit.largest_micro_batch(scenario)
    choices = [m for m in range(1, 17) if 16 % m == 0]
    peaks = {m: max(fit.peak_bytes(small(*BIG, f"layout.micro_batch={m}"))) for m in choices}
    room = fit.capacity_bytes(scenario)
    assert best == max((m for m in choices if peaks[m] <= room), default=0)
    assert best > 0


def test_no_micro_batch_fits_a_gpu_that_is_too_small() -> None:
    assert fit.largest_micro_batch(small("cluster.node.device.memory=2 GiB")) == 0


TIGHT = {
    "activations": (*BIG, "cluster.node.device.memory=4 GiB"),
    "states": ("cluster.node.device.memory=8 GiB", "layout.tp=1", "layout.pp=1"),
    "dp given": ("cluster.node.device.memory=3 GiB", "layout.dp=16", "layout.zero=3", *ONE_RANK),
    "split given": ("cluster.node.device.memory=8 GiB", "layout.layers_per_stage=[1, 15]", *ONE_HEAD, *LEANEST),
}
TIGHT["modules given"] = (
    *TIGHT["activations"],
    "layout.recompute=selective",
    "layout.recompute_modules=[layernorm]",
)
FORCED = {"dp given": {"layout.dp"}, "split given": {"layout.layers_per_stage"}}


@pytest.mark.parametrize("case", TIGHT)
def test_the_nearest_layout_fits_and_can_be_typed(case: str) -> None:
    scenario = small(*TIGHT[case])
    memory = simulate_memory(scenario)
    assert not memory.fits
    found = fit.nearest_fit(scenario)
    assert found is not None
    assert {change.split("=")[0] for change in found.changes} >= FORCED.get(case, set())
    typed = small(*TIGHT[case], *found.changes)
    assert typed.layout == found.layout
    assert max(simulate_memory(typed).peak_bytes) == pytest.approx(found.peak_bytes)
    assert simulate_memory(typed).fits


def test_nothing_near_fits_says_so() -> None:
    scenario = small("cluster.node.device.memory=1 GiB")
    advice = fit.fit_advice(scenario, simulate_memory(scenario))
    assert advice.nearest is None
    assert "No layout near this one fits" in advice.text()
    assert advice.document()["nearest_fit"] is None


def test_advice_names_the_rank_the_time_and_the_excess() -> None:
    scenario = small(*TIGHT["activations"])
    memory = simulate_memory(scenario)
    advice = fit.fit_advice(scenario, memory)
    assert memory.peak_bytes[advice.rank] == max(memory.peak_bytes)
    assert advice.excess_bytes == pytest.approx(max(memory.peak_bytes) - memory.capacity_bytes)
    assert advice.time_s == memory.peak_time_s[advice.rank]
    assert f"pipeline rank {advice.rank}" in advice.text()
    assert "--set layout." in advice.text()


def test_a_name_must_be_loaded_first() -> None:
    scenario = small()
    unloaded = scenario.model_copy(update={"cluster": scenario.cluster.model_copy(update={"node": "hgx-h100"})})
    with pytest.raises(st.LayoutError, match=r"cluster\.node is a name"):
        fit.capacity_bytes(unloaded)


def test_a_searched_order_gives_the_peak_of_the_step() -> None:
    layout = {"tp": 4, "pp": 4, "vpp": 2, "schedule": "zbv_auto"}
    scenario = st.load(
        {"cluster": "2x-hgx-h100", "workload": {"extends": "llama3-8b", "global_batch": 16}, "layout": layout}
    )
    simulated = st.simulate_step(scenario).memory.peak_bytes
    assert fit.peak_bytes(scenario, searched=True) == pytest.approx(simulated)
