"""The script that DualPipe and DualPipeV share: two streams that meet."""

from __future__ import annotations

__all__ = ["both_ways"]


def both_ways(depth: int, position: int, microbatches: int) -> str:
    """The eight phases of ``DualPipe.step`` and ``DualPipeV.step`` (deepseek-ai/DualPipe, DeepSeek-V3 2024, figure 5).

    Args:
        depth: ranks on the way from the outermost to the meeting point.
        position: of this rank on that way, 0 outermost.
        microbatches: of each stream, at least 2 ``depth``.
    """
    inner = depth - position - 1
    outer = position + 1
    steady = microbatches - 2 * depth + outer
    # At the meeting point the two streams of one micro batch touch, and the first pair has nothing to hide behind.
    meeting = "Yy" if inner else "Fby"
    fill = "FF" * inner + "Ff" * outer + "iDf" * inner
    # Late weights are kept back to fill the end.
    drain = ("bB" * outer)[:outer] + ("iI" * outer)[outer:]
    return fill + meeting + "Yy" * (steady - 1) + "by" * inner + drain + "DI" * inner + "D" * outer
