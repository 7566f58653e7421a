"""The job that ``simtrain goodput`` is asked about: a preset or a scenario, with what the options change in it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from simtrain.cli.goodput_options import Asked, seconds
from simtrain.cli.options import blame, progress, shown
from simtrain.errors import InputError, UnknownNameError
from simtrain.reliability.alone import setup_alone
from simtrain.reliability.headway import LONGEST
from simtrain.reliability.job import NOTHING, FailureClass, Fleet, Law, Recovery
from simtrain.reliability.outlook import Setup
from simtrain.reliability.subject import Subject
from simtrain.scenario.reliability import RULES, STEPS, Failures, Reliability, Spares, TimeLaw

__all__ = ["fleet_replayed", "interval_replayed", "is_preset", "recovery_asked", "subject_of"]


def is_preset(source: str) -> bool:
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


def subject_of(source: str, changes: tuple[str, ...], mtbf: str | None, asked: Asked) -> Subject:
    """The job of ``--mtbf``, of a preset or of a scenario, under the options.

    Raises:
        InputError: something in it is impossible; the message names the file or the option.
    """
    if mtbf is not None:
        seconds("--mtbf", mtbf, above_zero=True)
        part = Reliability(classes={"gpu": Failures.model_validate({"owner": "gpu", "mtbf": mtbf})})
        _check_replicas(asked)
        return _alone(_changed(part, asked), replace(asked, recovery=asked.recovery or "10 min"))
    if not is_preset(source):
        return _of_scenario(source, changes, asked)
    from simtrain.scenario.load import load_preset

    part = load_preset(source, *changes)
    _check_replicas(asked)
    part = _changed(part, asked)
    with blame(shown("preset", source), ""):
        return _alone(part, asked)


def _alone(part: Reliability, asked: Asked) -> Subject:
    work_s = seconds("--work", asked.work, above_zero=True)

    def setup_of(part: Reliability) -> Setup:
        return _recovering(setup_alone(part, asked.gpus, asked.nodes, work_s, asked.replicas), asked)

    return Subject(setup_of(part), asked.nodes, part, setup_of, runs=_runs(part))


def _of_scenario(source: str, changes: tuple[str, ...], asked: Asked) -> Subject:
    from simtrain.reliability.couple import job_of
    from simtrain.scenario.load import load
    from simtrain.step.simulate import simulate_step

    loaded = load(source, *changes)
    if loaded.reliability is None:
        raise InputError(
            f"{shown('scenario', source)} has no reliability, so nothing fails; give it some: --set reliability=h100 "
            "(simtrain catalog presets)"
        )
    part = _changed(loaded.reliability, asked)
    loaded = loaded.model_copy(update={"reliability": part})
    with progress(f"simulating {loaded.name}"), blame(shown("scenario", source), loaded.name):
        step = simulate_step(loaded)

        def setup_of(part: Reliability) -> Setup:
            scenario = loaded.model_copy(update={"reliability": part})
            job = job_of(replace(step, scenario=scenario))
            if "work" in asked.given:
                work_s = seconds("--work", asked.work, above_zero=True)
                job = replace(job, work_s=work_s, horizon_s=part.horizon or LONGEST * work_s)
            return _recovering(Setup(step.topology.gpus, job, job.checkpoint.interval_s), asked)

        setup = setup_of(part)
    return Subject(setup, step.topology.nodes, part, setup_of, step, loaded.seed, _runs(part), loaded.engine)


def _check_replicas(asked: Asked) -> None:
    if asked.replicas and asked.nodes % asked.replicas:
        raise InputError(f"--replicas = {asked.replicas} does not divide the {asked.nodes} nodes of the job")


def _runs(part: Reliability) -> int | None:
    if part.runs < 2:
        raise InputError("runs = 1 gives no interval of confidence; allowed here: 2 or more")
    return part.runs if "runs" in part.model_fields_set else None


def _changed(part: Reliability, asked: Asked) -> Reliability:
    """The reliability of a source with the options for checkpoints and spares in it.

    Raises:
        InputError: an option says nothing here.
    """
    kind, named = part.checkpoint.kind, "kind" in part.checkpoint.model_fields_set
    new: dict[str, Any] = {}
    for key, option, text in (
        ("interval", "--interval", asked.interval),
        ("stall", "--checkpoint", asked.checkpoint),
        ("persist", "--persist", asked.persist),
    ):
        if text is None:
            continue
        if named and (kind == "none" or (kind == "blocking" and key == "persist")):
            raise InputError(f"{option} says nothing about checkpoint.kind = {kind!r}; change that with --set")
        new[key] = _interval(text) if key == "interval" else seconds(option, text)
    return part.model_copy(
        update={"checkpoint": part.checkpoint.model_copy(update=new), "spares": _spares(part.spares, asked)}
    )


def _interval(text: str) -> str:
    if text not in RULES and not STEPS.fullmatch(text):
        seconds("--interval", text, above_zero=True)
    return text


def _spares(spares: Spares | None, asked: Asked) -> Spares | None:
    """Spare nodes and repair; None where neither the source nor an option has any."""
    new: dict[str, Any] = {} if asked.spares is None else {"cold": asked.spares}
    if spares is None and asked.spares is None and asked.replicas is None:
        if "repair" in asked.given:
            raise InputError("--repair says nothing while there are always enough nodes; give --spares or --replicas")
        return None
    if asked.replicas and (spares is None or spares.policy not in ("shrink", "replica")):
        new["policy"] = "shrink"
    if spares is None or "repair" in asked.given:
        seconds("--repair", asked.repair, above_zero=True)
        new["repair"] = TimeLaw.model_validate({"mean": asked.repair, "law": "exponential"})
    return (spares or Spares()).model_copy(update=new)


def recovery_asked(asked: Asked) -> Recovery:
    """One phase of a fixed time from the failure on."""
    law = Law("fixed", seconds("--recovery", asked.recovery or "10 min"))
    return Recovery(phases=(("recovery", law),), interruptible=not asked.immune)


def _recovering(setup: Setup, asked: Asked) -> Setup:
    """The setup with --recovery and --immune for every class, from storage and from memory."""
    job = setup.job
    if asked.recovery:
        after = recovery_asked(asked)
        after = replace(after, interruptible=after.interruptible and job.recovery.interruptible)
        saved = replace(job.checkpoint, memory_recovery=None)
        job = replace(job, recovery=after, classes=tuple(map(_plain, job.classes)), checkpoint=saved)
    if asked.immune:
        memory = job.checkpoint.memory_recovery
        job = replace(
            job,
            recovery=replace(job.recovery, interruptible=False),
            classes=tuple(replace(c, recovery=c.recovery and _immune(c.recovery)) for c in job.classes),
            checkpoint=replace(job.checkpoint, memory_recovery=memory and _immune(memory)),
        )
    return replace(setup, job=job)


def _plain(failures: FailureClass) -> FailureClass:
    """A class that recovers as the job does; what stops it is noticed within that time."""
    stops = failures.effect in ("stop", "hang")
    return replace(failures, recovery=None, detection=NOTHING if stops else failures.detection)


def _immune(recovery: Recovery) -> Recovery:
    return replace(recovery, interruptible=False)


def interval_replayed(asked: Asked) -> float | str:
    """Seconds between checkpoints, or the name of a rule.

    Raises:
        InputError: steps, which a log has not.
    """
    text = asked.interval or "exact"
    return text if text in RULES else seconds("--interval", text, above_zero=True)


def fleet_replayed(asked: Asked) -> Fleet | None:
    """Nodes and spares of a job that is replayed; None where there are always enough."""
    if asked.spares is None and asked.replicas is None:
        if "gpus" in asked.given or "gpus_per_node" in asked.given:
            raise InputError("--gpus and --gpus-per-node say how many nodes there are: give --spares or --replicas too")
        return None
    _check_replicas(asked)
    return Fleet(
        nodes=asked.nodes,
        spares=asked.spares or 0,
        failures_while_stopped=True,
        policy="shrink" if asked.replicas else "spare",
        nodes_per_replica=asked.nodes // asked.replicas if asked.replicas else 1,
    )
