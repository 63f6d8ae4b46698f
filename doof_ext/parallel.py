"""Work on all cores, in processes of their own."""

import concurrent.futures
import multiprocessing
import os

from doof_ext.errors import UserError


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_parallel(function, jobs, processes):
    """Yields ``function(job)`` for each job, in order, from that many processes; UserError where one ends early."""
    if processes == 1:  # not worth starting a process
        yield from map(function, jobs)
        return
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(processes, mp_context=context) as pool:
        try:
            yield from pool.map(function, jobs)
        except concurrent.futures.process.BrokenProcessPool as error:
            raise UserError(
                "a worker process ended early: killed, for want of memory perhaps, or started by a script that does "
                "not keep its work under `if __name__ == '__main__':`"
            ) from error
