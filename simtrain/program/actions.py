"""From priced stages to blocks: what a forward, a backward, half of one, or a pair of both adds to a Program."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from simtrain.costs.prices import Priced, PriceList
from simtrain.costs.step import StepPrices
from simtrain.program.blocks import Block, BlockWriter, Half
from simtrain.program.flows import FlowTable
from simtrain.program.program import Bucket, Phase, Stream
from simtrain.scenario.layout import Layout
from simtrain.schedules.order import Action, Order, stage_rank

__all__ = ["BlockMaker", "HostTimes", "send_streams"]

_PARTS = {Action.F: "F", Action.I: "I", Action.W: "W", Action.B: "IW"}
"""Parts of the operators that an action runs; a full backward runs both of its own."""


def send_streams(source: int, target: int, ranks: int) -> tuple[Stream, Stream]:
    """Send and receive stream of a transfer between pipeline ranks.

    One pair per direction around the pipeline.  Between two ranks there is no way around: 0 to 1 is next, 1 to 0 prev.
    """
    if target == source + 1 or (ranks > 2 and target == 0 and source == ranks - 1):
        return Stream.PP_SEND_NEXT, Stream.PP_RECV_PREV
    return Stream.PP_SEND_PREV, Stream.PP_RECV_NEXT


@dataclass(frozen=True, slots=True)
class HostTimes:
    """Seconds of one host core.

    Before each micro batch, for each operator that it launches, before each layer that runs again, after each step.
    """

    micro_batch_s: float = 0.0
    operator_s: float = 0.0
    recompute_s: float = 0.0
    step_s: float = 0.0


class BlockMaker:
    """Makes the block of any slot of an order; equal ones are made once."""

    def __init__(self, step: StepPrices, prices: PriceList, order: Order, layout: Layout, host: HostTimes) -> None:
        self.step = step
        self.prices = prices
        self.order = order
        self.layout = layout
        self.host = host
        self.names: dict[str, int] = {}
        self.flows = FlowTable(prices)
        self._blocks: dict[tuple[object, ...], Block] = {}

    def block(self, slot: list[int], in_flight: Counter[int], *, ends_run: bool = True) -> Block:
        """The block of a slot (a row of :attr:`Order.actions`).

        ``in_flight`` counts the micro batches of each stage between forward and backward on the rank so far; the
        slot's own are added and taken away.  ``ends_run``: the rank's next weight gradients are of another stage.
        """
        kind, stage, microbatch = Action(slot[0]), slot[1], slot[2]
        flows = [(kind, stage, microbatch)]
        if kind is Action.X:
            flows = [(Action.F, stage, microbatch), (Action.B, slot[3], slot[4])]
        key = tuple(
            (
                *(action, s, self._rank(s, mb), self._target(action, s, mb), self._gathers(action, s, in_flight)),
                self._reduces(action, ends_run),
            )
            for action, s, mb in flows
        )
        found = self._blocks.get(key)
        if found is None:
            found = self._blocks[key] = self._make(key)
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

    def _gathers(self, action: Action, stage: int, in_flight: Counter[int]) -> bool:
        """Whether ZeRO-3 gathers the stage's weights; unless resharded they stay while a micro batch is in flight."""
        in_flight[stage] += {Action.F: 1, Action.W: 0}.get(action, -1)
        if self.layout.reshard_after_forward:
            return action is not Action.W
        return action is Action.F and in_flight[stage] == 1

    def _reduces(self, action: Action, ends_run: bool) -> bool:
        """Whether gradients are reduced right away, since only a shard of them is kept."""
        whole_run = self.layout.accumulate_runs and not ends_run
        sharded = self.layout.zero >= 2 and not self.layout.reduce_once
        return sharded and action in (Action.B, Action.W) and not whole_run

    def _make(self, flows: tuple[tuple[Action, int, int, int, bool, bool], ...]) -> Block:
        """Two flows of one block take turns, so that one computes while the other communicates."""
        halves = tuple(Half(_PARTS[action][0], stage) for action, stage, *_ in flows)
        writer = BlockWriter(flows[0][2], self.names, self.flows, halves)
        turns = [
            self._write(writer, half, action, target, gathers=gathers, reduces=reduces)
            for half, (action, _, _, target, gathers, reduces) in zip(halves, flows, strict=True)
        ]
        while turns:
            turns = [turn for turn in turns if next(turn, "over") != "over"]
        return writer.block()

    def _write(
        self, writer: BlockWriter, half: Half, action: Action, target: int, *, gathers: bool, reduces: bool
    ) -> Iterator[None]:
        """Write one flow; yields where the other flow of the block has its turn.

        That is after each exchange, and with experts on other ranks after each dispatch and combine.  The backward
        opens, so that its first combine runs beside the forward's attention, the forward's dispatch beside the
        backward of the experts, and so on: the order of Megatron-LM's ``overlap_moe_expert_parallel_comm``.
        """
        source = self.step.forward if action is Action.F else self.step.backward
        operators = [op for op in source[half.stage] if op.part in _PARTS[action]] or [_nothing(half.part)]
        host = self._host(writer, half, -1, self.host.micro_batch_s) if self.hosted(half) else -1
        turns = {"ep"} if any(op.stream == "ep" for op in operators) else {"tp", "etp", "cp"}
        waiting: list[tuple[int, int]] = []  # layers whose gradients are to be reduced, and their last operation
        if action is Action.F:
            yield
        for layer, of_layer in groupby(operators, key=lambda op: op.layer):
            group = list(of_layer)
            extra = [host, *(self._gather(writer, half, layer) if gathers else ())]
            self._reduce(writer, half, waiting)
            extra += _room(half)
            if half.part != "F" and self.host.recompute_s and any(op.recompute for op in group):
                extra.append(self._stall(writer, half, layer))
            first, last = self._launch(writer, half, layer, len(group))
            extra.append(first)
            again = False
            for op in group:
                if self.step.regather and gathers and again and not op.recompute:
                    extra += self._gather(writer, half, layer)
                again = op.recompute
                if op is group[-1]:
                    extra.append(last)
                written = writer.follow(half, op, extra)
                half.exit = written if op.part != "W" or action is Action.W else half.exit
                extra, host = [], -1
                if op.stream in turns:
                    yield
            if reduces:  # only a shard of the gradients is kept
                waiting.append((layer, half.layer_end[layer]))
            if not self.behind_gather:
                self._reduce(writer, half, waiting)
        self._reduce(writer, half, waiting)
        half.exit = half.last if half.exit < 0 else half.exit
        if target >= 0:
            half.exit = self._send(writer, half, target)

    @property
    def behind_gather(self) -> bool:
        """Whether a layer is reduced after the next gather, launched before it, that shares its stream."""
        return self.step.one_stream and bool(self.layout.prefetch)

    def _reduce(self, writer: BlockWriter, half: Half, waiting: list[tuple[int, int]]) -> None:
        """Reduce the gradients of ``waiting`` layers, which is empty then."""
        for layer, last in waiting:
            writer.reduce(self.step.reduce[half.stage].get(layer, ()), [last], half)
        waiting.clear()

    def hosted(self, half: Half) -> bool:
        """Whether host time comes first: once per micro batch and rank, before the forward of its first chunk."""
        return self.host.micro_batch_s > 0.0 and half.part == "F" and half.stage < self.order.ranks

    def _launch(self, writer: BlockWriter, half: Half, layer: int, operators: int) -> tuple[int, int]:
        """The host launches a layer's operators, ahead of the GPU where it can: the last one starts after that.

        The first one of a block waits for its own launch. Returns the calls that the first and the last wait for.
        """
        each_s, first = self.host.operator_s, -1
        if not each_s:
            return -1, -1
        if half.launch < 0:
            first = half.launch = self._host(writer, half, layer, each_s, "launches")
            operators -= 1
        return first, self._host(writer, half, layer, operators * each_s, "launches") if operators else first

    def _stall(self, writer: BlockWriter, half: Half, layer: int) -> int:
        """The host prepares a layer that runs again while the GPU, which has nothing else, waits."""
        priced = Priced("recompute", "host", "I", False, layer, 0.0, self.host.recompute_s, 0.0, 0.0, 0.0, None, "host")
        lane = [writer.lane(Stream.HOST)]
        return writer.add(priced, Phase.HOST, lane, half.ends, bucket=Bucket.HOST, half=half)

    def _host(self, writer: BlockWriter, half: Half, layer: int, seconds: float, name: str = "host") -> int:
        priced = Priced(name, "host", "F", False, layer, 0.0, seconds, 0.0, 0.0, 0.0, None, "host")
        return writer.add(priced, Phase.HOST, [writer.lane(Stream.HOST)], bucket=Bucket.HOST, half=half)

    def _gather(self, writer: BlockWriter, half: Half, layer: int) -> list[int]:
        """ZeRO-3: gather a layer's weights while the layers before it compute, as many ahead as are held."""
        found = []
        held = (self.layout.prefetch or 0) + 1
        for gather in self.step.gather[half.stage].get(layer, ()):
            ends = [*half.layer_end.values()]
            after = [ends[-held]] if len(ends) >= held else []
            stream = Stream.DP if self.step.one_stream else Stream.DP_GATHER
            op = writer.add(gather, Phase.SEND, [writer.lane(stream)], after, scope=gather.stream, half=half)
            if not after:
                half.gathers.append((writer.opening(op), held - len(ends)))
            found.append(op)
        return found

    def _send(self, writer: BlockWriter, half: Half, target: int) -> int:
        name = "send activations" if half.part == "F" else "send gradients"
        priced = self.prices.send(name, writer.rank, target, self.step.send_bytes)
        send, receive = send_streams(writer.rank, target, self.order.ranks)
        received = writer.lane(receive, target)
        sent = writer.add(priced, Phase.SEND, [writer.lane(send), received], [half.exit], half=half)
        if self.step.send_gather is None:
            return sent
        return writer.add(self.step.send_gather, Phase.SEND, [received], [sent], scope="tp", half=half)


def _room(half: Half) -> list[int]:
    """Two buckets of gradients are held: one is filled when the one before the last has been reduced."""
    return [done[-2][1] for done in half.reduced.values() if len(done) > 1]


def _nothing(part: str) -> Priced:
    """A stage without layers still has its place in the chain."""
    return Priced("no work", "compute", part, False, -1, 0.0, 0.0, 0.0, 0.0, 0.0, None, "norm")
