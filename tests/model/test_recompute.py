"""Parts of layers that run again: what they keep, what they repeat and where; what is kept in fewer bits."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simtrain.model.layers import head_operators, layer_operators, recompute_places
from simtrain.model.operators import Exchange
from simtrain.scenario.layout import RecomputeModule
from tests.model.models import MODELS, A, B, H, S, exchanges, gpt, kernels, llama, mixture, mla, shard

TOKENS = S * B
MLA_MOE = mla(moe=mixture().moe)
ALL = {
    **MODELS,
    "mla mixture": MLA_MOE,
    "direct queries": mla(attention=mla().attention.model_copy(update={"q_lora_rank": None})),
}
MODULES = get_args(RecomputeModule)
DEEPSEEK = ("layernorm", "mla_up_proj", "moe_act", "mlp_act")


def again(model, *modules, **changes):
    return layer_operators(model, 0, shard(recompute="selective", recompute_modules=modules, **changes))


def repeated(ops):
    return [o.name for o in ops.backward if o.recompute]


def held(ops):
    return sum(o.saved_bytes for o in kernels(ops.backward, recompute=True))


def remade(ops):
    return sum(o.remade_bytes for o in kernels(ops.backward, recompute=True))


class TestWhatIsKept:
    """Bytes saved against nothing recomputed, in 16 bits: 2 a token and column."""

    CASES = {  # what is not kept, what is kept on top, of the former what weight gradients read
        ("llama", "core_attn"): (4 * A, 0, 0),
        ("llama", "layernorm"): (2 * 2 * H, 0, 2 * 2 * H),
        ("llama", "mlp_act"): (2 * 3072, 0, 2 * 3072),
        ("llama", "mlp"): (2 * 3 * 3072, 0, 2 * 3072),
        ("mla", "mla_up_proj"): (2 * (192 + 128 + A * (96 + 96 + 64)), 2 * 32, 2 * (192 + 128)),
        ("direct queries", "mla_up_proj"): (2 * (128 + A * (96 + 96 + 64)), 2 * 32, 2 * 128),
        ("mixture", "layernorm"): (2 * 2 * H, 0, 2 * 2 * H),
        ("mixture", "moe_act"): (2 * 2 * 512, 0, 2 * 2 * 512),
        ("mixture", "mlp_act"): (2 * 1024, 0, 2 * 1024),
        ("mixture", "shared_experts"): (2 * 3 * 1024, 0, 2 * 1024),
        ("mixture", "moe"): (2 * (2 * (H + 3 * 512) + 3 * 1024) + 4 * 8, 0, 2 * (2 * (H + 512) + 1024)),
    }

    @pytest.mark.parametrize("case", CASES, ids="-".join)
    @pytest.mark.parametrize("ep", [1, 2])
    def test_tensor_by_tensor(self, case, ep):
        name, module = case
        gone, added, weights = (TOKENS * size for size in self.CASES[case])
        plain, ops = layer_operators(ALL[name], 0, shard(ep=ep)), again(ALL[name], module, ep=ep)
        assert plain.saved_bytes - ops.saved_bytes == gone - added
        assert held(ops) == gone
        assert remade(ops) == weights

    def test_what_deepseek_v3_keeps(self):
        """Inputs of norms, latents, attention output; tokens of experts, inputs of SwiGLU, and what routes."""
        ops = again(MLA_MOE, *DEEPSEEK, precision="fp8", compress_saved=("activation_input", "attention_output"))
        byte, e5m6 = 1 + 1 / 32, 1.5 + 1 / 32
        columns = 2 * (2 * H + 192 + 128 + 32) + e5m6 * A * 64 + byte * (2 * H + 2 * 2 * 512 + 2 * 1024)
        assert ops.saved_bytes == pytest.approx(TOKENS * (columns + 4 * A + 4 * 8))

    def test_full_recomputation_remakes_the_inputs_of_all_matmuls_for_the_weight_gradients(self):
        ops = layer_operators(llama(), 0, shard(recompute="full"))
        assert remade(ops) == 2 * TOKENS * (H + H + H + 3072)
        assert ops.saved_bytes == 2 * TOKENS * H

    @given(
        name=st.sampled_from(sorted(ALL)),
        modules=st.sets(st.sampled_from(MODULES)),
        tp=st.sampled_from([1, 2]),
        sp=st.booleans(),
        cp=st.sampled_from([1, 2]),
        ep=st.sampled_from([1, 2]),
        overlap=st.booleans(),
        attention=st.sampled_from(["flash", "unfused"]),
        precision=st.sampled_from(["bf16", "mxfp8"]),
    )
    def test_nothing_is_lost_and_nothing_repeated_twice(
        self, name, modules, tp, sp, cp, ep, overlap, attention, precision
    ):
        """Kept and held add up to what was kept, but for the rotary part of keys; all else runs as before."""
        model = ALL[name]
        if "moe" in modules:  # what a layout refuses
            modules -= {"moe_act", "shared_experts", "mlp_act"}
        settings_ = shard(
            tp=tp, sp=sp, cp=cp, ep=ep, shared_expert_overlap=overlap, attention=attention, precision=precision,
            ep_overlap_wgrad=overlap, recompute_modules=tuple(modules),
        )  # fmt: skip
        plain, ops = (layer_operators(model, 0, replace(settings_, recompute=r)) for r in ("none", "selective"))
        rope = "mla_up_proj" in modules and name not in ("gpt", "llama", "mixture")
        added = 2 * 32 * (TOKENS // cp // (tp if sp else 1)) if rope else 0
        assert ops.saved_bytes + held(ops) == pytest.approx(plain.saved_bytes + added)
        assert ops.saved_bytes <= plain.saved_bytes + added
        assert 0 <= remade(ops) <= held(ops)
        twice = Counter(repeated(ops)) - Counter(o.name for o in plain.forward)
        assert not twice
        assert names(ops.forward) == names(plain.forward)
        assert names(o for o in ops.backward if not o.recompute) == names(plain.backward)


def names(operators):
    return [o.name for o in operators]


class TestWhatRunsAgain:
    @pytest.mark.parametrize("attention", ["flash", "unfused"])
    def test_the_core(self, attention):
        unfused = ["scores", "softmax", "weighted_values"]
        assert repeated(again(llama(), "core_attn", attention=attention)) == (
            ["attention"] if attention == "flash" else unfused
        )

    def test_up_projections_with_their_norms_and_exchanges(self):
        ops = again(mla(), "mla_up_proj", tp=2, sp=True)
        assert repeated(ops) == [
            *["q_norm", "q_up_all_gather", "q_up", "kv_norm", "kv_up_all_gather", "kv_up", "rotary"],
        ]

    def test_all_of_the_experts_with_their_exchanges(self):
        settings_ = {"ep": 2, "shared_expert_overlap": True}
        plain, ops = layer_operators(mixture(), 0, shard(**settings_)), again(mixture(), "moe", **settings_)
        inside = names(plain.forward)[names(plain.forward).index("router") : -1]
        assert repeated(ops) == inside
        assert len(exchanges(ops.backward, "ep")) == 4
        assert {o.part for o in ops.backward if o.recompute} == {"I"}

    def test_an_activation_of_the_experts_still_counts_as_routed(self):
        [op] = [o for o in again(mixture(), "moe_act", ep=2).backward if o.recompute]
        assert (op.name, op.routed, op.after) == ("expert_activation", True, ("combine_backward",))

    @pytest.mark.parametrize("ep", [1, 2])
    @pytest.mark.parametrize("overlap", [False, True])
    @pytest.mark.parametrize("cp", [1, 2])
    def test_each_right_before_the_first_that_reads_it(self, ep, overlap, cp):
        modules = (*DEEPSEEK, "core_attn")
        ops = again(MLA_MOE, *modules, ep=ep, cp=cp, shared_expert_overlap=overlap)
        order = [o.name if not o.recompute else f"{o.name} again" for o in ops.backward]
        readers = {
            "attention_norm again": ["kv_down_dgrad", "q_down_dgrad"],
            "mlp_norm again": ["router_dgrad", "shared_expert_up_dgrad"],
            "expert_activation again": ["expert_down_dgrad"],
            "shared_expert_activation again": ["shared_expert_down_dgrad"],
            "q_norm again": ["q_up again"],
            "rotary again": ["attention again", "attention_backward", "q_up_dgrad", "kv_up_dgrad"],
            "attention again": ["attention_backward"],
        }
        if cp > 1:
            readers["rotary again"] += ["kv_all_gather again", "kv_regather"]
        for made, names_ in readers.items():
            assert all(order.index(made) < order.index(name) for name in names_), made
        assert order.index("rotary again") > order.index("attention_output_wgrad")
        assert order.index("attention_norm again") > order.index("kv_up_dgrad")

    def test_a_norm_comes_before_the_part_that_reads_it(self):
        assert repeated(again(llama(), "mlp", "layernorm"))[:2] == ["mlp_norm", "mlp_up"]
        assert repeated(again(mixture(), "moe", "layernorm", ep=2))[:2] == ["mlp_norm", "router"]
        assert repeated(again(ALL["direct queries"], "mla_up_proj", "layernorm"))[1:3] == ["attention_norm", "q"]

    def test_exchanges_wait_for_what_is_made_again(self):
        ops = again(llama(), "layernorm", tp=2, sp=True)
        [regather] = [o for o in ops.backward if isinstance(o, Exchange) and o.name == "mlp_up_all_gather"]
        assert regather.after == ("mlp_norm",)


class TestFewerBits:
    @pytest.mark.parametrize(
        ("precision", "element"),
        [("bf16", 2), ("fp16", 2), ("fp8", 1 + 1 / 32), ("mxfp8", 1 + 1 / 32), ("nvfp4", 1 / 2 + 1 / 16)],
    )
    def test_inputs_of_matmuls(self, precision, element):
        """Norms, attention (with its output) and the activation function keep 16 bits, the router too."""
        dense, experts = (layer_operators(m, 0, shard(precision=precision)) for m in (llama(), mixture()))
        wide = 2 * (2 * H + 2 * H + 2 * 4 * 64)
        assert dense.saved_bytes == TOKENS * (wide + 2 * 2 * 3072 + 4 * A + element * (2 * H + 3072))
        routed = 2 * (H + 2 * 2 * 512 + 2 * 1024) + 4 * 8 + element * (2 * H + 2 * 512 + 1024)
        assert experts.saved_bytes == TOKENS * (wide + 4 * A + element * H + routed)

    def test_an_unfused_core_does_not_read_its_output(self):
        plain, narrow = (
            layer_operators(llama(), 0, shard(precision=p, attention="unfused")).saved_bytes for p in ("bf16", "fp8")
        )
        assert plain - narrow == TOKENS * (1 - 1 / 32) * (H + H + H + 3072)

    def test_the_output_layer_stays_in_16_bits(self):
        saved = [head_operators(llama(), shard(precision=p)).saved_bytes for p in ("bf16", "fp8")]
        assert saved[0] == saved[1]

    def test_what_may_be_compressed(self):
        def saved(*compressed):
            return layer_operators(llama(), 0, shard(compress_saved=compressed)).saved_bytes

        assert saved() - saved("activation_input") == TOKENS * 2 * 3072 * (1 - 1 / 32)
        assert saved() - saved("attention_output") == TOKENS * H * (1 / 2 - 1 / 32)

    @pytest.mark.parametrize("changes", [{}, {"tp": 2, "sp": True}, {"tp": 2, "sp": True, "tp_overlap": "chunked"}])
    def test_below_16_bits_the_same_matmuls_run_on_fewer_bytes_behind_their_casts(self, changes):
        def parts(precision):
            ops = layer_operators(llama(), 0, shard(precision=precision, **changes))
            every = (*ops.forward, *ops.backward)
            casts = [o for o in every if getattr(o, "kind", "") == "quantise"]
            return casts, [o for o in every if o not in casts]

        (none, wide), (casts, narrow) = parts("bf16"), parts("fp8")
        assert not none
        assert [(o.name, getattr(o, "flops", 0)) for o in narrow] == [(o.name, getattr(o, "flops", 0)) for o in wide]
        assert all(few.bytes <= many.bytes for few, many in zip(narrow, wide, strict=True))
        names = ("qkv", "attention_output", "mlp_up", "mlp_down")
        assert {o.name for o in casts} == {f"{name}_quantise{side}" for name in names for side in ("", "_backward")}
        cast = next(o for o in casts if o.name == "mlp_down_quantise")
        assert cast.bytes == TOKENS * 3072 / changes.get("tp", 1) * (2 + 2 * (1 + 1 / 32))

    def test_each_matmul_waits_for_its_cast(self):
        ops = layer_operators(llama(), 0, shard(precision="fp8", tp=2, sp=True))
        order = [o.name for o in ops.backward]
        assert order.index("mlp_up_quantise_backward") < order.index("mlp_up_dgrad")
        regather = next(o for o in ops.backward if o.name == "mlp_up_all_gather")
        assert "mlp_up_quantise_backward" in regather.after

    def test_matmuls_that_stay_in_16_bits_say_so(self):
        def plain(precision, operators, model, **changes):
            ops = operators(model, shard(precision=precision, **changes))
            return {o.name for o in kernels((*ops.forward, *ops.backward)) if o.plain}

        assert plain("fp8", head_operators, llama()) == {"logits", "logits_dgrad", "logits_wgrad"}
        moe = plain("fp8", lambda model, cut: layer_operators(model, 0, cut), mixture(), attention="unfused")
        assert {"router", "router_dgrad", "router_wgrad", "scores", "weighted_values"} <= moe
        assert not moe & {"qkv", "expert_up", "shared_expert_up"}


class TestStoppingEarly:
    """A whole layer that runs again only up to the last tensor that its backward reads."""

    def test_the_last_matmul_is_not_repeated(self):
        whole, stopped = (layer_operators(llama(), 0, shard(recompute="full", recompute_stops=on)) for on in (0, 1))
        assert repeated(whole)[-2:] == ["mlp_down", "mlp_residual"]
        assert repeated(stopped) == repeated(whole)[:-2]
        assert (held(whole), remade(whole)) == (held(stopped), remade(stopped))

    def test_under_tensor_parallelism_nor_its_exchange(self):
        changes = {"recompute": "full", "tp": 2, "sp": True}
        whole, stopped = (layer_operators(llama(), 0, shard(recompute_stops=on, **changes)) for on in (0, 1))
        assert len(repeated(whole)) - len(repeated(stopped)) == 3

    def test_dropout_keeps_what_only_the_end_makes(self):
        whole, stopped = (layer_operators(gpt(), 0, shard(recompute="full", recompute_stops=on)) for on in (0, 1))
        assert repeated(stopped) == repeated(whole)

    @pytest.mark.parametrize("module", sorted({name for place in recompute_places(MLA_MOE) for name in place}))
    def test_parts_of_a_layer_run_whole(self, module):
        whole, stopped = (again(MLA_MOE, module, recompute_stops=on) for on in (False, True))
        assert repeated(stopped) == repeated(whole) != []


def test_places_of_what_can_run_again(catalogue_model):
    found = recompute_places(catalogue_model("deepseek-v3"))
    assert {place[-1] for place in found if place} == set(MODULES)
    assert ("moe", "shared_experts", "mlp_act") in found
    assert ("mlp", "mlp_act") in found
    assert {name for place in recompute_places(llama()) for name in place} == {
        "core_attn",
        "layernorm",
        "mlp",
        "mlp_act",
    }
