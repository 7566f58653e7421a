"""Tables for the terminal; rich is imported when one is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from simtrain.quantities import format_quantity
from simtrain.report.palette import BUCKETS
from simtrain.report.stacked import scenario_names
from simtrain.report.table_style import bar, spread, spread_note, table, usd

if TYPE_CHECKING:
    from rich.table import Table

    from simtrain.cluster.topology import Finding
    from simtrain.step.compare import Difference
    from simtrain.step.network import LinkUse, NetworkReport
    from simtrain.step.report import MemoryReport, StepReport

__all__ = [
    "catalogue_table",
    "collective_table",
    "compare_rows",
    "compare_table",
    "difference_rows",
    "difference_table",
    "explain_table",
    "memory_table",
    "network_tables",
    "step_rows",
    "step_table",
    "topology_table",
    "waterfall_table",
]

MAX_EDGE_KINDS = 5
"""Kinds of links listed for a collective, the busiest first."""


def step_rows(step: StepReport) -> list[tuple[str, str]]:
    """What one step comes to, as (quantity, value) in words; the same rows in the terminal and on a page."""
    job, memory = step.job, step.memory
    worst = max(memory.peak_bytes)
    fits = "fits" if memory.fits else "DOES NOT FIT"
    within = spread(step.uncertainty)
    return [
        ("step time", format_quantity(step.time_s, "time") + within),
        ("tokens/s", f"{step.tokens_per_s:,.0f}{within}"),
        ("tokens/s per GPU", f"{step.tokens_per_s_per_gpu:,.1f}{within}"),
        ("model TFLOPS per GPU", f"{step.model_tflops_per_gpu:,.1f}{within}"),
        ("MFU", f"{step.mfu:.1%}{within}"),
        ("MFU, causal attention", f"{step.mfu_causal:.1%}{within}"),
        ("HFU", f"{step.hfu:.1%}{within}"),
        ("bubble", f"{step.bubble_fraction:.1%}"),
        ("peak memory", f"{_bytes(worst)} of {_bytes(memory.capacity_bytes)} ({fits})"),
        ("days", f"{job.days:,.1f}{within}"),
        ("GPU hours", f"{job.gpu_hours:,.0f}{within}"),
        ("purchase", usd(job.purchase_usd)),
        ("cost of the run", usd(job.cost_usd, within=within)),
        ("of which power", usd(job.power_usd, within=within)),
        ("USD per million tokens", usd(job.usd_per_million_tokens, ".4g", "", within=within)),
    ]


def step_table(step: StepReport) -> Table:
    """One step as a two-column table."""
    return table(("", *scenario_names([step.scenario])), step_rows(step), notes=spread_note(step.uncertainty))


def waterfall_table(step: StepReport) -> Table:
    """Shares of GPU time with bars; buckets that would print as 0.00 % are left out."""
    rows = [
        (BUCKETS[bucket].label, f"{share:7.2%}", format_quantity(share * step.time_s, "time"), bar(share))
        for bucket, share in step.waterfall.items()
        if abs(share) >= 5e-5
    ]
    return table(("GPU time", "share", "of the step", ""), rows, left=(0, 3))


def memory_table(memory: MemoryReport) -> Table:
    """Bytes by part at the peak, one row per pipeline rank, and what is left of the GPU."""
    parts = [part for part, values in memory.parts.items() if any(values)]
    rows = [
        (str(rank), *(_bytes(memory.parts[part][rank]) for part in parts), _bytes(peak), _free(memory, peak))
        for rank, peak in enumerate(memory.peak_bytes)
    ]
    return table(("rank", *parts, "peak", f"free of {_bytes(memory.capacity_bytes)}"), rows)


def network_tables(network: NetworkReport) -> list[Table]:
    """What the links carried during a step: by kind, the busiest, and how long transfers waited for them."""
    kinds = [
        (
            kind.kind,
            f"{kind.links:,}",
            f"{kind.mean:.1%}",
            f"{kind.highest.utilisation:.1%}",
            kind.highest.label,
            format_quantity(kind.bytes, "bytes"),
            _streams(kind.streams),
        )
        for kind in network.kinds
        if kind.used
    ]
    transfers = [
        (
            stream.stream,
            f"{stream.flows:,}",
            f"{stream.priced:,}",
            *(f"{seconds:,.1f}" for seconds in (stream.alone_s, stream.links_s, stream.kernels_s)),
            f"{(stream.links_s + stream.kernels_s) / stream.alone_s:+.1%}" if stream.alone_s else "",
        )
        for stream in network.streams
    ]
    notes = "" if network.table.links_shared else "Links are not shared (cluster.contention.links = false)."
    return [
        table(("links", "directed", "mean use", "highest", "on", "carried per step", "by"), kinds, left=(0, 4, 6)),
        table(
            ("busiest links", "alike", "mean use", "busy", "full", "carried per step", "by"),
            [_link_row(link) for link in network.busiest()],
            left=(0, 6),
        ),
        table(
            ("transfers", "sharing links", "at their price", "alone, GPU s", "+ links", "+ kernels", "longer by"),
            transfers,
            notes=notes,
        ),
    ]


def _link_row(link: LinkUse) -> tuple[str, ...]:
    shares = (f"{share:.1%}" for share in (link.utilisation, link.busy, link.full))
    carried = format_quantity(link.bytes, "bytes")
    return (f"{link.kind}: {link.label}", f"{link.alike:,}", *shares, carried, _streams(link.streams))


def _streams(streams: Mapping[str, float]) -> str:
    """Who used a link, the largest share first; less than half a percent is left out."""
    ranked = sorted(streams.items(), key=lambda item: -item[1])
    return ", ".join(f"{axis} {share:.0%}" for axis, share in ranked if share >= 0.005)


def compare_rows(steps: Sequence[StepReport], gaps: Sequence[Difference] = ()) -> list[tuple[str, ...]]:
    """The rows of :func:`step_rows`, one column per scenario, and what makes each differ from the first."""
    columns = [step_rows(step) for step in steps]
    rows = [(row[0][0], *(cell[1] for cell in row)) for row in zip(*columns, strict=True)]
    layouts = ("GPUs and layout", *(_layout(step) for step in steps))
    if not gaps:
        return [layouts, *rows]
    reasons = [("first reason for the gap", *("" for _ in steps)), ("second reason", *("" for _ in steps))]
    for n in range(2):
        found = [gap.reasons[n] if n < len(gap.reasons) else "" for gap in gaps]
        reasons[n] = (reasons[n][0], "(what the others are held against)" if n == 0 else "", *found)
    return [layouts, *rows, *reasons]


def compare_table(steps: Sequence[StepReport], gaps: Sequence[Difference] = ()) -> Table:
    """Several steps side by side; ``gaps`` are the differences to the first."""
    notes = dict.fromkeys(spread_note(step.uncertainty) for step in steps)
    return table(("", *(step.scenario.name for step in steps)), compare_rows(steps, gaps), notes="\n".join(notes))


def difference_rows(gaps: Sequence[Difference]) -> list[tuple[str, ...]]:
    """Seconds per step against the first scenario, a row per bucket and one for the total."""
    rows = [
        (style.label, *(f"{gap.seconds[bucket]:+.3f}" for gap in gaps))
        for bucket, style in BUCKETS.items()
        if any(abs(gap.seconds[bucket]) >= 5e-4 for gap in gaps)
    ]
    return [*rows, ("step time", *(f"{gap.total_s:+.3f}" for gap in gaps))]


def difference_table(gaps: Sequence[Difference]) -> Table:
    """What makes each scenario slower (+) or faster (-) than the first, bucket by bucket."""
    header = (f"seconds per step against {gaps[0].baseline}", *(gap.name for gap in gaps))
    return table(header, difference_rows(gaps))


def topology_table(name: str, findings: Sequence[Finding]) -> Table:
    """Facts about a cluster's graph; problems are marked."""
    rows = [(item.name, item.value, "" if item.ok else "PROBLEM") for item in findings]
    return table(("", name, ""), rows, left=(0, 1, 2))


