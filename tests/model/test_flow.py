"""Who waits for whom inside a layer, and that overlap moves work about without making or losing any."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simtrain.model.flow import START, chain, flow
from simtrain.model.layers import head_operators, layer_operators
from simtrain.model.operators import Exchange, Kernel
from tests.model.models import MODELS, exchanges, gpt, kernels, llama, mixture, shard

MODES = ("none", "backward", "chunked")


def op(name, *after):
    return Kernel(name, "gemm", 0.0, 0.0, after=after)


def waits(operators):
    """(name, what it waits for) of each operator; of nothing named: everything open."""
    return [(o.name, o.after) for o in operators]


def layer(model=None, **changes):
    return layer_operators(model or llama(), 0, shard(tp=4, **changes))


class TestNames:
    def test_start_is_what_was_open_before_the_piece(self):
        pieces = [[op("a")], [op("b", START), op("c", START), op("d", "b")]]
        assert waits(flow(pieces)) == [("a", ()), ("b", ("a",)), ("c", ("a",)), ("d", ("b",))]

    def test_start_may_stand_for_several(self):
        pieces = [[op("a")], [op("b", "a"), op("c", "a")], [op("d", START)]]
        assert waits(flow(pieces))[-1] == ("d", ("b", "c"))

    def test_a_chain_waits_for_nothing_outside(self):
        pieces = [[op("a"), op("b")], [op("c", START), op("d", START)], [op("e")]]
        found = waits(chain(pieces, ("x",)))
        assert found == [("a", ("x",)), ("b", ("a",)), ("c", ("b",)), ("d", ("b",)), ("e", ("c", "d"))]

    def test_chunks_share_a_name_and_the_last_one_is_meant(self):
        pieces = [[op("a")], [op("g", START), op("k", "g"), op("g", START), op("k", "g")], [op("z", START)]]
        assert waits(flow(pieces))[-1] == ("z", ("k",))


class TestTensorParallelOverlap:
    def test_without_overlap_nobody_names_anybody(self):
        ops = layer(sp=True, tp_overlap="none")
        assert not [o for o in (*ops.forward, *ops.backward) if o.after]

    def test_sequence_parallel_backward(self):
        after = dict(waits(layer(sp=True).backward))
        assert after["mlp_up_all_gather"] == after["mlp_up_dgrad"] == ("mlp_activation_backward",)
        assert after["mlp_up_reduce_scatter"] == ("mlp_up_dgrad",)
        assert after["mlp_up_wgrad"] == ("mlp_up_dgrad", "mlp_up_all_gather")
        assert after["mlp_norm_backward"] == after["mlp_down_all_gather"] == after["mlp_down_dgrad"] == ()

    def test_backward_without_sequence_parallelism(self):
        after = dict(waits(layer().backward))
        assert after["qkv_all_reduce"] == after["qkv_wgrad"] == ("qkv_dgrad",)

    def test_forward_waits_for_its_exchanges_unless_chunked(self):
        assert not [o for o in layer(sp=True).forward if o.after]

    def test_chunked_gather_and_matmul(self):
        ops = [o for o in layer(sp=True, tp_overlap="chunked", tp_overlap_chunks=3).forward if "mlp_up" in o.name]
        assert waits(ops) == [("mlp_up_all_gather", ("mlp_norm",)), ("mlp_up", ("mlp_up_all_gather",))] * 3
        assert [o.first for o in ops if isinstance(o, Exchange)] == [True, False, False]

    def test_chunked_matmul_and_sum(self):
        for sp, exchange in ((True, "mlp_down_reduce_scatter"), (False, "mlp_down_all_reduce")):
            ops = layer(sp=sp, tp_overlap="chunked", tp_overlap_chunks=2)
            found = [o for o in ops.forward if "mlp_down" in o.name]
            assert waits(found) == [("mlp_down", ("mlp_activation",)), (exchange, ("mlp_down",))] * 2

    def test_the_output_layer_is_not_chunked(self):
        ops = head_operators(llama(), shard(tp=4, sp=True, tp_overlap="chunked"))
        assert [o.name for o in ops.forward].count("logits") == 1

    def test_each_chunk_is_a_matmul_of_fewer_rows_that_reads_the_whole_weight(self):
        [whole] = [o for o in layer(sp=True).forward if o.name == "mlp_up"]
        parts = [o for o in layer(sp=True, tp_overlap="chunked").forward if o.name == "mlp_up"]
        weight = 2 * whole.k * whole.n
        assert [o.m for o in parts] == [whole.m // 4] * 4
        assert [o.bytes - weight for o in parts] == [(whole.bytes - weight) / 4] * 4

    def test_more_chunks_than_rows_are_as_many_as_rows(self):
        ops = layer_operators(llama(), 0, shard(sequence=8, micro_batch=1, tp=8, sp=True, tp_overlap="chunked"))
        many = layer_operators(
            llama(), 0, shard(sequence=8, micro_batch=1, tp=8, sp=True, tp_overlap="chunked", tp_overlap_chunks=100)
        )
        assert len(kernels(ops.forward, name="mlp_up")) == 4
        assert [o.m for o in kernels(many.forward, name="mlp_up")] == [1] * 8

    @given(
        name=st.sampled_from(sorted(MODELS)),
        tp=st.sampled_from([1, 2, 4]),
        sp=st.booleans(),
        ep=st.sampled_from([1, 2]),
        recompute=st.sampled_from(["none", "selective", "full"]),
        chunks=st.integers(1, 7),
        mode=st.sampled_from(MODES),
    )
    def test_overlap_neither_adds_nor_loses_work(self, name, tp, sp, ep, recompute, chunks, mode):
        """FLOPs, exchanged bytes and kept bytes by operator; chunks read weights again, all else moves the same."""
        settings = shard(tp=tp, sp=sp, ep=ep, recompute=recompute)
        plain, cut = (
            layer_operators(MODELS[name], 0, replace(settings, tp_overlap=kind, tp_overlap_chunks=chunks))
            for kind in ("none", mode)
        )
        assert cut.saved_bytes == plain.saved_bytes
        for ops, reference in ((cut.forward, plain.forward), (cut.backward, plain.backward)):
            found, expected = totals(ops), totals(reference)
            assert found.keys() == expected.keys()
            for key, (flops, moved, kept) in expected.items():
                assert found[key][0] == pytest.approx(flops)
                assert found[key][2] == kept
                if mode != "chunked" or key[-1] is Exchange:
                    assert found[key][1] == pytest.approx(moved)
                else:
                    assert found[key][1] >= moved * (1 - 1e-12)


def totals(operators):
    """FLOPs, bytes moved and bytes kept of each operator, its chunks together."""
    found = {}
    for o in operators:
        key = (o.name, o.part, o.recompute, type(o))
        flops, moved, kept = found.get(key, (0.0, 0.0, 0.0))
        work = (o.flops, o.saved_bytes) if isinstance(o, Kernel) else (0.0, 0.0)
        found[key] = (flops + work[0], moved + o.bytes, kept + work[1])
    return found


class TestSharedExperts:
    def test_they_run_while_tokens_are_on_their_way(self):
        ops = layer_operators(mixture(), 0, shard(ep=4))
        after = dict(waits(ops.forward))
        assert after["shared_expert_up"] == ("top_k",)
        assert after["expert_up"] == ("dispatch",)
        assert after["combine"] == ("expert_down",)
        assert after["dispatch"] == after["unpermute"] == ()
        order = [o.name for o in ops.forward]
        assert order.index("dispatch") < order.index("shared_expert_up") < order.index("expert_up")

    def test_their_backward_runs_while_gradients_are_on_their_way_back(self):
        ops = layer_operators(mixture(), 0, shard(ep=4))
        after = dict(waits(ops.backward))
        assert after["dispatch_backward"] == ("expert_up_dgrad", "expert_up_wgrad")
        assert after["shared_expert_down_dgrad"] == ("mlp_residual_backward",)
        assert after["permute_backward"] == ()

    def test_their_tensor_parallel_exchanges_wait_for_no_expert(self):
        ops = layer_operators(mixture(), 0, shard(tp=4, sp=True, ep=4))
        after = dict(waits(ops.forward))
        assert after["shared_expert_up_all_gather"] == ("top_k",)
        assert after["shared_expert_up"] == ("shared_expert_up_all_gather",)
        assert after["shared_expert_down_reduce_scatter"] == ("shared_expert_down",)

    @pytest.mark.parametrize("changes", [{"ep": 1}, {"ep": 4, "shared_expert_overlap": False}])
    def test_otherwise_they_come_last(self, changes):
        ops = layer_operators(mixture(), 0, shard(**changes))
        order = [o.name for o in ops.forward]
        assert order.index("unpermute") < order.index("shared_expert_up")
        assert dict(waits(ops.forward))["shared_expert_up"] == ()

    def test_overlap_changes_no_work(self):
        for tp, sp in ((1, False), (4, True)):
            with_, without = (
                layer_operators(mixture(), 0, shard(tp=tp, sp=sp, ep=4, shared_expert_overlap=on))
                for on in (True, False)
            )
            assert totals(with_.forward) == totals(without.forward)
            assert totals(with_.backward) == totals(without.backward)


def test_gradients_of_tokens_need_not_wait_for_those_of_weights():
    plain, early = (layer_operators(mixture(), 0, shard(ep=4, ep_overlap_wgrad=on)) for on in (False, True))
    assert totals(plain.backward) == totals(early.backward)
    assert plain.forward == early.forward
    assert dict(waits(early.backward))["dispatch_backward"] == ("expert_up_dgrad",)
    names = [o.name for o in early.backward if o.name.startswith("expert_")]
    assert names == [
        *("expert_down_dgrad", "expert_activation_backward", "expert_up_dgrad"),
        *("expert_down_wgrad", "expert_up_wgrad"),
    ]


def test_dense_layers_have_no_expert_traffic():
    assert not exchanges(layer_operators(gpt(), 0, shard(ep=4)).forward, "ep")
