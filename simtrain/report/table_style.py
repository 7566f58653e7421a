"""How tables of the terminal look; rich is imported when one is made."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from rich.table import Table

    from simtrain.step.uncertainty import Uncertainty

__all__ = ["bar", "spread", "spread_note", "table", "usd"]

_BAR_CELLS = 30
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def table(
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    left: Sequence[int] = (0,),
    *,
    whole: Sequence[int] = (),
    notes: str = "",
) -> Table:
    """Rows of text under a header; columns in ``left`` are left-aligned, in ``whole`` never folded; ``notes`` below."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    caption = Text(notes) if notes else None
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption=caption, caption_justify="left")
    for i, title in enumerate(header):
        side: Literal["left", "right"] = "left" if i in left else "right"
        made.add_column(Text(title), justify=side, overflow="fold", no_wrap=i in whole)
    for row in rows:
        made.add_row(*(Text(cell) for cell in row))
    return made


def bar(share: float) -> str:
    """A bar for a share of 1."""
    eighths = round(max(share, 0.0) * _BAR_CELLS * 8)
    return ("█" * (eighths // 8) + _EIGHTHS[eighths % 8]).rstrip()


def usd(value: float | None, style: str = ",.0f", unit: str = " USD", *, within: str = "") -> str:
    """An amount with its uncertainty in words, or that it is not known."""
    return "not known" if value is None else f"{value:{style}}{unit}{within}"


def spread(of: Uncertainty | None) -> str:
    """What stands behind a predicted figure: how far comparable steps lay below and above; empty if not known."""
    return f" ({100 * of.low:+.0f}/{100 * of.high:+.0f}%)" if of else ""


def spread_note(of: Uncertainty | None) -> str:
    """What the figures of :func:`spread` rest on."""
    if of is None:
        return ""
    return (
        f"In brackets: 80 % of {of.rows} published steps ({of.of.words()}; {of.publishers} "
        f"{'publisher' if of.publishers == 1 else 'publishers'}) came out within this of their prediction."
    )
