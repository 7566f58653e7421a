"""Bytes of dispatch and combine, and what they say about routing."""

import pytest

from simtrain.model.layers import layer_operators
from simtrain.model.operators import Exchange
from simtrain.model.routing import Routing
from tests.model.models import B, H, S, llama, mixture, shard

ROWS = S * B * 2


def sent(model=None, **changes):
    ops = layer_operators(model or mixture(), 0, shard(ep=4, **changes))
    return {o.name: o for o in (*ops.forward, *ops.backward) if isinstance(o, Exchange)}


@pytest.mark.parametrize("dispatcher", ["alltoall", "deepep"])
@pytest.mark.parametrize(
    ("precision", "act_bytes", "token", "gradient"),
    [
        ("bf16", 2, 2 * H, 2 * H),
        ("fp16", 2, 2 * H, 2 * H),
        ("fp32", 4, 4 * H, 4 * H),
        ("fp8", 2, H + 4 * H / 128, H + 4 * H / 128),
        ("mxfp8", 2, H + H / 32, H + H / 32),
        ("nvfp4", 2, H / 2 + H / 16, 2 * H),
    ],
)
def test_bytes_by_precision(dispatcher, precision, act_bytes, token, gradient):
    found = sent(dispatcher=dispatcher, precision=precision, act_bytes=float(act_bytes))
    assert {name: o.bytes / ROWS for name, o in found.items()} == {
        "dispatch": token,
        "combine": act_bytes * H,
        "combine_backward": gradient,
        "dispatch_backward": act_bytes * H,
    }


def test_a_token_of_deepseek_v3(catalogue_model):
    """7168 values and a scale for each 128: 7168 + 224 bytes a row, 8 rows a token."""
    ops = layer_operators(catalogue_model("deepseek-v3"), 3, shard(ep=64, precision="fp8", dispatcher="deepep"))
    [dispatch] = [o for o in ops.forward if o.name == "dispatch"]
    assert dispatch.bytes == S * B * 8 * (7168 + 224)
    assert dispatch.routing == Routing(experts=256, top_k=8, max_nodes=4)


def test_the_all_to_all_knows_no_routing():
    found = sent(dispatcher="alltoall")
    assert {o.collective for o in found.values()} == {"all_to_all"}
    assert {o.routing for o in found.values()} == {None}


def test_a_gradient_of_an_output_is_dispatched_and_that_of_a_token_combined():
    found = sent(dispatcher="deepep")
    assert {name: o.collective for name, o in found.items()} == {
        "dispatch": "dispatch",
        "combine": "combine",
        "combine_backward": "dispatch",
        "dispatch_backward": "combine",
    }
    assert {o.routing for o in found.values()} == {Routing(experts=8, top_k=2)}


def test_one_rank_dispatches_nothing():
    for model in (mixture(), llama()):
        ops = layer_operators(model, 0, shard(dispatcher="deepep"))
        assert not [o for o in (*ops.forward, *ops.backward) if isinstance(o, Exchange)]
