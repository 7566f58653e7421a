"""What all interleaved schedules share: micro batches run in groups, chunk by chunk inside a group."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from simtrain.errors import ScheduleError
from simtrain.schedules.base import Actions
from simtrain.schedules.order import Order, stuck
from simtrain.schedules.script import Scripted, Stream
from simtrain.schedules.slot_costs import SlotCosts

__all__ = ["Grouped"]


class Grouped(Scripted):
    """A schedule over V chunks per rank, stage s on rank s mod P.

    Micro batches run in groups, chunk by chunk inside a group, backwards in mirrored order of chunks.  Without the
    option ``group`` the M micro batches fall into max(1, M // P) equal groups, as PyTorch's
    ``ScheduleInterleaved1F1B`` has it; with it, into groups of that size, the last one possibly short, as
    Megatron-LM's ``microbatch_group_size_per_vp_stage`` has it.
    """

    def group(self, ranks: int, microbatches: int, **options: int | None) -> int:
        """Micro batches of a group."""
        return options.get("group") or microbatches // max(1, microbatches // ranks)

    def check_settings(self, ranks: int, microbatches: int, chunks: int, **options: int | None) -> None:
        """Equal groups must exist; a given group holds between P and M micro batches."""
        group = options.get("group")
        groups = max(1, microbatches // ranks)
        if group is None and microbatches % groups:
            choice = ", or choose the option 'group'" if "group" in self.options else ""
            raise ScheduleError(
                f"{self.name}: {microbatches} micro batches do not fall into {groups} equal groups of at least "
                f"{ranks} (one per pipeline rank); use a multiple of {ranks}{choice}"
            )
        if group is not None and not ranks <= group <= microbatches:
            raise ScheduleError(
                f"{self.name}: group = {group}, but a group holds at least as many micro batches as there are "
                f"pipeline ranks ({ranks}) and at most all {microbatches}"
            )
        # A last group shorter than the pipeline may starve the warm-up of the ranks behind it.
        if group is not None and 0 < microbatches % group < ranks:
            actions = self.all_actions(ranks, microbatches, chunks, SlotCosts(), group=group)
            if stuck(Order(self.name, ranks, chunks, microbatches, self.placement, actions)):
                raise ScheduleError(
                    f"{self.name}: {microbatches} micro batches in groups of {group} leave a last group of "
                    f"{microbatches % group}, fewer than the {ranks} pipeline ranks, and the order would deadlock"
                )

    def streams(
        self, ranks: int, microbatches: int, chunks: int, **options: int | None
    ) -> tuple[Sequence[Stream], Sequence[Stream]]:
        """One stream of forwards and one of backwards, group by group, chunk-major inside a group."""
        chunk, microbatch = _group_by_group(microbatches, chunks, self.group(ranks, microbatches, **options))
        rank = np.arange(ranks)[:, None]
        forward = Stream(chunk * ranks + rank, microbatch)
        return (forward,), (Stream((chunks - 1 - chunk) * ranks + rank, microbatch),)


def _group_by_group(microbatches: int, chunks: int, group: int) -> tuple[Actions, Actions]:
    """Chunk and micro batch of every forward of a rank, (chunks * microbatches,) each."""
    order = np.arange(microbatches, dtype=np.int32)
    whole = microbatches - microbatches % group
    parts = [order[:whole].reshape(-1, 1, group), order[whole:].reshape(1, 1, -1)]
    by_chunk = np.arange(chunks, dtype=np.int32)[:, None]
    microbatch = [np.broadcast_to(part, (len(part), chunks, part.shape[2])).ravel() for part in parts]
    chunk = [np.broadcast_to(by_chunk, (len(part), chunks, part.shape[2])).ravel() for part in parts]
    return np.concatenate(chunk), np.concatenate(microbatch)
