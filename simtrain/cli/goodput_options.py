"""What ``simtrain goodput`` can be asked, and which of its options say something about which question."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from simtrain.cli.options import output_file
from simtrain.errors import InputError, QuantityError

__all__ = ["Asked", "Question", "question", "refuse_what_is_moot", "seconds"]

EngineName = Literal["auto", "des", "compiled", "closed_form"]
Source = Annotated[
    str | None, typer.Argument(metavar="[PRESET|SCENARIO]", help="Failure classes of a preset, or a scenario.")
]
Case = Annotated[
    Path | None, typer.Option("--case", metavar="FILE", help="Answer one case: JSON with kind and params.")
]
Trace = Annotated[
    Path | None, typer.Option("--trace", metavar="FILE", help="With --case: recorded faults that it replays.")
]
Mtbf = Annotated[str | None, typer.Option("--mtbf", metavar="TIME", help="Time between failures of one GPU.")]
Gpus = Annotated[int, typer.Option("--gpus", min=1, metavar="N", help="GPUs of the job.")]
GpusPerNode = Annotated[int, typer.Option("--gpus-per-node", min=1, metavar="N", help="GPUs of a node.")]
Interval = Annotated[
    str | None,
    typer.Option(
        "--interval", metavar="TIME", help="Work between checkpoints, or exact (default), young, daly; SCENARIO: steps."
    ),
]
Stall = Annotated[
    str | None, typer.Option("--checkpoint", metavar="TIME", help="Stall of a checkpoint (default 30 s, or SOURCE's).")
]
Persist = Annotated[
    str | None, typer.Option("--persist", metavar="TIME", help="Asynchronous: durable so long after its stall.")
]
RecoveryTime = Annotated[
    str | None,
    typer.Option(
        "--recovery", metavar="TIME", help="Failure to first useful step, of every class (default 10 min, or SOURCE's)."
    ),
]
Immune = Annotated[bool, typer.Option("--immune", help="No failure strikes during a recovery.")]
Spares = Annotated[
    int | None, typer.Option("--spares", min=0, metavar="N", help="Cold spare nodes (default: always enough).")
]
Repair = Annotated[
    str, typer.Option("--repair", metavar="TIME", help="With spares: mean time of a node in repair, exponential.")
]
Replicas = Annotated[
    int | None, typer.Option("--replicas", min=1, metavar="N", help="Shrink to whole replicas instead of waiting.")
]
Work = Annotated[str, typer.Option("--work", metavar="TIME", help="Useful work of the run.")]
Curve = Annotated[bool, typer.Option("--curve", help="Also goodput against the interval.")]
WhatIfPage = Annotated[
    Path | None,
    typer.Option(
        "--what-if",
        metavar="FILE",
        help="Write a page of what other rates, intervals, recovery, spares and sizes would change (HTML).",
        callback=output_file,
    ),
]
Fit = Annotated[
    Path | None, typer.Option("--fit", metavar="FILE", help="Fit failure classes to a log of incidents (CSV).")
]
Replayed = Annotated[
    Path | None, typer.Option("--replay", metavar="FILE", help="Train through a log (CSV) or a trace (JSON).")
]
Observed = Annotated[
    str | None, typer.Option("--observed", metavar="TIME", help="Length of the log (default: to its last entry).")
]
Out = Annotated[
    Path | None, typer.Option("--out", metavar="FILE", help="With --fit: write a preset here.", callback=output_file)
]
Engine = Annotated[EngineName, typer.Option("--engine", help="Who answers; auto: the fastest that can.")]
Runs = Annotated[
    int | None,
    typer.Option("--runs", min=2, metavar="N", help="Runs (default: standard errors of at most 1 % of the mean)."),
]
Seed = Annotated[int, typer.Option("--seed", min=0, metavar="S", help="Of the random numbers.")]

Question = Literal["--mtbf", "PRESET", "SCENARIO", "--case", "--fit", "--replay"]

_MODEL = {"interval", "checkpoint", "persist", "recovery", "immune", "spares", "repair", "replicas", "work"}
_SIZE = {"gpus", "gpus_per_node"}
_LOOK = {"curve", "what_if", "engine", "runs", "seed"}
_TAKES: dict[Question, set[str]] = {
    "--mtbf": _MODEL | _SIZE | _LOOK,
    "PRESET": _MODEL | _SIZE | _LOOK | {"set"},
    "SCENARIO": _MODEL - {"replicas"} | _LOOK | {"set"},
    "--case": {"trace", "engine", "runs", "seed"},
    "--fit": {"gpus", "recovery", "observed", "out"},
    "--replay": _MODEL - {"persist", "repair", "work"} | _SIZE | {"observed", "engine"},
}
"""Question -> parameters that change its answer."""
_NAMES = {"set": "--set", "what_if": "--what-if", "gpus_per_node": "--gpus-per-node"}
_ELSEWHERE = {
    ("SCENARIO", "gpus"): "it has a cluster of its own: --set cluster.nodes=N",
    ("SCENARIO", "gpus_per_node"): "it has a cluster of its own: --set cluster.node=NAME",
    ("SCENARIO", "replicas"): "its layout has them: --set reliability.spares.policy=shrink, or replica",
    ("--replay", "persist"): "checkpoints are blocking there",
    ("--replay", "repair"): "the log says how long each node was away",
    ("--replay", "work"): "the log says how long",
    ("--replay", "runs"): "nothing in it is random",
    ("--replay", "seed"): "nothing in it is random",
}


def refuse_what_is_moot(asked: Question, given: set[str], values: dict[str, object]) -> None:
    """Refuse options that would not change the answer.

    Args:
        asked: the question.
        given: parameters that were given.
        values: all of them.

    Raises:
        InputError: one is moot; says why, or what it goes with.
    """
    for key in sorted(given - _TAKES[asked]):
        name = _NAMES.get(key, f"--{key}")
        why = _ELSEWHERE.get((asked, key))
        others = [question for question, takes in _TAKES.items() if key in takes]
        raise InputError(f"{name} says nothing about {asked}; {why or 'it goes with ' + ' or '.join(others)}")
    if asked == "--fit" and "recovery" in given and values["out"] is None:
        raise InputError("--recovery goes into the preset that --out FILE writes; give --out as well")
    closed = values["engine"] == "closed_form"
    for key in ("runs", "seed"):
        if closed and key in given:
            raise InputError(f"--{key} says nothing about --engine closed_form, which runs nothing")
    if values["what_if"] is not None and given & {"curve", "engine"}:
        raise InputError("--what-if runs the fastest engine and holds the curve; leave out --curve and --engine")


def question(values: dict[str, object], is_preset: bool) -> Question:
    """Which of the questions is asked.

    Raises:
        InputError: none, or several.
    """
    asked = {"PRESET or SCENARIO": "source", "--mtbf": "mtbf", "--case": "case", "--fit": "fit", "--replay": "replay"}
    given = [name for name, key in asked.items() if values[key] is not None]
    if len(given) != 1:
        raise InputError(f"give one of {', '.join(asked)}; given: {' and '.join(given) or 'none'}")
    if values["source"] is not None:
        return "PRESET" if is_preset else "SCENARIO"
    return given[0]  # type: ignore[return-value]


def seconds(option: str, text: str, *, above_zero: bool = False) -> float:
    """The time that an option was given, in s.

    Raises:
        InputError: no time, or 0 where it must not be.
    """
    from simtrain.quantities import parse_quantity

    try:
        value = parse_quantity(text, "time")
    except QuantityError as error:
        raise InputError(f"{option} = {error}") from None
    if above_zero and value == 0:
        raise InputError(f"{option} = {text!r} is not allowed; it must be above 0 s")
    return value


@dataclass(frozen=True, slots=True)
class Asked:
    """What the options say about the job, as written; ``given`` are those that a user wrote."""

    gpus: int
    gpus_per_node: int
    interval: str | None
    checkpoint: str | None
    persist: str | None
    recovery: str | None
    immune: bool
    spares: int | None
    repair: str
    replicas: int | None
    work: str
    given: frozenset[str]

    @property
    def nodes(self) -> int:
        """Nodes that hold the GPUs."""
        return -(-self.gpus // self.gpus_per_node)
