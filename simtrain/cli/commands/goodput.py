"""``simtrain goodput``: failures and checkpoints alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from simtrain.cli.options import Json, Set, blame, console, output_file, print_json, progress, say, shown
from simtrain.errors import InputError, UnknownNameError

if TYPE_CHECKING:
    from simtrain.reliability.incidents import IncidentLog
    from simtrain.reliability.job import FailureClass, Fleet, Recovery
    from simtrain.reliability.outlook import Setup

__all__ = ["goodput"]

Engine = Literal["auto", "des", "compiled", "closed_form"]
Time = str | None
BEST = ("exact", "young", "daly")


def goodput(
    source: Annotated[
        str | None, typer.Argument(metavar="[PRESET|SCENARIO]", help="Failure classes of a preset, or a scenario.")
    ] = None,
    set: Set = None,
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
        Time,
        typer.Option("--interval", metavar="TIME", help="Work between checkpoints, or exact (default), young, daly."),
    ] = None,
    checkpoint: Annotated[
        Time, typer.Option("--checkpoint", metavar="TIME", help="Stall of a checkpoint (default 30 s).")
    ] = None,
    persist: Annotated[
        Time, typer.Option("--persist", metavar="TIME", help="Asynchronous: durable so long after its stall.")
    ] = None,
    recovery: Annotated[
        Time,
        typer.Option("--recovery", metavar="TIME", help="Failure to first useful step (default 10 min, or PRESET's)."),
    ] = None,
    immune: Annotated[bool, typer.Option("--immune", help="No failure strikes during a recovery.")] = False,
    spares: Annotated[
        int | None, typer.Option("--spares", min=0, metavar="N", help="Cold spare nodes (default: always enough).")
    ] = None,
    repair: Annotated[
        str, typer.Option("--repair", metavar="TIME", help="Mean time of a node in repair, exponential.")
    ] = "2 days",
    replicas: Annotated[
        int | None, typer.Option("--replicas", min=1, metavar="N", help="Shrink to whole replicas instead of waiting.")
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
        typer.Option("--out", metavar="FILE", help="With --fit: write a preset here.", callback=output_file),
    ] = None,
    engine: Annotated[Engine, typer.Option("--engine", help="Who answers; auto: the fastest that can.")] = "auto",
    runs: Annotated[
        int | None,
        typer.Option("--runs", min=2, metavar="N", help="Runs (default: standard errors of at most 1 % of the mean)."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, metavar="S", help="Of the random numbers.")] = 0,
    json: Json = False,
) -> None:
    """What failures and checkpoints leave of the time: closed form, Monte Carlo, best interval.

    A log of incidents has the columns start and class and, where known, end and node; times as "3.5 days" or dates.
    """
    asked = {"PRESET or SCENARIO": source, "--mtbf": mtbf, "--case": case, "--fit": fit, "--replay": replay}
    given = [name for name, value in asked.items() if value is not None]
    if len(given) != 1:
        raise InputError(f"give one of {', '.join(asked)}; given: {' and '.join(given) or 'none'}")
    if set and source is None:
        raise InputError("--set changes a preset or a scenario; name one")
    options = _Options(
        gpus, gpus_per_node, interval, checkpoint, persist, recovery, immune, spares, repair, replicas, work
    )
    if case is not None:
        _answer(case, trace, engine, runs, seed, json=json)
    elif fit is not None:
        _fit(_log(fit, observed), fit.name, options, out, json=json)
    elif replay is not None:
        if engine == "closed_form":
            raise InputError("--engine closed_form cannot replay a log; allowed: auto, des, compiled")
        _replay(_log(replay, observed), options, engine, json=json)
    else:
        setup = options.plain(mtbf) if mtbf is not None else options.of_source(source or "", tuple(set or ()))
        _look(setup, engine, runs, seed, curve=curve, json=json)


@dataclass(frozen=True, slots=True)
class _Options:
    """What was asked for about the job, as written."""

    gpus: int
    gpus_per_node: int
    interval: Time
    checkpoint: Time
    persist: Time
    recovery: Time
    immune: bool
    spares: int | None
    repair: str
    replicas: int | None
    work: str

    @property
    def nodes(self) -> int:
        return -(-self.gpus // self.gpus_per_node)

    @property
    def checkpoint_s(self) -> float:
        return _seconds("--checkpoint", self.checkpoint or "30 s")

    def interval_s(self) -> float | str:
        """Seconds, or the name of a formula."""
        text = self.interval or "exact"
        return text if text in BEST else _seconds("--interval", text, above_zero=True)

    def after(self) -> Recovery:
        """The recovery asked for: one phase of a fixed time."""
        from simtrain.reliability.job import Law, Recovery

        law = Law("fixed", _seconds("--recovery", self.recovery or "10 min"))
        return Recovery(phases=(("recovery", law),), interruptible=not self.immune)

    def fleet(self, *, replayed: bool = False) -> Fleet | None:
        """Nodes, spares and repair; None where nobody asked."""
        from simtrain.reliability.job import Fleet, Law

        if self.spares is None and self.replicas is None:
            return None
        if self.replicas and self.nodes % self.replicas:
            raise InputError(f"--replicas = {self.replicas} does not divide the {self.nodes} nodes of the job")
        return Fleet(
            nodes=self.nodes,
            spares=self.spares or 0,
            repair=Law("exponential", _seconds("--repair", self.repair, above_zero=True)),
            failures_while_stopped=replayed,
            policy="shrink" if self.replicas else "spare",
            nodes_per_replica=self.nodes // self.replicas if self.replicas else 1,
        )

    def plain(self, mtbf: str) -> Setup:
        """GPUs that all fail alike."""
        from simtrain.reliability.alone import one_class

        classes = one_class(self.gpus, _seconds("--mtbf", mtbf, above_zero=True))
        return self._setup(classes, self.after())

    def of_source(self, source: str, changes: tuple[str, ...]) -> Setup:
        """Classes of a preset, for so many GPUs; or the Job of a scenario."""
        if not _is_preset(source):
            return self._of_scenario(source, changes)
        from simtrain.reliability.alone import classes_of_preset, recovery_of_preset
        from simtrain.scenario.load import load_preset

        preset = load_preset(source, *changes)
        after = self.after() if self.recovery else recovery_of_preset(preset.recovery, self.gpus)
        if self.immune:
            after = replace(after, interruptible=False)
        return self._setup(classes_of_preset(preset, self.gpus, self.nodes), after)

    def _setup(self, classes: tuple[FailureClass, ...], after: Recovery) -> Setup:
        from simtrain.reliability.alone import job_alone
        from simtrain.reliability.outlook import Setup

        work_s = _seconds("--work", self.work, above_zero=True)
        persist_s = None if self.persist is None else _seconds("--persist", self.persist)
        job = job_alone(classes, after, work_s, self.checkpoint_s, persist_s, self.fleet())
        return Setup(self.gpus, job, self.interval_s())

    def _of_scenario(self, source: str, changes: tuple[str, ...]) -> Setup:
        """A scenario says everything but what is asked for here in its place."""
        from simtrain.reliability.couple import job_of
        from simtrain.reliability.outlook import Setup
        from simtrain.scenario.load import load
        from simtrain.step.simulate import simulate_step

        loaded = load(source, *changes)
        with progress(f"simulating {loaded.name}"), blame(shown("scenario", source), loaded.name):
            step = simulate_step(loaded)
            job = job_of(step)
        checkpoint = job.checkpoint
        if self.checkpoint is not None:
            checkpoint = replace(checkpoint, stall_s=self.checkpoint_s)
        if self.persist is not None:
            checkpoint = replace(checkpoint, kind="async", persist_s=_seconds("--persist", self.persist))
        after = (
            self.after()
            if self.recovery
            else replace(job.recovery, interruptible=not self.immune and job.recovery.interruptible)
        )
        job = replace(job, checkpoint=checkpoint, recovery=after, fleet=self.fleet() or job.fleet)
        return Setup(step.topology.gpus, job, self.interval_s() if self.interval else job.checkpoint.interval_s)


def _is_preset(source: str) -> bool:
    """Whether a name or a file is a preset: a document of failure classes alone.

    Raises:
        UnknownNameError: a name that is neither a preset's nor a scenario's.
    """
    from simtrain.scenario import library

    presets, scenarios = library.names("preset"), library.names("scenario")
    if Path(source).is_file():
        document = library.read(Path(source))
        return not {"cluster", "workload"} & set(document) and document.get("extends", presets[0]) in presets
    if source not in (*presets, *scenarios) and "/" not in source and not source.endswith(".yaml"):
        raise UnknownNameError("preset or scenario", source, (*presets, *scenarios))
    return source in presets


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


def _fit(log: IncidentLog, origin: str, options: _Options, out: Path | None, *, json: bool) -> None:
    from simtrain.reliability.fit import fit_incidents, fitted_document, fitted_yaml

    classes, gpus = fit_incidents(log), options.gpus
    recovery_s = options.after().mean_s
    if out:
        text = fitted_yaml(classes, log.observed_s, gpus, origin, f"{recovery_s:g} s")
        out.write_text(text, encoding="utf-8")
        say(f"wrote {out}")
    if json:
        print_json(fitted_document(classes, log.observed_s, gpus))
        return
    from simtrain.report.goodput_text import fit_table

    console().print(fit_table(classes, gpus))


def _replay(log: IncidentLog, options: _Options, engine: Literal["auto", "des", "compiled"], *, json: bool) -> None:
    from simtrain.reliability.closed_form import optimal_segment_s
    from simtrain.reliability.replay import replay

    interval_s = options.interval_s()
    if isinstance(interval_s, str):
        best_s = optimal_segment_s(log.observed_s / len(log.incidents), options.checkpoint_s)
        if best_s is None:
            raise InputError("--checkpoint = 0: the shorter the interval the better; give --interval, e.g. 10 min")
        interval_s = best_s
    with progress("replaying") as advance:
        found = replay(log, interval_s, options.checkpoint_s, options.after(), options.fleet(replayed=True), engine)
        advance()
    if json:
        print_json(found.document() | {"interval_s": interval_s})
        return
    from simtrain.report.goodput_text import replay_table

    console().print(replay_table(found, interval_s))
