"""The reference engine: SimPy processes for the trainer, every class of failures and the repair shop.

Nothing happens step by step: the trainer sleeps until its work or recovery ends, or until something wakes it.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Generator
from functools import partial
from typing import Any

import numpy as np
import simpy
from simpy.core import StopSimulation
from simpy.events import EventPriority

from simtrain.reliability import draws, machine
from simtrain.reliability.job import Job
from simtrain.reliability.pack import BURST, BURST_EVENTS, COMPONENTS, HORIZON, NOTICE, SINGLE, SYSTEM, Model
from simtrain.reliability.progress import (
    DONE,
    FOUND_AT,
    JOIN_AT,
    JOINING,
    MODE,
    NOW,
    RESTARTS,
    TO_SHOP,
    UNTIL,
    State,
    advance,
)
from simtrain.reliability.recovery import due

__all__ = ["Runner"]

Process = Generator[simpy.Event, Any, None]

_BLOCK = 32
"""Failures of a class that are drawn at once."""

_FIRST, _TRAINER, _FOUND, _SLOW, _PENDING, _CLASS = range(6)
"""Order of events at one instant; classes come last, in their order."""


class _At(simpy.Event):
    """An event at a time of its own, before those of higher order at the same time.

    SimPy schedules by delay, and now + (time - now) is not always the time: what is due at one instant would come in
    another order.
    """

    def __init__(self, env: simpy.Environment, time_s: float, order: int) -> None:
        super().__init__(env)
        self._ok, self._value = True, None
        heapq.heappush(env._queue, (max(time_s, env.now), EventPriority(order), next(env._eid), self))


class Runner:
    """Runs replicates of one job."""

    def __init__(self, job: Job, model: Model) -> None:
        self._model = model
        self._crews = job.fleet.crews if job.fleet else None

    def run(self, state: State, replicate: int) -> None:
        """Bring ``state`` to the end of a replicate."""
        _Run(self._model, state, replicate, self._crews).to_the_end()


class _Run:
    def __init__(self, model: Model, state: State, replicate: int, crews: int | None) -> None:
        self._m, self._st, self._s = model, state, state.s
        machine.begin(model, state, replicate)
        self._env = simpy.Environment()
        self._shop = simpy.Resource(self._env, crews) if crews else None
        self._events = [0] * len(model.classes)
        self._until, self._found_at, self._restarts = self._s[UNTIL], math.inf, 0.0
        self._trainer = self._env.process(self._train())
        self._trainer.callbacks.append(StopSimulation.callback)
        self._clocks = []
        for c in range(len(model.classes)):
            if model.classes[c, SYSTEM]:
                self._clocks.append(self._env.process(self._system(c)))
            elif model.classes[c, COMPONENTS]:
                self._env.process(self._class(c) if model.classes[c, SINGLE] else self._parts(c))

    def to_the_end(self) -> None:
        """Run until the work is done, or to the horizon."""
        horizon = self._m.job[HORIZON]
        if horizon < math.inf:
            _At(self._env, horizon, _FIRST).callbacks.append(StopSimulation.callback)
        self._env.run()
        if self._s[MODE] != DONE:
            advance(self._m, self._st, horizon)

    def _train(self) -> Process:
        s, env, ends = self._s, self._env, due.compiled
        while s[MODE] != DONE:
            self._until = s[UNTIL]
            try:
                yield _At(env, self._until, _TRAINER) if self._until < math.inf else env.event()
            except simpy.Interrupt:
                continue
            ends(self._m, self._st)
            self._until = s[UNTIL]
            self._follow_up()

    def _class(self, c: int) -> Process:
        """Failures of one class, drawn many at once: what happens to them does not change when they are."""
        env, order, drawn, since = self._env, _CLASS + c, 0, 0.0
        block = np.zeros((_BLOCK, 2))
        while since < math.inf:
            draws.gaps(self._m, self._st, c, drawn, since, block)
            drawn += _BLOCK
            for since, position in block.tolist():
                if since == math.inf:
                    return
                yield _At(env, since - self._m.classes[c, NOTICE], order)
                self._strike(c, since, position)

    def _parts(self, c: int) -> Process:
        """Failures of one class part by part; each part that failed starts anew."""
        m, st, env, order = self._m, self._st, self._env, _CLASS + c
        gap, drawn = draws.gap.compiled, [1] * int(m.classes[c, COMPONENTS])
        parts = [(*gap(m, st, c, i, 0, 0.0), i) for i in range(len(drawn))]
        heapq.heapify(parts)
        while parts[0][0] < math.inf:
            now, position, part = parts[0]
            yield _At(env, now - m.classes[c, NOTICE], order)
            self._strike(c, now, position)
            heapq.heapreplace(parts, (*gap(m, st, c, part, drawn[part], now), part))
            drawn[part] += 1

    def _system(self, c: int) -> Process:
        """Failures of a class whose clock starts anew whenever the job does."""
        m, st, drawn = self._m, self._st, 1
        now, position = draws.gap(m, st, c, 0, 0, 0.0)
        while True:
            try:
                yield _At(self._env, now, _CLASS + c) if now < math.inf else self._env.event()
                failed, now = now, math.inf
                self._event(c, failed, position, first=True)
            except simpy.Interrupt:
                now, position = draws.gap(m, st, c, 0, drawn, self._s[NOW])
                drawn += 1

    def _strike(self, c: int, at: float, position: float) -> None:
        """A failure at ``at``, which is now or, where it is announced, later."""
        notice_s = self._m.classes[c, NOTICE]
        if not notice_s:
            self._event(c, at, position, first=True)
            return
        machine.announced.compiled(self._m, self._st, c, max(0.0, at - notice_s), at, position)
        self._later(at, _PENDING, partial(self._event, c, position=position, first=True))
        self._follow_up()

    def _event(self, c: int, now: float, position: float, first: bool) -> None:
        m, st, s, draw = self._m, self._st, self._s, self._events[c]
        self._events[c] += 1
        machine.happen.compiled(m, st, c, draw, now, position)
        if s[MODE] != DONE:
            if first and m.classes[c, BURST]:
                self._burst(c, draw, now)
            for node in range(int(s[TO_SHOP])):
                lasts = draws.service.compiled(m, st, c, draw, node)
                if self._shop is None:
                    self._later(now + lasts, _PENDING, self._back)
                else:
                    self._env.process(self._repair(self._shop, lasts, now))
            for _ in range(int(s[JOINING])):
                self._later(s[JOIN_AT], _PENDING, self._back)
            if st.slow_until[c] > now:
                self._later(st.slow_until[c], _SLOW, partial(self._fast_again, c))
        self._follow_up()

    def _follow_up(self) -> None:
        """Wake whoever must know what has changed."""
        s = self._s
        if s[FOUND_AT] != self._found_at:
            self._found_at = s[FOUND_AT]
            if self._found_at < math.inf:
                self._later(self._found_at, _FOUND, self._find)
        if s[RESTARTS] != self._restarts:
            self._restarts = s[RESTARTS]
            for clock in self._clocks:
                clock.interrupt()
        if s[UNTIL] != self._until or s[MODE] == DONE:
            self._until = s[UNTIL]
            if self._env.active_process is not self._trainer and self._trainer.is_alive:
                self._trainer.interrupt()

    def _burst(self, c: int, draw: int, now: float) -> None:
        for k in range(int(self._m.classes[c, BURST_EVENTS])):
            after, position = draws.burst(self._m, self._st, c, draw, k)
            if after == math.inf:
                return
            self._later(now + after, _PENDING, partial(self._event, c, position=position, first=False))

    def _later(self, at: float, order: int, action: Callable[[float], None]) -> None:
        """Call ``action`` with its time when it has come; a process of its own would cost three times as much."""
        if at < math.inf:
            _At(self._env, at, order).callbacks.append(lambda _: action(at))

    def _repair(self, shop: simpy.Resource, lasts: float, now: float) -> Process:
        with shop.request() as crew:
            yield crew
            at = max(now, self._env.now) + lasts
            yield _At(self._env, at, _PENDING) if at < math.inf else self._env.event()
            self._back(at)

    def _back(self, at: float) -> None:
        machine.returned.compiled(self._m, self._st, at)
        self._follow_up()

    def _fast_again(self, c: int, at: float) -> None:
        if self._st.slow_until[c] == at:
            machine.slow_ends(self._m, self._st, c)
            self._follow_up()

    def _find(self, at: float) -> None:
        if self._s[FOUND_AT] == at:
            machine.found(self._m, self._st)
            self._follow_up()
