"""Scenarios worked out on several cores."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from threading import Thread

from simtrain.errors import SimtrainError
from simtrain.scenario.scenario import Scenario
from simtrain.sweep.evaluate import Outcome, evaluate

__all__ = ["Job", "cores", "work"]

Job = tuple[str, Scenario]
"""A name and what it stands for."""
Done = list[tuple[str, Outcome]]

_CHUNK = 16
"""Most jobs handed out at once: what an interruption can cost a worker."""


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

    Raises:
        SimtrainError: a worker died.
    """
    jobs = iter(jobs)
    for job in islice(jobs, 1 if workers > 1 else None):
        yield _chunk_done([job])
    if workers > 1 and count > 1:
        size = max(1, min(_CHUNK, count // (8 * workers)))
        yield from _in_processes(iter(lambda: list(islice(jobs, size)), []), min(workers, count - 1))


def _in_processes(chunks: Iterator[list[Job]], workers: int) -> Generator[Done, None, None]:
    others = set(multiprocessing.active_children())
    # Spawned, not forked: threads of this process and locks they hold stay out of the workers.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_leave_with_parent)
    running: set[Future[Done]] = set()
    try:
        while True:
            with _signals_held():
                running |= {pool.submit(_chunk_done, chunk) for chunk in islice(chunks, 2 * workers - len(running))}
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
    except BrokenProcessPool:
        raise SimtrainError("a worker died, perhaps for lack of memory; fewer (--workers) need less") from None
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for child in set(multiprocessing.active_children()) - others:
            child.terminate()
        pool.shutdown()


def _chunk_done(chunk: list[Job]) -> Done:
    return [(name, evaluate(scenario)) for name, scenario in chunk]


def _leave_with_parent() -> None:
    """In a worker: leave Ctrl-C to the parent, and end when it ends, however that is."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def leave() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    Thread(target=leave, daemon=True).start()


@contextmanager
def _signals_held() -> Iterator[None]:
    """Ctrl-C waits; processes started meanwhile never see it, not even before they can ignore it.

    Nor do they and the threads started meanwhile end by a closed pipe, as the program itself does: a pool that is
    stopped closes its own.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGPIPE})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
