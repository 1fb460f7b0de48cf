"""A disk without room, as far as one process can have one.

Only around what is to fail: the test runner's own output may be a long file.
"""

import contextlib
import resource
import signal
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def small_disk(most_bytes: int = 4_000) -> Iterator[Callable[[], None]]:
    """Let no file grow beyond that: a write fails half done. Gives what makes room again."""
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, hard))

    def make_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    try:
        yield make_room
    finally:
        make_room()
        signal.signal(signal.SIGXFSZ, handler)
