"""Scenarios worked out on several cores."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from multiprocessing.connection import Connection, wait

from simtrain.scenario.scenario import Scenario
from simtrain.sweep.evaluate import Outcome, evaluate

__all__ = ["Job", "cores", "work"]

Job = tuple[str, Scenario]
"""A name and what it stands for."""
Done = list[tuple[str, Outcome]]

_CHUNK = 32
"""Most jobs handed out at once."""
_CHUNK_S = 0.5
"""Time that a chunk should take: what an interruption costs a worker, and far more than handing it out."""
_DIED = Outcome({"error": "the process that worked on it died, perhaps for lack of memory"}, final=False)


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def work(jobs: Iterable[Job], count: int, workers: int) -> Generator[Done, None, None]:
    """Outcomes in small batches, as they come.

    The first job is done in this process: what it compiles is then on disk for all workers.

    Args:
        jobs: made when they are needed.
        count: how many there are.
        workers: processes; 1: this one alone.
    """
    jobs = iter(jobs)
    for job in islice(jobs, 1 if workers > 1 else None):
        yield _answer([job])
    if workers > 1 and count > 1:
        yield from _in_processes(jobs, min(workers, count - 1))


class _Worker:
    """A process that answers chunks of jobs, one at a time, over a pipe of its own.

    With nothing shared, stopping one in the middle of an answer holds up nobody.
    """

    def __init__(self) -> None:
        # Spawned, not forked: threads of this process and locks they hold stay out of it.
        context = multiprocessing.get_context("spawn")
        self.pipe, far = context.Pipe()
        self._process = context.Process(target=_serve, args=(far,), daemon=True)
        with _interrupts_held():
            self._process.start()
        far.close()
        self._size = 1
        self.chunk: list[Job] = []
        self._sent_s = 0.0

    def take(self, jobs: Iterator[Job]) -> bool:
        """Hand out the next chunk; False where there is none."""
        self.chunk = list(islice(jobs, self._size))
        if self.chunk:
            self._sent_s = time.monotonic()
            with suppress(OSError):  # it died: the answer will say so
                self.pipe.send(self.chunk)
        return bool(self.chunk)

    def answer(self) -> Done:
        """What came back; EOFError or OSError where the process died."""
        done: Done = self.pipe.recv()
        took_s = time.monotonic() - self._sent_s
        self._size = max(1, min(_CHUNK, round(len(done) * _CHUNK_S / max(took_s, 1e-6))))
        return done

    def stop(self) -> None:
        """End the process, whatever it does."""
        self._process.terminate()
        self._process.join()
        self.pipe.close()


def _in_processes(jobs: Iterator[Job], count: int) -> Generator[Done, None, None]:
    again: list[Job] = []

    def left() -> Iterator[Job]:
        return iter(lambda: again.pop() if again else next(jobs, None), None)

    workers: list[_Worker] = []
    try:
        workers.extend(_Worker() for _ in range(count))
        busy = {worker.pipe: worker for worker in workers if worker.take(left())}
        while busy:
            for pipe in wait(list(busy)):
                worker = busy.pop(pipe)  # type: ignore[call-overload]
                try:
                    done = worker.answer()
                except (EOFError, OSError):
                    done = [(name, _DIED) for name, _ in worker.chunk] if len(worker.chunk) == 1 else []
                    again += [] if done else worker.chunk
                    workers.remove(worker)
                    worker.stop()
                    worker = _Worker()  # its first chunk is a single job
                    workers.append(worker)
                if worker.take(left()):
                    busy[worker.pipe] = worker
                yield done
    finally:
        for worker in workers:
            worker.stop()


def _serve(pipe: Connection) -> None:
    """In a worker: answer until the parent ends, however that is; Ctrl-C is the parent's affair."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        while True:
            pipe.send(_answer(pipe.recv()))
    except (EOFError, OSError):
        return


def _answer(chunk: list[Job]) -> Done:
    return [(name, evaluate(scenario)) for name, scenario in chunk]


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ctrl-C waits; a process started meanwhile never sees it, not even before it can ignore it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
