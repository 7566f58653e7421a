"""Lowering: an Order and priced work become a Program in which symmetric ranks are folded.

Only one rank per pipeline rank is simulated: the members of its tensor, context, expert and data parallel
groups run the same operations at the same times.  :func:`simtrain.program.unfold.unfold` writes them all out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simtrain.costs.prices import Priced, PriceList
from simtrain.costs.step import StepPrices
from simtrain.layout.parallel import Parallel
from simtrain.program.actions import BlockMaker, HostTimes
from simtrain.program.blocks import Block, BlockWriter, Half
from simtrain.program.builder import fifos
from simtrain.program.flows import FlowTable
from simtrain.program.program import STREAMS, Bucket, Phase, Program, Stream
from simtrain.scenario.layout import Layout
from simtrain.schedules.order import Action, Order

__all__ = ["Lowered", "lower"]

Ints = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Lowered:
    """A folded Program and where its actions are.

    Attributes:
        program: one simulated rank per pipeline rank.
        scope: (n,) index into :data:`simtrain.program.blocks.SCOPES`.
        actions: (actions, 6) rank, kind, stage, micro batch, first and last compute operation.
        routed: (n,) place of a kernel in ``flows.routed`` where ranks may have more or less to do, else -1.
        flows: what the sets of ``program.flow`` are, before links on which nobody can wait were left out.
    """

    program: Program
    scope: Ints
    actions: Ints
    routed: Ints
    flows: FlowTable


def lower(
    order: Order,
    step: StepPrices,
    prices: PriceList,
    layout: Layout,
    parallel: Parallel,
    host: HostTimes | None = None,
) -> Lowered:
    """Lower ``order`` with ``step``'s prices to a folded Program; without ``host`` nothing waits for launches.

    An overlapped slot (X) becomes a forward and a backward that take turns on the compute stream.
    """
    return _Lowering(order, step, prices, layout, parallel, host or HostTimes()).lowered()


@dataclass(slots=True)
class _Past:
    """What one rank has run so far.

    Attributes:
        block, base: the last block and its first operation; None at the start.
        layers: last operation of every layer that used weights.
        reduced: by axis, the reduction of every bucket of gradients.
        in_flight: micro batches between forward and backward, by stage.
    """

    block: Block | None = None
    base: int = 0
    layers: list[int] = field(default_factory=list)
    reduced: dict[str, list[int]] = field(default_factory=dict)
    in_flight: Counter[int] = field(default_factory=Counter)

    def add(self, block: Block, base: int) -> None:
        """Append a block."""
        self.block, self.base = block, base
        self.layers += sorted(
            base + end for half in block.halves if half.part != "W" for end in half.layer_end.values()
        )
        for half in block.halves:
            for axis, done in half.reduced.items():
                self.reduced.setdefault(axis, []).extend(base + op for _, op in done)


class _Lowering:
    def __init__(
        self, order: Order, step: StepPrices, prices: PriceList, layout: Layout, parallel: Parallel, host: HostTimes
    ) -> None:
        self.order = order
        self.step = step
        self.prices = prices
        self.layout = layout
        self.parallel = parallel
        self.maker = BlockMaker(step, prices, order, layout, host)
        self.pieces: list[tuple[Block, int, tuple[int, ...]]] = []  # block, first operation, micro batch of each half
        self.size = 0
        self.ops: list[int] = []
        self.deps: list[int] = []
        self.at: dict[tuple[str, int, int], tuple[Half, int]] = {}
        self.actions: list[list[tuple[int, ...]]] = [[] for _ in range(order.ranks)]  # see Lowered.actions

    def lowered(self) -> Lowered:
        for rank in range(self.order.ranks):
            self._place_rank(rank)
        self._link_stages()
        self._finish_step()
        actions = np.array([row for rows in self.actions for row in rows], dtype=np.int32)
        return Lowered(self._program(), self._column("scope"), actions, self._column("routed"), self.maker.flows)

    def _place(self, block: Block, microbatches: tuple[int, ...] = (-1,)) -> int:
        base = self.size
        self.pieces.append((block, base, microbatches))
        self.size += block.size
        return base

    def _wait(self, op: int, dep: int) -> None:
        self.ops.append(op)
        self.deps.append(dep)

    def _place_rank(self, rank: int) -> None:
        past = _Past()
        slots = self.order.actions[rank].tolist()
        for slot, ends_run in zip(slots, _ends_of_runs(slots), strict=True):
            block = self.maker.block(slot, past.in_flight, ends_run=ends_run)
            microbatches = (slot[2], slot[4])[: len(block.halves)]
            base = self._place(block, microbatches)
            for half, microbatch in zip(block.halves, microbatches, strict=True):
                self.at[half.part, half.stage, microbatch] = half, base
                kind = Action(slot[0]) if len(block.halves) == 1 else Action.F if half.part == "F" else Action.B
                row = (rank, kind, half.stage, microbatch, base + half.entry, base + half.last)
                self.actions[rank].append(row)
            self._follow(past, block, base)
            past.add(block, base)
        self._reduce_gradients(rank)
        if self._gathers_ahead:
            self._gather_parameters(rank)

    def _follow(self, past: _Past, block: Block, base: int) -> None:
        """What a block waits for on its own rank, beyond the order of its lanes."""
        for half in block.halves:
            for gather, back in half.gathers:
                if back <= len(past.layers):
                    self._wait(base + gather, past.layers[-back])
            for axis in half.reduced:  # the second last reduction and the last, as inside a block
                for back, begin in zip((2, 1), half.begins(axis), strict=False):
                    if back <= len(past.reduced.get(axis, ())):
                        self._wait(base + begin, past.reduced[axis][-back])
            for done in past.block.halves if past.block else ():
                self._wait(base + half.entry, past.base + done.last)
                if self.layout.blocking_sends:
                    self._wait(base + half.entry, past.base + done.exit)
                    if half.launch >= 0 and self.order.ranks > 1:  # the host waits for the send too
                        self._wait(base + half.launch, past.base + done.exit)
            if past.block and self.maker.hosted(half):
                self._wait(base, past.base + past.block.halves[-1].last)

    def _link_stages(self) -> None:
        """Dependencies between stages, and from a micro batch's forward to its backward."""
        for (part, stage, microbatch), (half, base) in self.at.items():
            upstream = {"F": ("F", stage - 1), "I": ("I", stage + 1), "W": ("I", stage)}[part]
            source = self.at.get((*upstream, microbatch))
            if source is not None:
                output = source[0].last if part == "W" else source[0].exit
                self._wait(base + half.entry, source[1] + output)
                if self.layout.blocking_sends and half.launch >= 0 and part != "W":
                    self._wait(base + half.launch, source[1] + output)
            if part == "I":
                forward, forward_base = self.at["F", stage, microbatch]
                self._wait(base + half.entry, forward_base + forward.last)

    def _reduce_gradients(self, rank: int) -> None:
        """Gradient reduction of every bucket after its last backward on this rank."""
        if self.layout.zero >= 2 and not self.layout.reduce_once:
            return
        writer = BlockWriter(rank, self.maker.names, self.maker.flows)
        waits: list[tuple[int, int]] = []
        for half, base in self._last_backwards(rank):
            for layer, end in half.layer_end.items():
                due = base + end if self.layout.overlap_grad_reduce else self._last_compute(rank)
                found = writer.reduce(self.step.reduce[half.stage].get(layer, ()))
                waits += [(writer.opening(op), due) for op in found]
        if writer.rows:
            base = self._place(writer.block())
            for op, dep in waits:
                self._wait(base + op, dep)

    @property
    def _gathers_ahead(self) -> bool:
        return bool(self.layout.overlap_param_gather)

    def _gather_parameters(self, rank: int) -> None:
        """The step begins with gathering the weights that the optimizer of the step before updated."""
        writer = BlockWriter(rank, self.maker.names, self.maker.flows)
        waits = [
            (op, writer.add(gather, Phase.SEND, [writer.lane(Stream.DP_GATHER)], scope=gather.stream))
            for op, gather in self._parameter_gathers(rank)
        ]
        if waits:
            base = self._place(writer.block())
            for op, gathered in waits:
                self._wait(op, base + gathered)

    def _parameter_gathers(self, rank: int) -> Iterator[tuple[int, Priced]]:
        """Gathers of a rank's weights, in the order of its first forwards, and the operation that needs each."""
        stages = dict.fromkeys(stage for _, kind, stage, *_ in self.actions[rank] if kind == Action.F)
        for stage in stages:
            microbatch = next(row[3] for row in self.actions[rank] if row[1:3] == (Action.F, stage))
            half, base = self.at["F", stage, microbatch]
            for layer, op in half.layer_start.items():
                for gather in self.step.parameter_gather[stage].get(layer, ()):
                    yield base + op, gather

    def _last_compute(self, rank: int) -> int:
        """The last layer operation on a rank."""
        return max(row[5] for row in self.actions[rank])

    def _last_backwards(self, rank: int) -> list[tuple[Half, int]]:
        """Per stage of a rank, what completes its weight gradients, in the order they are complete."""
        last: dict[int, tuple[Half, int]] = {}
        for _, kind, stage, microbatch, _, _ in self.actions[rank]:
            if kind in (Action.W, Action.B):
                last.pop(stage, None)
                last[stage] = self.at["W" if kind == Action.W else "I", stage, microbatch]
        return list(last.values())

    def _finish_step(self) -> None:
        """Sums between pipeline ranks, gradient norm, optimizer and parameter gather, after everything else."""
        ranks = list(range(self.order.ranks))
        writer = BlockWriter(0, self.maker.names, self.maker.flows)
        sums = [(reduction, [rank, ranks[-1 - rank]]) for rank, reduction in enumerate(self.step.mirror)]
        sums += [(self.step.tied, [0, ranks[-1]])] if self.step.tied else []
        waits = []
        for reduction, members in [*sums, (self.step.grad_norm, ranks)]:
            lanes = [writer.lane(Stream.DP, rank) for rank in members]
            op = writer.add(reduction, Phase.REDUCE, lanes, scope="all" if members is ranks else "local")
            waits += [(writer.opening(op), self._last_compute(rank)) for rank in members]
        if self.parallel.shard_group:
            last = [self._last_on(writer.lane(Stream.DP_REPLICATE, rank)) for rank in ranks]
            waits += [(writer.opening(op), before) for before in last]
        for rank in ranks:
            done = self._update(writer, rank, [op, *self._between_steps(writer, rank, op)])
            for _, gather in () if self._gathers_ahead else self._parameter_gathers(rank):
                lanes = [writer.lane(Stream.DP_GATHER, rank)]
                writer.add(gather, Phase.OPTIMIZER, lanes, [done], scope=gather.stream)
        base = self._place(writer.block())
        for op, dep in waits:
            if dep >= 0:
                self._wait(base + op, dep)

    def _between_steps(self, writer: BlockWriter, rank: int, after: int) -> list[int]:
        """What the host does while the GPU waits: it reads the gradient norm, and then drives the optimizer."""
        seconds = self.maker.host.step_s
        if not seconds:
            return []
        priced = Priced("between steps", "host", "O", False, -1, 0.0, seconds, 0.0, 0.0, 0.0, None, "host")
        return [writer.add(priced, Phase.HOST, [writer.lane(Stream.HOST, rank)], [after], bucket=Bucket.HOST)]

    def _update(self, writer: BlockWriter, rank: int, after: list[int]) -> int:
        """The optimizer of a rank; returns the operation after which its weights are new.

        State in host memory comes and goes in pieces, two of which a GPU holds.
        """
        lanes = [[writer.lane(stream, rank)] for stream in (Stream.COMPUTE, Stream.COPY_IN, Stream.COPY_OUT)]
        if not self.step.offloaded:
            return writer.add(self.step.optimizer[rank], Phase.OPTIMIZER, lanes[0], after, bucket=Bucket.OPTIMIZER)
        found, done, backs = self.step.offloaded[rank], -1, [-1, -1]
        for _ in range(found.pieces):
            fetched = writer.add(found.fetch, Phase.OPTIMIZER, lanes[1], [*after, backs[-2]])
            done = writer.add(found.update, Phase.OPTIMIZER, lanes[0], [fetched], bucket=Bucket.OPTIMIZER)
            backs.append(writer.add(found.back, Phase.OPTIMIZER, lanes[2], [done]))
        return done

    def _last_on(self, lane: int) -> int:
        """The last operation placed on a lane, -1 when there is none."""
        for block, base, _ in reversed(self.pieces):
            at = np.flatnonzero(block.lanes == lane)
            if at.size:
                return base + int(np.searchsorted(block.lane_ptr, at[-1], side="right")) - 1
        return -1

    def _column(self, key: str) -> NDArray[Any]:
        return np.concatenate([block.columns[key] for block, _, _ in self.pieces])

    def _program(self) -> Program:
        pieces = self.pieces
        lanes = np.concatenate([block.lanes for block, _, _ in pieces])
        widths = np.concatenate([np.diff(block.lane_ptr) for block, _, _ in pieces])
        op_ptr = np.concatenate([[0], np.cumsum(widths)]).astype(np.int32)
        fifo_ptr, fifo = fifos(op_ptr, lanes, self.order.ranks * STREAMS)
        dep_ptr, dep = self._dependencies()
        flow = self._column("flow")
        sets = self.maker.flows.contended(self.maker.flows.sets(), flow, lanes[op_ptr[:-1]])
        sharing = self.maker.flows.sharing
        keys = ("name", "phase", "bucket", "stage", "layer", "latency_s", "work_s", "useful_s", "bytes", "grid")
        return Program(
            ranks=self.order.ranks,
            multiplicity=np.full(self.order.ranks, self.parallel.replicas, dtype=np.int32),
            stage_of_rank=np.arange(self.order.ranks, dtype=np.int32),
            names=tuple(self.maker.names),
            microbatch=self._microbatches(),
            **{key: self._column(key) for key in keys},
            op_ptr=op_ptr,
            lanes=lanes,
            fifo_ptr=fifo_ptr,
            fifo=fifo,
            dep_ptr=dep_ptr,
            dep=dep,
            lag_s=np.zeros(len(dep)),
            flow=flow,
            flow_ptr=sets.ptr,
            flow_edge=sets.edge,
            flow_use=sets.use,
            flow_weight=sets.weight,
            sms=self._column("sms") / sharing.sm_count,
            sharing=sharing,
            pace=self.prices.pace,
        )

    def _microbatches(self) -> Ints:
        own = [np.array(mbs, dtype=np.int32)[block.columns["half"]] for block, _, mbs in self.pieces]
        return np.concatenate(own)

    def _dependencies(self) -> tuple[Ints, Ints]:
        op = np.concatenate([block.op + base for block, base, _ in self.pieces] + [np.array(self.ops, dtype=np.int64)])
        dep = np.concatenate(
            [block.dep + base for block, base, _ in self.pieces] + [np.array(self.deps, dtype=np.int64)]
        )
        order = np.argsort(op, kind="stable")
        counts = np.bincount(op, minlength=self.size)
        return np.concatenate([[0], np.cumsum(counts)]).astype(np.int32), dep[order].astype(np.int32)


def _ends_of_runs(slots: Sequence[Sequence[int]]) -> list[bool]:
    """Of each slot of a rank, whether the next weight gradients after it are of another stage than its own."""
    found, coming = [], -1
    for kind, stage, _, other, *_ in reversed(slots):
        own = {Action.B: stage, Action.W: stage, Action.X: other}.get(Action(kind))
        found.append(own != coming)
        coming = coming if own is None else own
    return found[::-1]
