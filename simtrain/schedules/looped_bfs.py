"""Looped BFS: GPipe over several model chunks per rank."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from simtrain.schedules.script import Scripted, Stream

__all__ = ["SCHEDULE", "LoopedBFS"]


class LoopedBFS(Scripted):
    """Lamy-Poirier 2022, arXiv 2211.05953, section 4; bubble (P-1)(F+B)/V, all M micro batches alive.

    Backwards run in exactly the mirrored order, as in PyTorch's ``ScheduleLoopedBFS``.
    """

    name: ClassVar[str] = "looped_bfs"
    summary: ClassVar[str] = "chunk after chunk, all micro batches each (Lamy-Poirier 2022, arXiv 2211.05953)"

    def check_settings(self, ranks: int, microbatches: int, chunks: int, **options: int | None) -> None:
        """Any number of micro batches and chunks will do."""

    def script(self, rank: int, ranks: int, microbatches: int, chunks: int, **options: int | None) -> str:
        """Every forward, then every backward."""
        return "F" * (microbatches * chunks) + "B" * (microbatches * chunks)

    def streams(
        self, ranks: int, microbatches: int, chunks: int, **options: int | None
    ) -> tuple[Sequence[Stream], Sequence[Stream]]:
        """Chunk by chunk; backwards from the last chunk's last micro batch to the first one's first."""
        chunk, microbatch = np.divmod(np.arange(microbatches * chunks), microbatches)
        stage = chunk * ranks + np.arange(ranks)[:, None]
        return (Stream(stage, microbatch),), (Stream(stage[:, ::-1], microbatch[::-1]),)


SCHEDULE = LoopedBFS()
