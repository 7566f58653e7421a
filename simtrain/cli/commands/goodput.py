"""``simtrain goodput``: failures and checkpoints alone."""

from __future__ import annotations

from dataclasses import fields

import typer

from simtrain.cli import goodput_options as take
from simtrain.cli.options import Json, Set

__all__ = ["goodput"]


def goodput(
    context: typer.Context,
    source: take.Source = None,
    set: Set = None,
    case: take.Case = None,
    trace: take.Trace = None,
    mtbf: take.Mtbf = None,
    gpus: take.Gpus = 2048,
    gpus_per_node: take.GpusPerNode = 8,
    interval: take.Interval = None,
    checkpoint: take.Stall = None,
    persist: take.Persist = None,
    recovery: take.RecoveryTime = None,
    immune: take.Immune = False,
    spares: take.Spares = None,
    repair: take.Repair = "2 days",
    replicas: take.Replicas = None,
    work: take.Work = "30 days",
    curve: take.Curve = False,
    what_if: take.WhatIfPage = None,
    fit: take.Fit = None,
    replay: take.Replayed = None,
    observed: take.Observed = None,
    out: take.Out = None,
    engine: take.Engine = "auto",
    runs: take.Runs = None,
    seed: take.Seed = 0,
    json: Json = False,
) -> None:
    """What failures and checkpoints leave of the time: closed form, Monte Carlo, best interval.

    A log of incidents has the columns start and class and, where known, end and node; times as "3.5 days" or dates.
    """
    asked, options = _read(context)
    from simtrain.cli import goodput_answers as answer

    if asked == "--case" and case:
        answer.case(case, trace, engine, runs, seed, json=json)
    elif asked == "--fit" and fit:
        answer.fit(fit, observed, options, out, json=json)
    elif asked == "--replay" and replay:
        answer.replay(replay, observed, options, engine, json=json)
    else:
        from simtrain.cli.goodput_setup import subject_of

        subject = subject_of(source or "", tuple(set or ()), mtbf, options)
        if what_if:
            answer.what_if(subject, what_if, runs, seed if "seed" in options.given else subject.seed, json=json)
        else:
            answer.look(subject, options, engine, runs, seed, curve=curve, json=json)


def _read(context: typer.Context) -> tuple[take.Question, take.Asked]:
    """The question, and the options for the job; options that say nothing are refused."""
    from simtrain.cli.goodput_setup import is_preset

    values = context.params
    given = {key for key in values if _was_given(context, key)}
    source = values["source"]
    asked = take.question(values, is_preset=source is not None and is_preset(source))
    take.refuse_what_is_moot(asked, given - {"source", "mtbf", "case", "fit", "replay", "json"}, values)
    job = {each.name: values[each.name] for each in fields(take.Asked) if each.name != "given"}
    return asked, take.Asked(**job, given=frozenset(given))


def _was_given(context: typer.Context, key: str) -> bool:
    where = context.get_parameter_source(key)
    return where is not None and where.name == "COMMANDLINE"
