"""The answers of ``simtrain goodput``: worked out under a progress bar, printed as tables or JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from simtrain.cli.goodput_options import Asked, EngineName, seconds
from simtrain.cli.goodput_setup import fleet_replayed, interval_replayed, recovery_asked
from simtrain.cli.options import console, print_json, progress, say
from simtrain.errors import InputError
from simtrain.report import goodput_text as text

if TYPE_CHECKING:
    from simtrain.reliability.incidents import IncidentLog
    from simtrain.reliability.subject import Subject

__all__ = ["case", "fit", "look", "replay", "what_if"]


def case(file: Path, trace: Path | None, engine: EngineName, runs: int | None, seed: int, *, json: bool) -> None:
    """Answer one case."""
    from simtrain.reliability.solve import read_case, solve

    read = read_case(file, trace)
    with progress(f"answering {read.id}") as advance:
        solved = solve(read, engine, runs, seed, said=say, done=lambda share: advance(amount=share))
    if json:
        print_json(solved.document())
        return
    console().print(text.case_table(solved))


def look(
    subject: Subject, asked: Asked, engine: EngineName, runs: int | None, seed: int, *, curve: bool, json: bool
) -> None:
    """Goodput by formula and by Monte Carlo, and with ``curve`` against the interval."""
    from simtrain.reliability.outlook import curve_intervals, look, sweep_intervals

    setup, runs = subject.setup, runs or subject.runs
    seed = seed if "seed" in asked.given else subject.seed
    engine = engine if "engine" in asked.given else subject.engine
    intervals_s = curve_intervals(setup) if curve else ()
    with progress("simulating failures", total=1 + len(intervals_s)) as advance:
        found = look(setup, engine, runs, seed, lambda share: advance(amount=share))
        points = sweep_intervals(setup, intervals_s, engine, runs, seed, lambda share: advance(amount=share))
    for what in setup.approximations() if found.closed_form else ():
        say(f"simtrain: note: the formula leaves out {what}")
    if subject.step is None and subject.part.recovery.warmup_steps:
        say("simtrain: note: without a model, reading its checkpoint and steps of warm-up take no time")
    for what in found.warnings():
        say(f"simtrain: note: {what}")
    if json:
        print_json(found.document() | {"curve": [point.document() for point in points]})
        return
    console().print(text.outlook_table(found))
    if points:
        console().print(text.curve_table(points))


def what_if(subject: Subject, page: Path, runs: int | None, seed: int, *, json: bool) -> None:
    """A page of what changes if failures, recovery, checkpoints, spares and size do."""
    from simtrain.reliability.study import RUNS, STAGES, study_of
    from simtrain.report.what_if_page import write_what_if

    with progress("what if", total=STAGES) as advance:
        study = study_of(subject, runs or RUNS, seed, advance)
        write_what_if(study, page)
    say(f"wrote {page}")
    if json:
        print_json(study.document())
        return
    console().print(text.what_if_table(study))


def _log(path: Path, observed: str | None) -> IncidentLog:
    from simtrain.reliability.incidents import read_incidents

    return read_incidents(path, seconds("--observed", observed, above_zero=True) if observed else None)


def fit(file: Path, observed: str | None, asked: Asked, out: Path | None, *, json: bool) -> None:
    """Failure classes fitted to a log, and a preset of them."""
    from simtrain.reliability.fit import fit_incidents, fitted_document, fitted_yaml

    log = _log(file, observed)
    classes, gpus = fit_incidents(log), asked.gpus
    if out:
        recovery = f"{recovery_asked(asked).mean_s:g} s"
        out.write_text(fitted_yaml(classes, log.observed_s, gpus, file.name, recovery), encoding="utf-8")
        say(f"wrote {out}")
    if json:
        print_json(fitted_document(classes, log.observed_s, gpus))
        return
    console().print(text.fit_table(classes, gpus))


def replay(file: Path, observed: str | None, asked: Asked, engine: EngineName, *, json: bool) -> None:
    """A job trained through a log."""
    from simtrain.reliability.alone import STALL_S
    from simtrain.reliability.optimum import best_interval
    from simtrain.reliability.replay import replay

    log, interval_s = _log(file, observed), interval_replayed(asked)
    stall_s = STALL_S if asked.checkpoint is None else seconds("--checkpoint", asked.checkpoint)
    if isinstance(interval_s, str):
        if stall_s == 0:
            raise InputError("--checkpoint = 0: the shorter the interval the better; give --interval, e.g. 10 min")
        interval_s = best_interval(interval_s, log.observed_s / len(log.incidents), stall_s)
    if engine == "closed_form":
        raise InputError("--engine closed_form cannot replay a log; allowed: auto, des, compiled")
    with progress("replaying") as advance:
        found = replay(log, interval_s, stall_s, recovery_asked(asked), fleet_replayed(asked), engine)
        advance()
    if json:
        print_json(found.document() | {"interval_s": interval_s})
        return
    console().print(text.replay_table(found, interval_s))
