"""Logits and loss: bytes kept and needed by what software makes of them."""

from __future__ import annotations

import pytest

from simtrain.costs.memory import HEAD, stage_activations
from simtrain.model.layers import head_operators
from simtrain.model.operators import Exchange, LayerOperators, Shard
from tests.model.models import llama

LOGITS = 2 * 4096 * 32000
"""Of one micro batch."""


def _shard(**keys: object) -> Shard:
    return Shard(micro_batch=2, sequence=4096, **keys)  # type: ignore[arg-type]


def _peaks(shard: Shard) -> tuple[float, float]:
    """At the loss forward and backward, the hidden states left out."""
    head = head_operators(llama(vocab=32000), shard)
    [found] = stage_activations([[(HEAD, head)]])
    hidden = sum(op.saved_bytes for op in head.forward if op.name in ("final_norm", "logits"))
    return found.saved - hidden + found.forward_extra, found.saved - hidden + found.backward_extra


@pytest.mark.parametrize(("loss", "forward", "backward"), [("in_place", 2, 2), ("fused", 6, 6), ("eager", 10, 14)])
def test_bytes_of_a_logit_at_the_loss(loss: str, forward: int, backward: int) -> None:
    assert _peaks(_shard(loss=loss)) == (forward * LOGITS, backward * LOGITS)


@pytest.mark.parametrize("loss", ["in_place", "fused", "eager"])
def test_pieces_and_tensor_parallel_ranks_divide_them_and_gathering_does_not(loss: str) -> None:
    whole = _peaks(_shard(loss=loss))
    assert _peaks(_shard(loss=loss, head_chunks=4)) == tuple(size / 4 for size in whole)
    assert _peaks(_shard(loss=loss, tp=4)) == tuple(size / 4 for size in whole)
    assert _peaks(_shard(loss=loss, tp=4, logits="gathered")) == whole


def test_gathered_logits_travel_once_and_need_no_agreement() -> None:
    head = head_operators(llama(vocab=32000), _shard(tp=4, logits="gathered"))
    assert _exchanges(head) == {"logits_all_gather": 2 * LOGITS}
    assert len(_exchanges(head_operators(llama(vocab=32000), _shard(tp=4)))) == 3


def _exchanges(head: LayerOperators) -> dict[str, float]:
    return {op.name: op.bytes for op in head.forward if isinstance(op, Exchange)}


def test_a_dummy_gradient_counts_once_it_is_more_than_the_loss_needed() -> None:
    """A long micro batch needs most at its loss, a short one at the gradient of the weight."""
    for sequence, grows in ((16384, False), (512, True)):
        shards = (Shard(1, sequence, dummy_gradients=dummy) for dummy in (False, True))
        without, with_it = (_peaks(shard)[1] for shard in shards)
        assert (with_it > without) == grows
