"""Something that writes to a database while a test saves and drills it."""

import contextlib
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def meanwhile(write: Callable[[threading.Event], None]) -> Iterator[None]:
    """Have something written until the end; what goes wrong in its thread is the test's failure."""
    stop = threading.Event()
    writer = threading.Thread(target=write, args=(stop,))
    writer.start()
    try:
        yield
    finally:
        stop.set()
        writer.join()
