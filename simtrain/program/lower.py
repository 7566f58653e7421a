"""Lowering: an Order and priced work become a Program in which symmetric ranks are folded.

Only one rank per pipeline rank is simulated: the members of its tensor, context, expert and data parallel
groups run the same operations at the same times.  :func:`simtrain.program.unfold.unfold` writes them all out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simtrain.costs.prices import Priced, PriceList
from simtrain.costs.step import StepPrices
from simtrain.layout.parallel import Parallel
from simtrain.program.actions import BlockMaker
from simtrain.program.blocks import Block, BlockWriter
from simtrain.program.builder import fifos
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
        exchanges: one priced exchange per set of flows, in the order of ``program.flow``.
    """

    program: Program
    scope: Ints
    actions: Ints
    exchanges: tuple[Priced, ...]


def lower(
    order: Order, step: StepPrices, prices: PriceList, layout: Layout, parallel: Parallel, host_s: float = 0.0
) -> Lowered:
    """Lower ``order`` with ``step``'s prices to a folded Program.

    Raises:
        UnsupportedError: the order has overlapped slots (X).
    """
    return _Lowering(order, step, prices, layout, parallel, host_s).lowered()


class _Lowering:
    def __init__(
        self, order: Order, step: StepPrices, prices: PriceList, layout: Layout, parallel: Parallel, host_s: float
    ) -> None:
        self.order = order
        self.step = step
        self.prices = prices
        self.layout = layout
        self.parallel = parallel
        self.maker = BlockMaker(step, prices, order, layout.zero, host_s)
        self.pieces: list[tuple[Block, int, int]] = []  # block, first operation, micro batch
        self.size = 0
        self.ops: list[int] = []
        self.deps: list[int] = []
        self.at: dict[tuple[str, int, int], tuple[Block, int]] = {}
        self.actions: list[tuple[int, ...]] = []

    def lowered(self) -> Lowered:
        for rank in range(self.order.ranks):
            self._place_rank(rank)
        self._link_stages()
        self._finish_step()
        actions = np.array(self.actions, dtype=np.int32)
        return Lowered(self._program(), self._column("scope"), actions, tuple(self.maker.flows.prices))

    def _place(self, block: Block, microbatch: int) -> int:
        base = self.size
        self.pieces.append((block, base, microbatch))
        self.size += block.size
        return base

    def _wait(self, op: int, dep: int) -> None:
        self.ops.append(op)
        self.deps.append(dep)

    def _place_rank(self, rank: int) -> None:
        previous: tuple[Block, int] | None = None
        for row in self.order.actions[rank].tolist():
            kind, stage, microbatch = Action(row[0]), row[1], row[2]
            block = self.maker.block(kind, stage, microbatch)
            base = self._place(block, microbatch)
            self.at[("F" if kind is Action.F else "W" if kind is Action.W else "I", stage, microbatch)] = block, base
            self.actions.append((rank, kind, stage, microbatch, base + block.entry, base + block.last))
            if previous is not None:
                self._follow(previous, block, base, kind)
            previous = block, base
        self._reduce_and_update(rank)

    def _follow(self, previous: tuple[Block, int], block: Block, base: int, kind: Action) -> None:
        """What an action waits for on its own rank, beyond the order of its lanes."""
        before, before_base = previous
        for gather in block.gathers:
            self._wait(base + gather, before_base + before.mark)
        if self.layout.blocking_sends:
            self._wait(base + block.entry, before_base + before.exit)
        if kind is Action.F and self.maker.host_s:
            self._wait(base, before_base + before.last)

    def _link_stages(self) -> None:
        """Dependencies between stages, and from a micro batch's forward to its backward."""
        for (part, stage, microbatch), (block, base) in self.at.items():
            upstream = {"F": ("F", stage - 1), "I": ("I", stage + 1), "W": ("I", stage)}[part]
            source = self.at.get((*upstream, microbatch))
            if source is not None:
                self._wait(base + block.entry, source[1] + source[0].exit)
            if part == "I":
                forward, forward_base = self.at[("F", stage, microbatch)]
                self._wait(base + block.entry, forward_base + forward.last)

    def _reduce_and_update(self, rank: int) -> None:
        """Gradient reduction of every layer after its last backward on this rank."""
        writer = BlockWriter(rank, -1, self.maker.names, self.maker.flows)
        waits: list[tuple[int, int]] = []
        for stage, block, base in self._last_backwards(rank):
            for layer, end in block.layer_end.items():
                for reduction in () if self.layout.zero >= 2 else self.step.reduce[stage].get(layer, ()):
                    op = writer.add(reduction, Phase.REDUCE, [writer.lane(Stream.DP)], scope=reduction.stream)
                    waits.append((op, base + end if self.layout.overlap_grad_reduce else -1))
        if not writer.rows:
            return
        last = self.actions[-1][5]
        base = self._place(writer.block(), -1)
        for op, dep in waits:
            self._wait(base + op, dep if dep >= 0 else last)

    def _last_backwards(self, rank: int) -> list[tuple[int, Block, int]]:
        """Per stage of a rank, the block whose end completes its weight gradients, in the order they end."""
        last: dict[int, tuple[Block, int]] = {}
        for row in self.order.actions[rank].tolist():
            kind, stage, microbatch = Action(row[0]), row[1], row[2]
            if kind in (Action.W, Action.B):
                last.pop(stage, None)
                last[stage] = self.at[("W" if kind is Action.W else "I", stage, microbatch)]
        return [(stage, block, base) for stage, (block, base) in last.items()]

    def _finish_step(self) -> None:
        """Tied embeddings, gradient norm, optimizer and parameter gather, after everything else."""
        ranks = range(self.order.ranks)
        writer = BlockWriter(0, -1, self.maker.names, self.maker.flows)
        every = [writer.lane(Stream.DP, rank) for rank in ranks]
        ends = [max(op[5] for op in self.actions if op[0] == rank) for rank in ranks]
        tied = None
        if self.step.tied is not None:
            tied = writer.add(self.step.tied, Phase.REDUCE, [every[0], every[-1]])
        norm = writer.add(self.step.grad_norm, Phase.REDUCE, every, scope="all")
        for rank in ranks:
            update = self.step.optimizer[rank]
            lane = writer.lane(Stream.COMPUTE, rank)
            op = writer.add(update, Phase.OPTIMIZER, [lane], [norm], bucket=Bucket.OPTIMIZER)
            for gather in self.step.parameter_gather[rank]:
                writer.add(gather, Phase.OPTIMIZER, [every[rank]], [op], scope=gather.stream)
        base = self._place(writer.block(), -1)
        for rank, end in enumerate(ends):
            self._wait(base + norm, end)
            if tied is not None and rank in (0, self.order.ranks - 1):
                self._wait(base + tied, end)

    def _column(self, key: str) -> NDArray[Any]:
        return np.concatenate([block.columns[key] for block, _, _ in self.pieces])

    def _program(self) -> Program:
        pieces = self.pieces
        lanes = np.concatenate([block.lanes for block, _, _ in pieces])
        widths = np.concatenate([np.diff(block.lane_ptr) for block, _, _ in pieces])
        op_ptr = np.concatenate([[0], np.cumsum(widths)]).astype(np.int32)
        fifo_ptr, fifo = fifos(op_ptr, lanes, self.order.ranks * STREAMS)
        dep_ptr, dep = self._dependencies()
        flow_ptr, flow_edge, flow_load = self.maker.flows.arrays()
        sizes = [block.size for block, _, _ in pieces]
        keys = ("name", "phase", "bucket", "stage", "layer", "latency_s", "work_s", "useful_s", "bytes", "flow")
        return Program(
            ranks=self.order.ranks,
            multiplicity=np.full(self.order.ranks, self.parallel.replicas, dtype=np.int32),
            stage_of_rank=np.arange(self.order.ranks, dtype=np.int32),
            names=tuple(self.maker.names),
            microbatch=np.repeat([mb for _, _, mb in pieces], sizes).astype(np.int32),
            **{key: self._column(key) for key in keys},
            op_ptr=op_ptr,
            lanes=lanes,
            fifo_ptr=fifo_ptr,
            fifo=fifo,
            dep_ptr=dep_ptr,
            dep=dep,
            lag_s=np.zeros(len(dep)),
            flow_ptr=flow_ptr,
            flow_edge=flow_edge,
            flow_load=flow_load,
        )

    def _dependencies(self) -> tuple[Ints, Ints]:
        op = np.concatenate([block.op + base for block, base, _ in self.pieces] + [np.array(self.ops, dtype=np.int64)])
        dep = np.concatenate(
            [block.dep + base for block, base, _ in self.pieces] + [np.array(self.deps, dtype=np.int64)]
        )
        order = np.argsort(op, kind="stable")
        counts = np.bincount(op, minlength=self.size)
        return np.concatenate([[0], np.cumsum(counts)]).astype(np.int32), dep[order].astype(np.int32)
