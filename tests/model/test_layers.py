"""What a layer runs and keeps: published activation formulas, mirrored exchanges, conserved FLOPs."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simtrain.model.counts import layer_parameters
from simtrain.model.layers import embedding_operators, head_operators, layer_operators
from simtrain.model.operators import Exchange
from simtrain.model.rules import layer_activation_bytes
from simtrain.scenario.model import GroupedQueryAttention
from tests.model.models import MODELS, A, B, H, S, exchanges, flops, gpt, kernels, llama, mixture, mla, shard


class TestSavedBytes:
    @pytest.mark.parametrize("tp", [1, 2, 8])
    @pytest.mark.parametrize("sp", [False, True])
    @pytest.mark.parametrize("recompute", ["none", "selective", "full"])
    def test_gpt_layer_equals_the_published_formula(self, tp, sp, recompute):
        ops = layer_operators(gpt(), 0, shard(tp=tp, sp=sp, recompute=recompute, attention="unfused"))
        expected = layer_activation_bytes(S, B, H, A, tp=tp, sp=sp, recompute=recompute)
        assert ops.saved_bytes == pytest.approx(expected, rel=1e-12)

    def test_the_published_terms_without_tensor_parallelism(self):
        ops = layer_operators(gpt(), 0, shard(attention="unfused"))
        assert ops.saved_bytes == S * B * H * 34 + 5 * A * S * S * B

    @pytest.mark.parametrize("tp", [1, 4])
    def test_flash_keeps_the_softmax_sums_instead_of_the_square(self, tp):
        ops = layer_operators(gpt(), 0, shard(tp=tp))
        without_square = layer_activation_bytes(S, B, H, A, tp=tp, recompute="selective")
        assert ops.saved_bytes == without_square + 4 * S * B * A / tp

    def test_flash_with_selective_recomputation_keeps_neither(self):
        ops = layer_operators(gpt(), 0, shard(recompute="selective"))
        assert ops.saved_bytes == S * B * H * 34

    def test_modern_layer_tensor_by_tensor(self):
        tokens, queries, keys, ffn = S * B, H, 4 * 64, 3072
        tensors = [
            *[H, H],  # inputs of the two norms
            *[H, H],  # inputs of the projections and of the MLP
            *[queries, keys, keys, queries],  # query, key, value, attention output
            *[2 * ffn, ffn],  # gate and up, input of down
        ]
        ops = layer_operators(llama(), 0, shard())
        assert ops.saved_bytes == 2 * tokens * sum(tensors) + 4 * tokens * A

    def test_latent_attention_tensor_by_tensor(self):
        tokens, ffn = S * B, 3072
        latents = [192, 192, 128, 128]  # before and after each norm
        core = [A * 96, A * 96, A * 64, A * 64]
        ops = layer_operators(mla(), 0, shard())
        assert ops.saved_bytes == 2 * tokens * sum([H, H, H, H, *latents, *core, 3 * ffn]) + 4 * tokens * A

    def test_experts_tensor_by_tensor(self):
        tokens, rows = S * B, S * B * 2
        dense = layer_operators(llama(ffn_hidden=1024), 0, shard()).saved_bytes
        experts = 2 * rows * (H + 3 * 512)
        ops = layer_operators(mixture(), 0, shard())
        assert ops.saved_bytes == dense + experts + 4 * tokens * 8

    def test_activations_follow_the_element_size(self):
        wide, narrow = (layer_operators(llama(), 0, shard(act_bytes=b, recompute="full")) for b in (4.0, 2.0))
        assert wide.saved_bytes == 2 * narrow.saved_bytes

    def test_context_parallelism_keeps_only_its_part(self):
        whole, part = (layer_operators(llama(), 0, shard(cp=c)).saved_bytes for c in (1, 4))
        assert part == whole / 4

    def test_recomputed_kernels_hold_what_was_not_kept(self):
        for name, model in MODELS.items():
            for attention in ("flash", "unfused"):
                plain = layer_operators(model, 0, shard(attention=attention)).saved_bytes
                for recompute in ("selective", "full"):
                    ops = layer_operators(model, 0, shard(attention=attention, recompute=recompute))
                    again = sum(o.saved_bytes for o in kernels(ops.backward, recompute=True))
                    assert ops.saved_bytes + again == pytest.approx(plain), name


class TestFlops:
    @pytest.mark.parametrize("name", MODELS)
    def test_gradient_matmuls_cost_what_forward_costs(self, name):
        ops = layer_operators(MODELS[name], 0, shard())
        for kind in ("gemm", "grouped_gemm"):
            forward = flops(ops.forward, kind=kind)
            assert flops(ops.backward, kind=kind, part="I") == forward
            assert flops(ops.backward, kind=kind, part="W") == forward

    @pytest.mark.parametrize("name", ["llama", "mla", "mixture"])
    def test_projections_cost_two_flops_per_parameter_and_token(self, name):
        model = MODELS[name]
        counts = layer_parameters(model, 0)
        ops = layer_operators(model, 0, shard())
        matmuls = flops(ops.forward, kind="gemm") + flops(ops.forward, kind="grouped_gemm")
        assert matmuls == 2 * S * B * (counts.active - counts.norms + counts.router)

    def test_flash_executes_the_lower_triangle_and_backward_two_and_a_half_times_that(self):
        ops = layer_operators(llama(), 0, shard())
        forward = flops(ops.forward, kind="attention_forward")
        assert forward == 2 * 2 * S * S * 64 * A * B / 2
        assert flops(ops.backward, kind="attention_backward") == 2.5 * forward

    def test_a_window_limits_attention(self):
        def attention(window):
            model = llama(attention=GroupedQueryAttention(heads=A, window=window))
            return flops(layer_operators(model, 0, shard()).forward, kind="attention_forward")

        assert attention(S) == attention(10 * S) == attention(None)
        assert attention(128) == 4 * A * 64 * B * (S * 128 - 128**2 / 2)

    def test_unfused_attention_executes_the_whole_square_three_times(self):
        unfused, flash = (layer_operators(llama(), 0, shard(attention=kind)) for kind in ("unfused", "flash"))
        square = flops(unfused.forward) - flops(flash.forward, kind="gemm")
        assert square == 4 * A * 64 * S * S * B
        assert flops(unfused.backward, part="I") - flops(flash.backward, kind="gemm", part="I") == 2 * square

    @given(
        name=st.sampled_from(sorted(MODELS)),
        tp=st.sampled_from([1, 2, 4]),
        cp=st.sampled_from([1, 2, 4]),
        sp=st.booleans(),
        attention=st.sampled_from(["flash", "unfused"]),
    )
    def test_ranks_share_the_flops_of_one(self, name, tp, cp, sp, attention):
        """What is cut costs a tp*cp-th; compressions and routers are whole on every rank without sequence cuts."""
        model = MODELS[name]
        one = layer_operators(model, 0, shard(attention=attention))
        cut = layer_operators(model, 0, shard(tp=tp, cp=cp, sp=sp, attention=attention))
        whole_names = {"q_down", "kv_down", "router"}
        for ops, all_ops in ((cut.forward, one.forward), (cut.backward, one.backward)):
            whole = sum(
                o.flops for o in kernels(all_ops) if o.name.removesuffix("_dgrad").removesuffix("_wgrad") in whole_names
            )
            repeated = whole if sp else whole * tp
            assert flops(ops) * tp * cp == pytest.approx(flops(all_ops) - whole + repeated)

    @pytest.mark.parametrize("name", MODELS)
    def test_shapes_agree_with_flops(self, name):
        ops = layer_operators(MODELS[name], 0, shard(tp=2, attention="unfused"))
        for kernel in kernels((*ops.forward, *ops.backward)):
            if kernel.kind in ("gemm", "grouped_gemm"):
                assert kernel.flops == pytest.approx(2 * kernel.m * kernel.n * kernel.k * kernel.groups), kernel.name


class TestExchanges:
    def test_without_sequence_parallelism(self):
        ops = layer_operators(llama(), 0, shard(tp=4))
        tensor = 2 * S * B * H
        assert exchanges(ops.forward, "tp") == [("all_reduce", tensor)] * 2
        assert exchanges(ops.backward, "tp") == [("all_reduce", tensor)] * 2

    def test_with_sequence_parallelism(self):
        ops = layer_operators(llama(), 0, shard(tp=4, sp=True))
        tensor = 2 * S * B * H
        assert exchanges(ops.forward, "tp") == [("all_gather", tensor), ("reduce_scatter", tensor)] * 2
        backward = Counter(exchanges(ops.backward, "tp"))
        assert backward == {("all_gather", tensor): 4, ("reduce_scatter", tensor): 2}
        regathers = [o for o in ops.backward if isinstance(o, Exchange) and o.part == "W"]
        assert [o.collective for o in regathers] == ["all_gather"] * 2

    def test_one_rank_exchanges_nothing(self):
        for model in MODELS.values():
            for ops in (
                layer_operators(model, 0, shard(sp=True)),
                embedding_operators(model, shard()),
                head_operators(model, shard()),
            ):
                assert not [o for o in (*ops.forward, *ops.backward) if isinstance(o, Exchange)]

    def test_context_parallelism_gathers_keys_and_values(self):
        ops = layer_operators(llama(), 0, shard(tp=2, cp=4))
        gathered = 2 * S * B * (4 // 2) * (64 + 64)
        assert exchanges(ops.forward, "cp") == [("all_gather", gathered)]
        assert exchanges(ops.backward, "cp") == [("all_gather", gathered), ("reduce_scatter", gathered)]
        names = [o.name for o in ops.backward]
        assert names.index("kv_regather") < names.index("attention_backward") < names.index("kv_reduce_scatter")

    @pytest.mark.parametrize("attention", ["flash", "unfused"])
    def test_context_parallelism_may_exchange_tokens_for_heads(self, attention):
        model, cut = llama(), shard(tp=2, cp=2, cp_comm="all_to_all", attention=attention)
        ops, gathered = (layer_operators(model, 0, each) for each in (cut, replace(cut, cp_comm="all_gather")))
        row = 2 * B * S // 2
        output, qkv = row * 8 * 64, row * (8 + 2 + 2) * 64
        assert exchanges(ops.forward, "cp") == [("all_to_all", qkv), ("all_to_all", output)]
        assert exchanges(ops.backward, "cp") == [("all_to_all", output), ("all_to_all", qkv)]
        assert flops(ops.forward) == flops(gathered.forward)
        assert flops(ops.backward) == flops(gathered.backward)
        extra = output if attention == "flash" else 0.0
        assert ops.saved_bytes == gathered.saved_bytes + extra

    @pytest.mark.parametrize("recompute", ["none", "selective", "full"])
    def test_exchanged_heads_see_every_token(self, recompute):
        ops = layer_operators(llama(), 0, shard(cp=4, cp_comm="all_to_all", recompute=recompute))
        for kernel in kernels((*ops.forward, *ops.backward)):
            if kernel.kind in ("attention_forward", "attention_backward"):
                assert (kernel.m, kernel.n, kernel.groups) == (S, S, B * A // 4)

    @pytest.mark.parametrize(("tp", "sp"), [(1, False), (4, True), (4, False)])
    def test_experts_on_other_ranks_are_reached_by_all_to_all(self, tp, sp):
        ops = layer_operators(mixture(), 0, shard(tp=tp, sp=sp, ep=4))
        sent = 2 * (S * B // (tp if sp else 1)) * 2 * H
        assert exchanges(ops.forward, "ep") == exchanges(ops.backward, "ep") == [("all_to_all", sent)] * 2
        grouped = kernels(ops.forward, kind="grouped_gemm")
        assert [(k.groups, k.n) for k in grouped] == [(2, 2 * 512), (2, H)]

    @pytest.mark.parametrize("sp", [False, True])
    def test_experts_without_expert_parallelism_are_cut_like_a_dense_mlp(self, sp):
        ops = layer_operators(mixture(), 0, shard(tp=4, sp=sp))
        assert not exchanges(ops.forward, "ep")
        assert [(k.groups, k.n) for k in kernels(ops.forward, kind="grouped_gemm")] == [(8, 2 * 512 // 4), (8, H)]
        collectives = Counter(kind for kind, _ in exchanges(ops.forward, "tp"))
        assert collectives == ({"all_gather": 3, "reduce_scatter": 3} if sp else {"all_reduce": 3})

    def test_latent_attention_gathers_latents_not_hidden(self):
        ops = layer_operators(mla(), 0, shard(tp=4, sp=True))
        gathers = [size for kind, size in exchanges(ops.forward, "tp") if kind == "all_gather"]
        assert gathers == [2 * S * B * width for width in (192, 128 + 32, H)]


class TestOrder:
    @pytest.mark.parametrize("name", MODELS)
    def test_full_recomputation_runs_the_whole_forward_first(self, name):
        settings = shard(tp=2, sp=True, cp=2, ep=2)
        plain = layer_operators(MODELS[name], 0, settings)
        full = layer_operators(MODELS[name], 0, replace(settings, recompute="full"))
        again = full.backward[: len(plain.forward)]
        assert [o.name for o in again] == [o.name for o in plain.forward]
        assert all(o.recompute and o.part == "I" for o in again)
        assert full.backward[len(plain.forward) :] == plain.backward

    def test_selective_recomputation_runs_the_core_again(self):
        flash = layer_operators(gpt(), 0, shard(recompute="selective")).backward
        assert [o.name for o in flash if o.recompute] == ["attention"]
        unfused = layer_operators(gpt(), 0, shard(recompute="selective", attention="unfused")).backward
        names = ["scores", "softmax", "attention_dropout", "weighted_values"]
        assert [o.name for o in unfused if o.recompute] == names

    def test_each_weight_gradient_follows_its_input_gradient(self):
        for model in MODELS.values():
            ops = layer_operators(model, 0, shard(tp=2, sp=True)).backward
            names = [o.name for o in ops]
            for name in names:
                if name.endswith("_wgrad"):
                    assert names.index(name.replace("_wgrad", "_dgrad")) < names.index(name)

    def test_a_dense_layer_in_full(self):
        forward = [o.name for o in layer_operators(llama(), 0, shard(tp=2, sp=True)).forward]
        assert forward == [
            *["attention_norm", "qkv_all_gather", "qkv", "rotary", "attention"],
            *["attention_output", "attention_output_reduce_scatter", "attention_residual"],
            *["mlp_norm", "mlp_up_all_gather", "mlp_up", "mlp_activation"],
            *["mlp_down", "mlp_down_reduce_scatter", "mlp_residual"],
        ]

    def test_parts(self):
        for model in MODELS.values():
            ops = layer_operators(model, 0, shard(tp=2, sp=True, recompute="selective"))
            assert {o.part for o in ops.forward} == {"F"}
            assert {o.part for o in ops.backward} == {"I", "W"}


class TestEnds:
    def test_head_keeps_norm_and_projection_inputs_and_fp32_logits(self):
        """4*s*b*h*(1 + v/h) in the output layer (Korthikanti et al. 2022, section 4.3)."""
        assert head_operators(gpt(), shard()).saved_bytes == 4 * S * B * H + 4 * S * B * 4096
        assert head_operators(gpt(), shard(tp=4, sp=True)).saved_bytes == S * B * H + S * B * 4096

    def test_logits_cost_six_flops_per_parameter_and_token(self):
        ops = head_operators(gpt(), shard())
        assert flops((*ops.forward, *ops.backward)) == 6 * S * B * H * 4096

    def test_cross_entropy_over_a_cut_vocabulary_agrees_on_three_numbers_a_token(self):
        ops = head_operators(gpt(), shard(tp=2))
        assert exchanges(ops.forward, "tp") == [("all_reduce", 4 * S * B)] * 3
        assert exchanges(ops.backward, "tp") == [("all_reduce", 2 * S * B * H)]

    def test_a_vocabulary_that_does_not_divide_is_padded(self):
        [logits] = kernels(head_operators(gpt(vocab=4099), shard(tp=4)).forward, kind="gemm")
        assert logits.n == 1025

    def test_embedding_keeps_its_dropout_mask(self):
        assert embedding_operators(gpt(), shard()).saved_bytes == S * B * H
        assert embedding_operators(gpt(), shard(tp=4, sp=True)).saved_bytes == S * B * H / 4
        assert embedding_operators(llama(), shard()).saved_bytes == 0

    @pytest.mark.parametrize(
        ("sp", "forward", "backward"), [(False, ["all_reduce"], []), (True, ["reduce_scatter"], ["all_gather"])]
    )
    def test_embedding_cut_by_vocabulary(self, sp, forward, backward):
        ops = embedding_operators(llama(), shard(tp=2, sp=sp))
        assert [kind for kind, _ in exchanges(ops.forward, "tp")] == forward
        assert [kind for kind, _ in exchanges(ops.backward, "tp")] == backward


def test_memory_traffic_of_a_matmul():
    ops = layer_operators(llama(), 0, shard(grad_bytes=4.0))
    by_name = {o.name: o for o in (*ops.forward, *ops.backward)}
    rows, k, n = S * B, H, 2 * 3072
    assert by_name["mlp_up"].bytes == by_name["mlp_up_dgrad"].bytes == 2 * (rows * k + rows * n + k * n)
    assert by_name["mlp_up_wgrad"].bytes == 2 * (rows * k + rows * n) + 2 * 4 * k * n


def test_layers_of_one_kind_are_equal(catalogue_model):
    model = catalogue_model("deepseek-v3")
    settings = shard(tp=2, sp=True, ep=8)
    assert layer_operators(model, 3, settings) == layer_operators(model, 60, settings)
    assert layer_operators(model, 0, settings) != layer_operators(model, 3, settings)


@pytest.mark.parametrize(("head", "aligned"), [(64, True), (72, True), (108, False), (225, False)])
def test_heads_of_a_multiple_of_16_bytes_are_aligned(head, aligned):
    model = gpt(attention=GroupedQueryAttention(heads=A, head_dim=head))
    ops = layer_operators(model, 0, shard(attention="unfused"))
    found = {o.name: o.aligned for o in kernels((*ops.forward, *ops.backward), kind="gemm")}
    assert {name for name, even in found.items() if not even} == (
        set() if aligned else {name for name in found if name.startswith(("scores", "weighted_values"))}
    )