def collective_table(priced: Mapping[str, Any]) -> Table:
    """What one collective takes, as ``simtrain topology --collective`` prices it."""
    rows = [
        ("GPUs", f"{priced['gpus']:,}"),
        ("size", format_quantity(priced["bytes"], "bytes")),
        ("time", format_quantity(priced["time_s"], "time")),
        ("of which latency", format_quantity(priced["latency_s"], "time")),
        ("bus bandwidth", format_quantity(priced["bus_bandwidth_bytes_per_s"], "bandwidth")),
        ("algorithm bandwidth", format_quantity(priced["algorithm_bandwidth_bytes_per_s"], "bandwidth")),
        ("algorithm, protocol", f"{priced['algorithm']}, {priced['protocol']}"),
        ("bottleneck", f"{priced['bottleneck']}, {format_quantity(priced['bottleneck_bytes_per_s'], 'bandwidth')}"),
        ("formula", priced["formula"]),
    ]
    for number, phase in enumerate(priced["phases"], 1):
        latency, transfer = (format_quantity(phase[key], "time") for key in ("latency_s", "transfer_s"))
        rows.append((f"phase {number}: {phase['name']}", f"{latency} + {transfer} of transfer"))
    rows += [
        (
            f"{kind['kind']} links in use",
            f"{kind['highest']:.1%} at most, {kind['mean']:.1%} on average, of {kind['edges']:,} directed links",
        )
        for kind in priced["edge_kinds"][:MAX_EDGE_KINDS]
    ]
    return table(("", priced["collective"]), rows, left=(0, 1))


