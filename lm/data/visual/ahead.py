"""Batches made ahead of the step that reads them, by threads or processes of grain."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from multiprocessing import parent_process
from multiprocessing.resource_tracker import ensure_running
from typing import Any

from absl import flags

from lm.core.errors import ConfigError
from lm.data.visual.rows import VisionBatch

OF_THE_RUN = (signal.SIGINT, signal.SIGTERM)
Batches = Callable[[int], tuple[VisionBatch, list[str]]]


@contextmanager
def prefetched(
    batches: Batches, first: int, last: int, workers: int
) -> Iterator[Iterator[tuple[VisionBatch, list[str]]]]:
    """`batches(step)` for the steps from `first` on, made ahead by grain until they are left.

    Args:
      workers: processes; 0: threads of this one, which is enough where images are small.

    Raises:
      ConfigError: grain is not installed.
    """
    try:
        import grain
    except ImportError:
        raise ConfigError("images need grain: pip install 'lm[records,images]'") from None
    threads = grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)
    steps = grain.MapDataset.range(first, last).map(batches).to_iter_dataset(threads)
    if workers:
        if not flags.FLAGS.is_parsed():  # in a program of the user's: grain reads absl's flags
            flags.FLAGS.mark_as_parsed()
        # through pipes: grain leaves some of the memory that it would share behind (0.2.18)
        piped = grain.experimental.DatasetOptions(min_shm_size=sys.maxsize)
        steps = grain.experimental.WithOptionsIterDataset(steps, piped)
        options = grain.MultiprocessingOptions(num_workers=workers)
        steps = steps.mp_prefetch(options, worker_init_fn=left_to_the_run)
    begun = held_back if workers else nullcontext
    with begun():
        made: Any = iter(steps)
    ahead = one_by_one(made, begun)
    try:
        yield ahead
    finally:
        ahead.close()  # whoever still has it does not hold what is closed
        made.close()


def one_by_one(
    made: Iterator[Any], begun: Callable[[], AbstractContextManager[None]]
) -> Generator[Any, None, None]:
    """What is made; with the first of it, in `begun`, grain begins its processes."""
    with begun():
        first = next(made, None)
    if first is not None:
        yield first
        yield from made


@contextmanager
def held_back() -> Iterator[None]:
    """What begins in here inherits that the run's signals are held back: one that comes before
    `left_to_the_run` ends no process."""
    ensure_running()  # Python's own process, which lets them through again when it begins
    before = signal.pthread_sigmask(signal.SIG_BLOCK, OF_THE_RUN)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def left_to_the_run(*_: int) -> None:
    """A signal to the whole group is the run's, which ends its processes; they end when it does."""
    for number in OF_THE_RUN:
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=end_with, args=(parent_process(),), daemon=True).start()


def end_with(run: Any) -> None:
    run.join()
    os._exit(1)
