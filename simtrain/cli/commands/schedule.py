"""``simtrain schedule``: order, makespan, bubble and memory of a pipeline schedule for given costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from simtrain.cli.options import Json, console, print_json, say
from simtrain.errors import DeadlockError, InputError, ScheduleError

if TYPE_CHECKING:
    from simtrain.engines import Engine
    from simtrain.schedules.order import Order
    from simtrain.schedules.slot_costs import SlotCosts
    from simtrain.step.schedule import ScheduleReport

__all__ = ["schedule"]

_MOST_SLOTS = 10_000_000
_PER_STAGE = "a number, or one per stage separated by commas"
Cost = Annotated[str, typer.Option(metavar="T", help=f"Duration of this slot: {_PER_STAGE}.")]
MaybeCost = Annotated[str | None, typer.Option(metavar="T", help=f"Duration of this slot: {_PER_STAGE}.")]


def schedule(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="simtrain catalog schedules lists them.")] = None,
    ranks: Annotated[int | None, typer.Option("--ranks", "-p", metavar="P", help="Pipeline ranks (default 4).")] = None,
    microbatches: Annotated[
        int | None, typer.Option("--microbatches", "-m", metavar="M", help="Micro batches (default 8).")
    ] = None,
    chunks: Annotated[int | None, typer.Option("--chunks", metavar="V", help="Model chunks per rank.")] = None,
    group: Annotated[int | None, typer.Option("--group", metavar="G", help="Group size of interleaved orders.")] = None,
    f: Cost = "1",
    i: Cost = "1",
    w: Cost = "1",
    b: MaybeCost = None,
    x: MaybeCost = None,
    comm: Annotated[str, typer.Option("--comm", metavar="T", help="Latency between stages on different ranks.")] = "0",
    order_costs: Annotated[
        str | None,
        typer.Option("--order-costs", metavar="F,I,W,COMM", help="What a cost-driven schedule searches with."),
    ] = None,
    order: Annotated[
        Path | None, typer.Option("--order", metavar="FILE", help="Run this order: PyTorch CSV, or JSON with 'ranks'.")
    ] = None,
    compare: Annotated[
        str | None,
        typer.Option("--compare", metavar="A,B,…", help="Schedules side by side; --chunks for those that take it."),
    ] = None,
    chunk_memory: Annotated[
        str | None,
        typer.Option("--chunk-memory", metavar="SIZE", help="Activations of a chunk and micro batch, e.g. '1.5 GiB'."),
    ] = None,
    engine: Annotated[Literal["auto", "des", "compiled"], typer.Option("--engine", help="Event engine.")] = "auto",
    repeat: Annotated[int | None, typer.Option("--repeat", min=1, metavar="N", help="Time N repetitions.")] = None,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write the picture as a page.")] = None,
    svg: Annotated[Path | None, typer.Option("--svg", metavar="FILE", help="Write the picture as SVG.")] = None,
    csv: Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Write the order as PyTorch CSV.")] = None,
    json: Json = False,
) -> None:
    """Order, makespan, bubble and memory of a pipeline schedule; costs are per chunk slot, in any unit."""
    from simtrain.quantities import parse_quantity
    from simtrain.schedules.slot_costs import SlotCosts
    from simtrain.step.schedule import timed

    given = {key: _numbers(key, text) for key, text in (("f", f), ("i", i), ("w", w), ("b", b), ("x", x))}
    costs = SlotCosts(**given, comm=_number("comm", comm))
    search = _order_costs(order_costs) if order_costs else costs
    settings = _Settings(ranks, microbatches, chunks, group, search)
    builders = _builders(name, compare, order, settings)
    if csv and len(builders) > 1:
        raise InputError("--csv writes one order, not those of --compare")
    chunk_bytes = parse_quantity(chunk_memory, "bytes") if chunk_memory else None
    reports = [_evaluate(build(), costs, engine, order) for build in builders]
    times = [dict(timed(build, repeat, costs, engine)) if repeat else {} for build in builders]
    _write(reports, chunk_bytes, html, svg, csv)
    if json:
        documents = [_document(report, chunk_bytes) | extra for report, extra in zip(reports, times, strict=True)]
        print_json({"schedules": documents} if compare else documents[0])
    else:
        _show(reports, times, chunk_bytes)


@dataclass(frozen=True)
class _Settings:
    """What orders are built for; absent: the default."""

    ranks: int | None
    microbatches: int | None
    chunks: int | None
    group: int | None
    search: SlotCosts

    def order(self, name: str, *, comparing: bool) -> Order:
        """The order of a schedule; in a comparison those that take no ``chunks`` or ``group`` do not get them."""
        from simtrain import schedules

        wanted = schedules.get(name)
        ranks, microbatches = 4 if self.ranks is None else self.ranks, self.microbatches
        microbatches = 8 if microbatches is None else microbatches
        if ranks * microbatches * (self.chunks or wanted.default_chunks) > _MOST_SLOTS:
            raise InputError(
                f"{ranks} ranks with {microbatches:,} micro batches are more than {_MOST_SLOTS:,} forwards"
            )
        takes_group = self.group is not None and not (comparing and "group" not in wanted.options)
        options = {"group": self.group} if takes_group else {}
        try:
            return wanted.order(ranks, microbatches, self.chunks, self.search, **options)
        except ScheduleError:
            if not comparing or self.chunks is None:
                raise
            return wanted.order(ranks, microbatches, None, self.search, **options)

    def read(self, path: Path, name: str | None) -> Order:
        """The order in a file, which must have the sizes that were asked for."""
        from simtrain.schedules.order_files import read_order

        order = read_order(path, name)
        asked = {"ranks": self.ranks, "microbatches": self.microbatches, "chunks": self.chunks}
        for key, value in asked.items():
            if value not in (None, getattr(order, key)):
                raise InputError(f"{path}: the order has {key} = {getattr(order, key)}, not {value}")
        return order


def _builders(
    name: str | None, compare: str | None, order: Path | None, settings: _Settings
) -> list[Callable[[], Order]]:
    """What builds each order that is asked for."""
    from simtrain import schedules

    if compare and (name or order):
        raise InputError("give --compare with a list, or one schedule, not both")
    if order is not None:
        return [partial(settings.read, order, name)]
    names = [part.strip() for part in compare.split(",") if part.strip()] if compare else [name] if name else []
    if not names:
        raise InputError(f"name a schedule; known: {', '.join(schedules.names())}")
    return [partial(settings.order, each, comparing=compare is not None) for each in names]


def _evaluate(order: Order, costs: SlotCosts, engine: Engine, path: Path | None) -> ScheduleReport:
    """An order that cannot finish is wrong input here, whoever wrote it."""
    from simtrain.step.schedule import evaluate_order

    try:
        return evaluate_order(order, costs, engine)
    except DeadlockError as error:
        waits = "".join(f"\n  {wait}" for wait in error.waits)
        raise InputError(f"{path or order.schedule}: deadlock, these slots can never start{waits}") from None


def _document(report: ScheduleReport, chunk_bytes: float | None) -> dict[str, Any]:
    if chunk_bytes is None:
        return report.document()
    return report.document() | {"peak_bytes": [peak * chunk_bytes for peak in report.peak_chunks]}


def _show(reports: list[ScheduleReport], times: list[dict[str, Any]], chunk_bytes: float | None) -> None:
    from simtrain.report.schedule_text import schedule_pictures, schedule_table

    out = console()
    out.print(schedule_table(reports, chunk_bytes))
    out.print(schedule_pictures(reports, out.width))
    out.print(f"engine: {reports[0].timeline.engine}", style="dim")
    for report, extra in zip(reports, times, strict=True):
        for key, value in extra.items():
            out.print(f"{report.order.schedule}: {key} {value:.6f}")


def _write(
    reports: list[ScheduleReport], chunk_bytes: float | None, html: Path | None, svg: Path | None, csv: Path | None
) -> None:
    if html:
        from simtrain.report.html import Table, write_html
        from simtrain.report.schedule_figure import schedule_figure
        from simtrain.report.schedule_text import schedule_header, schedule_rows

        table = Table(schedule_header(chunk_bytes), schedule_rows(reports, chunk_bytes))
        figure = schedule_figure(reports, memory=True, chunk_bytes=chunk_bytes)
        write_html([table, figure], html, title="Pipeline schedules")
    if svg:
        from simtrain.report.schedule_svg import schedule_svg

        schedule_svg(reports, svg)
    if csv:
        from simtrain.schedules.torch_csv import write_csv

        write_csv(reports[0].order, csv)
    for path in (html, svg, csv):
        if path:
            say(f"wrote {path}")


def _number(key: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(f"--{key} = {text!r} is not a number") from None


def _numbers(key: str, text: str | None) -> Any:
    """A number, a list of them, or None as it was given."""
    if text is None:
        return None
    values = [_number(key, part) for part in text.split(",")]
    return values[0] if len(values) == 1 else values


def _order_costs(text: str) -> SlotCosts:
    from simtrain.schedules.slot_costs import SlotCosts

    values = _numbers("order-costs", text)
    if not isinstance(values, list) or len(values) != 4:
        raise InputError(f"--order-costs = {text!r} must be four numbers: F,I,W,comm")
    return SlotCosts(values[0], values[1], values[2], comm=values[3])
