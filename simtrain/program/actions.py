"""From priced stages to blocks: what a forward, a backward or half of one adds to a Program."""

from __future__ import annotations

from itertools import groupby

from simtrain.costs.prices import Priced, PriceList
from simtrain.costs.step import StepPrices
from simtrain.errors import UnsupportedError
from simtrain.program.blocks import Block, BlockWriter, FlowTable
from simtrain.program.program import Bucket, Phase, Stream
from simtrain.schedules.order import Action, Order, stage_rank

__all__ = ["BlockMaker", "send_streams"]


def send_streams(source: int, target: int, ranks: int) -> tuple[Stream, Stream]:
    """Send and receive stream of a transfer between pipeline ranks.

    One pair per direction around the pipeline.  Between two ranks there is no way around: 0 to 1 is next, 1 to 0 prev.
    """
    if target == source + 1 or (ranks > 2 and target == 0 and source == ranks - 1):
        return Stream.PP_SEND_NEXT, Stream.PP_RECV_PREV
    return Stream.PP_SEND_PREV, Stream.PP_RECV_NEXT


class BlockMaker:
    """Makes the block of any (action, stage, rank); equal ones are made once."""

    def __init__(self, step: StepPrices, prices: PriceList, order: Order, zero: int, host_s: float) -> None:
        self.step = step
        self.prices = prices
        self.order = order
        self.zero = zero
        self.host_s = host_s
        self.names: dict[str, int] = {}
        self.flows = FlowTable()
        self._blocks: dict[tuple[Action, int, int, int], Block] = {}

    def block(self, action: Action, stage: int, microbatch: int) -> Block:
        """The block of ``action`` on ``stage`` for a micro batch (which matters for bidirectional pipelines)."""
        rank, target = self._rank(stage, microbatch), self._target(action, stage, microbatch)
        key = (action, stage, rank, target)
        found = self._blocks.get(key)
        if found is None:
            found = self._blocks[key] = self._make(action, stage, rank, target)
        return found

    def _rank(self, stage: int, microbatch: int) -> int:
        order = self.order
        return stage_rank(order.placement, stage, order.ranks, microbatch, order.microbatches)

    def _target(self, action: Action, stage: int, microbatch: int) -> int:
        """Rank that the action's output goes to; -1 when it stays on the rank or ends here."""
        step = {Action.F: 1, Action.I: -1, Action.B: -1}.get(action, 0)
        if step == 0 or not 0 <= stage + step < self.order.stages:
            return -1
        target = self._rank(stage + step, microbatch)
        return -1 if target == self._rank(stage, microbatch) else target

    def _make(self, action: Action, stage: int, rank: int, target: int) -> Block:
        if action is Action.X:
            raise UnsupportedError("overlapped forward and backward slots (X) cannot be lowered to a training step")
        writer = BlockWriter(rank, stage, self.names, self.flows)
        parts = {Action.F: "F", Action.I: "I", Action.W: "W", Action.B: "IW"}[action]
        source = self.step.forward if action is Action.F else self.step.backward
        operators = [op for op in source[stage] if op.part in parts] or [self._nothing(parts[0])]
        host = self._host(writer) if action is Action.F and self.host_s else -1
        marks = [len(writer.rows)]
        for layer, group in groupby(operators, key=lambda op: op.layer):
            extra = self._gather(writer, stage, layer, marks) if action is not Action.W else []
            for i, op in enumerate(group):
                writer.follow(op, [*extra, host] if i == 0 else ())
            host = -1
            marks.append(writer.chain)
            if self.zero >= 2 and action in (Action.B, Action.W):
                self._reduce(writer, stage, layer)
        exit_ = self._exit(writer, action)
        if target >= 0:
            exit_ = self._send(writer, action, stage, target, exit_)
        return writer.block(exit=exit_, mark=marks[max(0, len(marks) - 3)])

    @staticmethod
    def _exit(writer: BlockWriter, action: Action) -> int:
        """The operation whose output leaves the block: for B the last one that is not a weight gradient."""
        if action is not Action.B:
            return writer.chain
        inputs = [i for i, row in enumerate(writer.rows) if row[1] == Phase.BACKWARD_INPUT]
        return max(inputs, default=writer.chain)

    @staticmethod
    def _nothing(part: str) -> Priced:
        """A stage without layers still has its place in the chain."""
        return Priced("no work", "compute", part, False, -1, 0.0, 0.0, 0.0, 0.0, 0.0, None, "norm")

    def _host(self, writer: BlockWriter) -> int:
        priced = Priced("host", "host", "F", False, -1, 0.0, self.host_s, 0.0, 0.0, 0.0, None, "host")
        return writer.add(priced, Phase.HOST, [writer.lane(Stream.HOST)], bucket=Bucket.HOST)

    def _gather(self, writer: BlockWriter, stage: int, layer: int, marks: list[int]) -> list[int]:
        """ZeRO-3: gather a layer's weights while the layer before it computes (one layer ahead)."""
        found = []
        for gather in self.step.gather[stage].get(layer, ()):
            early = len(marks) < 3
            after = [] if early else [marks[-2]]
            op = writer.add(gather, Phase.SEND, [writer.lane(Stream.DP)], after, scope=gather.stream)
            if early:
                writer.gathers.append(op)
            found.append(op)
        return found

    def _reduce(self, writer: BlockWriter, stage: int, layer: int) -> None:
        """ZeRO-2 and 3 keep only a shard of the gradients, so that each micro batch's are reduced at once."""
        for reduction in self.step.reduce[stage].get(layer, ()):
            writer.add(
                reduction, Phase.REDUCE, [writer.lane(Stream.DP)], [writer.layer_end[layer]], scope=reduction.stream
            )

    def _send(self, writer: BlockWriter, action: Action, stage: int, target: int, after: int) -> int:
        name = "send activations" if action is Action.F else "send gradients"
        priced = self.prices.send(name, writer.rank, target, self.step.send_bytes)
        send, receive = send_streams(writer.rank, target, self.order.ranks)
        return writer.add(priced, Phase.SEND, [writer.lane(send), writer.lane(receive, target)], [after])
