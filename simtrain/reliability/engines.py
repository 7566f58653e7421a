"""Engines: a Job goes in, a RunResult comes out."""

from __future__ import annotations

import numpy as np

from simtrain.engines import Engine, choose
from simtrain.errors import InputError
from simtrain.reliability.job import Job
from simtrain.reliability.pack import pack
from simtrain.reliability.philox import seed_word
from simtrain.reliability.progress import DONE, EVENTS, FULL, MISSED, MODE, NOW, RESTARTS, WAITED, State, new_state
from simtrain.reliability.recovery import KINDS
from simtrain.reliability.result import BUCKETS, Event, RunResult

__all__ = ["simulate"]


def simulate(
    job: Job, runs: int = 1, seed: int = 0, engine: Engine = "auto", events: int = 0, first: int = 0
) -> RunResult:
    """Run a Job several times, each replicate with random numbers of its own.

    Args:
        job: what is run.
        runs: replicates, numbered from ``first`` on.
        seed: of the random numbers; the same seed and replicate give the same run on either engine.
        engine: auto takes the compiled one where numba is installed.
        events: replicates whose events are recorded.
        first: number of the first replicate.

    Raises:
        InputError: no run is asked for, or a negative seed.
        UnsupportedError: the compiled engine is asked for without numba.
    """
    if runs < 1 or seed < 0:
        raise InputError(f"runs = {runs}, seed = {seed} is impossible; allowed: 1 run or more, a seed of 0 or more")
    chosen = choose(engine)
    if chosen == "compiled":
        from simtrain.reliability.compiled import Runner
    else:
        from simtrain.reliability.des import Runner  # type: ignore[assignment]
    model, names = pack(job), tuple(c.name for c in job.classes)
    runner, room = Runner(job, model), 256
    state = new_state(model, seed_word(seed), 0)
    numbers = np.zeros((runs, 6))
    ledger = np.zeros((runs, len(BUCKETS)))
    failures = np.zeros((runs, len(names)), dtype=np.int64)
    recorded: list[tuple[Event, ...]] = []
    for i in range(runs):
        if i < events and not len(state.events):
            state = new_state(model, seed_word(seed), room)
        elif i == events:
            state = new_state(model, seed_word(seed), 0)
        runner.run(state, first + i)
        while i < events and state.s[EVENTS] > len(state.events):
            state = new_state(model, seed_word(seed), 2 * int(state.s[EVENTS]))
            runner.run(state, first + i)
        numbers[i] = [state.s[k] for k in (NOW, WAITED, FULL, MODE, MISSED, RESTARTS)]
        ledger[i], failures[i] = state.ledger, state.failures
        if i < events:
            recorded.append(_events(state, names))
    wall = numbers[:, 0]
    return RunResult(
        engine=chosen,
        seed=seed,
        classes=names,
        wall_s=wall,
        useful_s=ledger[:, 0],
        failures=failures,
        ledger={bucket: ledger[:, k] for k, bucket in enumerate(BUCKETS)},
        availability=1.0 - numbers[:, 1] / wall,
        full_width=numbers[:, 2] / wall,
        completed=numbers[:, 3] == DONE,
        nodes_down=numbers[:, 4] / wall,
        restarts=numbers[:, 5],
        recovery_can_fail=job.recovery.interruptible,
        events=tuple(recorded),
    )


def _events(state: State, names: tuple[str, ...]) -> tuple[Event, ...]:
    rows = state.events[: int(state.s[EVENTS])].tolist()
    return tuple(
        Event(t, KINDS[int(kind)], names[int(c)] if c >= 0 else "", value, useful) for t, kind, c, value, useful in rows
    )
