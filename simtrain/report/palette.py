"""Colours and second cues of everything drawn.

The colours are those of Okabe and Ito (Color Universal Design, jfly.uni-koeln.de/color, 2008), told apart with any
common colour vision.  Every kind also has a letter and a hatching, for print in grey.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

__all__ = ["BACKGROUND", "BUCKETS", "FONT", "GRID", "IDLE", "INK", "STYLES", "BucketStyle", "Kind", "Style", "lighten"]

IDLE = "#E4E6EA"
INK = "#24292F"
GRID = "#D8DCE2"
BACKGROUND = "#FFFFFF"
FONT = "Inter, 'Segoe UI', 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif"


class Kind(IntEnum):
    """What a bar shows."""

    FORWARD = 0
    BACKWARD = 1
    BACKWARD_INPUT = 2
    BACKWARD_WEIGHT = 3
    RECOMPUTE = 4
    COMMUNICATION = 5
    OPTIMIZER = 6
    HOST = 7


@dataclass(frozen=True, slots=True)
class Style:
    """How a kind is drawn: name, letter, colour, and the hatching of plotly's bar patterns ('' is solid)."""

    label: str
    letter: str
    color: str
    pattern: str


STYLES: dict[Kind, Style] = {
    Kind.FORWARD: Style("forward", "F", "#0072B2", ""),
    Kind.BACKWARD: Style("backward", "B", "#D55E00", "/"),
    Kind.BACKWARD_INPUT: Style("backward for inputs", "I", "#E69F00", "/"),
    Kind.BACKWARD_WEIGHT: Style("backward for weights", "W", "#009E73", "."),
    Kind.RECOMPUTE: Style("recomputation", "R", "#F0E442", "x"),
    Kind.COMMUNICATION: Style("communication", "C", "#CC79A7", ""),
    Kind.OPTIMIZER: Style("optimizer", "O", "#56B4E9", "+"),
    Kind.HOST: Style("host", "H", "#555B66", "|"),
}


@dataclass(frozen=True, slots=True)
class BucketStyle:
    """How a bucket of the ledger is named and drawn."""

    label: str
    color: str
    pattern: str = ""


BUCKETS: dict[str, BucketStyle] = {
    "useful": BucketStyle("useful matmul at peak", "#0072B2"),
    "kernel_inefficiency": BucketStyle("kernel inefficiency", "#5AA9D6", "/"),
    "non_matmul": BucketStyle("other kernels", "#A8D3EC", "."),
    "recompute": BucketStyle("recomputation", "#F0E442", "x"),
    "exposed_tp": BucketStyle("exposed tensor parallel", "#CC79A7"),
    "exposed_cp": BucketStyle("exposed context parallel", "#B45F8E", "/"),
    "exposed_ep": BucketStyle("exposed expert parallel", "#DDA3C3", "."),
    "exposed_pp": BucketStyle("exposed pipeline", "#8F4A72", "-"),
    "exposed_dp": BucketStyle("exposed data parallel", "#E9C6DB", "|"),
    "comm_sms": BucketStyle("SMs lent to communication", "#6B3856", "x"),
    "bubble_warmup": BucketStyle("bubble, warm-up", "#C9CDD4"),
    "bubble_steady": BucketStyle("bubble, steady", "#B0B5BF", "/"),
    "bubble_cooldown": BucketStyle("bubble, cool-down", "#979DA9", "."),
    "optimizer": BucketStyle("optimizer", "#009E73"),
    "host": BucketStyle("host", "#555B66", "|"),
    "straggler": BucketStyle("waiting for stragglers", "#E69F00", "-"),
}


def lighten(color: str, share: float) -> str:
    """``#RRGGBB`` mixed with ``share`` of white.

    >>> lighten("#000000", 0.5)
    '#808080'
    """
    channels = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(c + (255 - c) * share):02X}" for c in channels)