def catalogue_table(kind: str, rows: Sequence[Mapping[str, str]]) -> Table:
    """Names, titles and sources of one kind of catalogue entry."""
    return table((kind, "", "source"), [(row["name"], row["title"], row["source"]) for row in rows], left=(0, 1, 2))


def explain_table(step: StepReport, largest: int = 10) -> Table:
    """The largest contributors to the step: count, times, share, formula with its inputs; sources as footnotes."""
    ranked = sorted(step.contributions, key=lambda item: item.exposed_s, reverse=True)[:largest]
    sources = list(dict.fromkeys(item.source for item in ranked))
    rows = [
        (
            item.name,
            item.kind,
            f"{item.count:,}",
            format_quantity(item.each_s, "time"),
            format_quantity(item.exposed_s, "time"),
            f"{item.share:.1%}",
            f"{item.formula}\n{item.inputs}",
            f"[{sources.index(item.source) + 1}]",
        )
        for item in ranked
    ]
    header = ("operator or exchange", "kind", "times", "each", "adds", "share", "formula and inputs", "source")
    notes = "\n".join(f"[{i}] {source}" for i, source in enumerate(sources, 1))
    return table(header, rows, left=(0, 1, 6, 7), notes=notes)


def _layout(step: StepReport) -> str:
    layout = step.scenario.layout
    sizes = {key: getattr(layout, key) for key in ("tp", "cp", "ep", "etp", "pp", "vpp")}
    shown = " ".join(f"{key}{size}" for key, size in sizes.items() if (size or 1) > 1 or key == "tp")
    return f"{step.topology.gpus:,}: {shown}"


def _free(memory: MemoryReport, peak_bytes: float) -> str:
    left = memory.capacity_bytes - peak_bytes
    return _bytes(left) if left >= 0 else f"{_bytes(-left)} over"


def _bytes(value: float) -> str:
    return f"{value / 2**30:,.1f} GiB"
