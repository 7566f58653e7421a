"""Interleaved 1F1B: several model chunks per rank shrink the bubble by their number."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from simtrain.errors import ScheduleError
from simtrain.schedules.base import Actions, Schedule, interleave, rows
from simtrain.schedules.order import Action, Order, stuck

__all__ = ["SCHEDULE", "Interleaved1F1B"]


class Interleaved1F1B(Schedule):
    """Narayanan et al. 2021, arXiv 2104.04473, section 2.2; bubble (P-1)(F+B)/V.

    Micro batches run in groups, chunk by chunk inside a group.  Without the option ``group`` the M micro batches
    fall into max(1, M // P) equal groups, as PyTorch's ``ScheduleInterleaved1F1B`` has it; with it, into groups
    of that size, the last one possibly short, as Megatron-LM's ``microbatch_group_size_per_vp_stage`` has it.
    """

    name: ClassVar[str] = "interleaved_1f1b"
    aliases: ClassVar[tuple[str, ...]] = ("interleaved_1f1b_group",)
    summary: ClassVar[str] = "1F1B over V model chunks per rank (Narayanan et al. 2021, arXiv 2104.04473)"
    options: ClassVar[tuple[str, ...]] = ("group",)

    def check_settings(self, ranks: int, microbatches: int, chunks: int, **options: int | None) -> None:
        """Equal groups must exist; a given group holds between P and M micro batches."""
        group = options.get("group")
        groups = max(1, microbatches // ranks)
        if group is None and microbatches % groups:
            raise ScheduleError(
                f"{self.name}: {microbatches} micro batches do not fall into {groups} equal groups of at least "
                f"{ranks} (one per pipeline rank); use a multiple of {ranks}, or choose the option 'group'"
            )
        if group is not None and not ranks <= group <= microbatches:
            raise ScheduleError(
                f"{self.name}: group = {group}, but a group holds at least as many micro batches as there are "
                f"pipeline ranks ({ranks}) and at most all {microbatches}"
            )
        # A last group shorter than the pipeline may starve the warm-up of the ranks behind it.
        if group is not None and 0 < microbatches % group < ranks:
            actions = tuple(self.actions(r, ranks, microbatches, chunks, group=group) for r in range(ranks))
            if stuck(Order(self.name, ranks, chunks, microbatches, self.placement, actions)):
                raise ScheduleError(
                    f"{self.name}: {microbatches} micro batches in groups of {group} leave a last group of "
                    f"{microbatches % group}, fewer than the {ranks} pipeline ranks, and the order would deadlock"
                )

    def actions(self, rank: int, ranks: int, microbatches: int, chunks: int, **options: int | None) -> Actions:
        """2(P - rank - 1) + (V - 1) group warm-up forwards, then pairs, then the backwards left."""
        group = options.get("group") or microbatches // max(1, microbatches // ranks)
        chunk, microbatch = _virtual_microbatches(microbatches, chunks, group)
        forward = rows(Action.F, chunk * np.int32(ranks) + np.int32(rank), microbatch)
        backward = rows(Action.B, (np.int32(chunks - 1) - chunk) * np.int32(ranks) + np.int32(rank), microbatch)
        warmup = min(2 * (ranks - rank - 1) + (chunks - 1) * group, len(microbatch))
        return interleave(forward, backward, warmup)


def _virtual_microbatches(microbatches: int, chunks: int, group: int) -> tuple[Actions, Actions]:
    """Chunk and micro batch of every forward of a rank: group by group, chunk-major inside a group."""
    microbatch = np.tile(np.arange(microbatches, dtype=np.int32), chunks)
    chunk = np.repeat(np.arange(chunks, dtype=np.int32), microbatches)
    order = np.lexsort((microbatch, chunk, microbatch // group))
    return chunk[order], microbatch[order]


SCHEDULE = Interleaved1F1B()
