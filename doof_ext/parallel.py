"""Work on all cores, in worker processes."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from doof_ext.errors import UserError

Job = TypeVar("Job")
Result = TypeVar("Result")


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_parallel(function: Callable[[Job], Result], jobs: Iterable[Job], processes: int) -> Iterator[Result]:
    """Yields ``function(job)`` for each job, in the order of the jobs.

    Args:
        function: A function that can be pickled, unless there is one process.
        jobs: Its arguments.
        processes: How many; 1 is this process.

    Raises:
        UserError: A worker process ended early.
    """
    if processes == 1:
        yield from map(function, jobs)
        return
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(processes, context, _end_with_parent) as pool:
        try:
            yield from pool.map(function, jobs)
        except concurrent.futures.process.BrokenProcessPool as error:
            raise UserError(
                "a worker process ended early: killed, for want of memory perhaps, or started by a script that does "
                "not keep its work under `if __name__ == '__main__':`"
            ) from error


def _end_with_parent() -> None:
    """Has this worker end when its parent does, killed as that may be: it would wait for work for ever."""

    def watch() -> None:
        parent = multiprocessing.parent_process()
        assert parent is not None
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
