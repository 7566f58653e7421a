"""``simtrain goodput``: failures and checkpoints alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from simtrain.cli.options import Json, console, output_file, print_json, progress, say
from simtrain.errors import InputError

if TYPE_CHECKING:
    from simtrain.reliability.incidents import IncidentLog
    from simtrain.reliability.job import Recovery
    from simtrain.reliability.outlook import Setup

__all__ = ["goodput"]

Engine = Literal["auto", "des", "compiled", "closed_form"]
Time = str | None


def goodput(
    case: Annotated[
        Path | None, typer.Option("--case", metavar="FILE", help="Answer one case: JSON with kind and params.")
    ] = None,
    trace: Annotated[
        Path | None, typer.Option("--trace", metavar="FILE", help="Recorded faults that the case replays.")
    ] = None,
    mtbf: Annotated[Time, typer.Option("--mtbf", metavar="TIME", help="Time between failures of one GPU.")] = None,
    gpus: Annotated[int, typer.Option("--gpus", min=1, metavar="N", help="GPUs of the job.")] = 2048,
    gpus_per_node: Annotated[int, typer.Option("--gpus-per-node", min=1, metavar="N", help="GPUs of a node.")] = 8,
    interval: Annotated[
        str, typer.Option("--interval", metavar="TIME", help="Work between checkpoints, or exact, young, daly.")
    ] = "exact",
    checkpoint: Annotated[str, typer.Option("--checkpoint", metavar="TIME", help="Stall of a checkpoint.")] = "30 s",
    recovery: Annotated[str, typer.Option("--recovery", metavar="TIME", help="Failure to first useful step.")] = (
        "10 min"
    ),
    immune: Annotated[bool, typer.Option("--immune", help="No failure strikes during a recovery.")] = False,
    spares: Annotated[
        int | None, typer.Option("--spares", min=0, metavar="N", help="Cold spare nodes (default: always enough).")
    ] = None,
    repair: Annotated[str, typer.Option("--repair", metavar="TIME", help="Mean time of a node in repair.")] = "2 days",
    replicas: Annotated[
        int | None, typer.Option("--replicas", min=1, metavar="N", help="With --replay: shrink to whole replicas.")
    ] = None,
    work: Annotated[str, typer.Option("--work", metavar="TIME", help="Useful work of the run.")] = "30 days",
    curve: Annotated[bool, typer.Option("--curve", help="Also goodput against the interval.")] = False,
    fit: Annotated[
        Path | None, typer.Option("--fit", metavar="FILE", help="Fit failure classes to a log of incidents (CSV).")
    ] = None,
    replay: Annotated[
        Path | None, typer.Option("--replay", metavar="FILE", help="Train through a log (CSV) or a trace (JSON).")
    ] = None,
    observed: Annotated[
        Time, typer.Option("--observed", metavar="TIME", help="Length of the log (default: to its last entry).")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="With --fit: write the classes here.", callback=output_file),
    ] = None,
    engine: Annotated[Engine, typer.Option("--engine", help="Who answers; auto: the fastest that can.")] = "auto",
    runs: Annotated[
        int | None,
        typer.Option("--runs", min=2, metavar="N", help="Runs (default: standard errors of at most 1 % of the mean)."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, metavar="S", help="Of the random numbers.")] = 0,
    json: Json = False,
) -> None:
    """What failures and checkpoints leave of the time, without a model or a step.

    A formula beside Monte Carlo with its 95 % interval, and the best checkpoint interval. A log of incidents has the
    columns start, class and, where known, end and node.
    """
    asked = {"--case": case, "--mtbf": mtbf, "--fit": fit, "--replay": replay}
    given = [name for name, value in asked.items() if value is not None]
    if len(given) != 1:
        raise InputError(f"give exactly one of {', '.join(asked)}; given: {', '.join(given) or 'none'}")
    if case is not None:
        _answer(case, trace, engine, runs, seed, json=json)
        return
    after = _recovery(recovery, restarts=not immune)
    if fit is not None:
        _fit(fit, _seconds("--observed", observed) if observed else None, gpus, out, json=json)
    elif replay is not None:
        if engine == "closed_form":
            raise InputError("--engine closed_form cannot replay a log; allowed: auto, des, compiled")
        log = _log(replay, observed)
        nodes = None if spares is None and replicas is None else -(-gpus // gpus_per_node)
        every_s = _seconds("--interval", interval) if interval not in ("exact", "young", "daly") else None
        _replay(log, every_s, _seconds("--checkpoint", checkpoint), after, nodes, spares, replicas, engine, json=json)
    else:
        setup = _setup(mtbf or "", gpus, gpus_per_node, work, interval, checkpoint, after, spares, repair)
        _look(setup, engine, runs, seed, curve=curve, json=json)


def _answer(case: Path, trace: Path | None, engine: Engine, runs: int | None, seed: int, *, json: bool) -> None:
    from simtrain.reliability.solve import read_case, solve

    file = read_case(case, trace)
    with progress(f"answering {file.id}") as advance:
        solved = solve(file, engine, runs, seed, said=say, done=lambda share: advance(amount=share))
    if json:
        print_json(solved.document())
        return
    from simtrain.report.goodput_text import case_table

    console().print(case_table(solved))


def _seconds(option: str, text: str, *, above_zero: bool = False) -> float:
    from simtrain.errors import QuantityError
    from simtrain.quantities import parse_quantity

    try:
        value = parse_quantity(text, "time")
    except QuantityError as error:
        raise InputError(f"{option} = {error}") from None
    if above_zero and value == 0:
        raise InputError(f"{option} = {text!r} is not allowed; it must be above 0 s")
    return value


def _recovery(text: str, *, restarts: bool) -> Recovery:
    from simtrain.reliability.job import Law, Recovery

    return Recovery(phases=(("recovery", Law("fixed", _seconds("--recovery", text))),), interruptible=restarts)


def _setup(
    mtbf: str,
    gpus: int,
    gpus_per_node: int,
    work: str,
    interval: str,
    checkpoint: str,
    after: Recovery,
    spares: int | None,
    repair: str,
) -> Setup:
    from simtrain.reliability.job import FailureClass, Law
    from simtrain.reliability.outlook import BEST, Setup

    law = Law("exponential", _seconds("--mtbf", mtbf, above_zero=True))
    return Setup(
        gpus=gpus,
        nodes=-(-gpus // gpus_per_node),
        classes=(FailureClass(name="gpu", owner="gpu", components=gpus, law=law),),
        work_s=_seconds("--work", work, above_zero=True),
        interval_s=interval if interval in BEST else _seconds("--interval", interval, above_zero=True),
        checkpoint_s=_seconds("--checkpoint", checkpoint),
        recovery=after,
        spares=spares,
        repair=None if spares is None else Law("exponential", _seconds("--repair", repair, above_zero=True)),
    )


def _look(setup: Setup, engine: Engine, runs: int | None, seed: int, *, curve: bool, json: bool) -> None:
    from simtrain.reliability.outlook import curve_intervals, look, sweep_intervals

    intervals_s = curve_intervals(setup) if curve else ()
    with progress("simulating failures", total=1 + len(intervals_s)) as advance:
        found = look(setup, engine, runs, seed, lambda share: advance(amount=share))
        points = sweep_intervals(setup, intervals_s, engine, runs, seed, lambda share: advance(amount=share))
    for what in found.setup.approximations():
        say(f"simtrain: note: the formula leaves out {what}")
    if json:
        print_json(found.document() | {"curve": [point.document() for point in points]})
        return
    from simtrain.report.goodput_text import curve_table, outlook_table

    console().print(outlook_table(found))
    if points:
        console().print(curve_table(points))


def _log(path: Path, observed: str | None) -> IncidentLog:
    from simtrain.reliability.incidents import read_incidents

    return read_incidents(path, _seconds("--observed", observed, above_zero=True) if observed else None)


def _fit(path: Path, observed_s: float | None, gpus: int, out: Path | None, *, json: bool) -> None:
    from simtrain.reliability.fit import fit_incidents, fitted_document, fitted_yaml
    from simtrain.reliability.incidents import read_incidents

    log = read_incidents(path, observed_s)
    classes = fit_incidents(log)
    if out:
        out.write_text(fitted_yaml(classes, log.observed_s, gpus, path.name), encoding="utf-8")
        say(f"wrote {out}")
    if json:
        print_json(fitted_document(classes, log.observed_s, gpus))
        return
    from simtrain.report.goodput_text import fit_table

    console().print(fit_table(classes, gpus))


def _replay(
    log: IncidentLog,
    interval_s: float | None,
    checkpoint_s: float,
    after: Recovery,
    nodes: int | None,
    spares: int | None,
    replicas: int | None,
    engine: Literal["auto", "des", "compiled"],
    *,
    json: bool,
) -> None:
    from simtrain.reliability.closed_form import optimal_segment_s
    from simtrain.reliability.job import Fleet
    from simtrain.reliability.replay import replay

    fleet = None
    if nodes is not None:
        if replicas and nodes % replicas:
            raise InputError(f"--replicas = {replicas} does not divide the {nodes} nodes of the job")
        fleet = Fleet(
            nodes=nodes,
            spares=spares or 0,
            failures_while_stopped=True,
            policy="shrink" if replicas else "spare",
            nodes_per_replica=nodes // replicas if replicas else 1,
        )
    if interval_s is None:
        interval_s = optimal_segment_s(log.observed_s / len(log.incidents), checkpoint_s)
    if not interval_s:
        raise InputError("--checkpoint is free, so the shorter the interval the better; give --interval, e.g. 10 min")
    found = replay(log, interval_s, checkpoint_s, after, fleet, engine)
    if json:
        print_json(found.document() | {"interval_s": interval_s})
        return
    from simtrain.report.goodput_text import replay_table

    console().print(replay_table(found, interval_s))
