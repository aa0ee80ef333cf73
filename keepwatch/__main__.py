"""``python -m keepwatch`` and the console script: begins what takes long, and hands over to the command line."""

import gc
import os
import sys

_OBJECTS_BETWEEN_COLLECTIONS = 20_000
"""What is imported stays: looking through it after every 700 new objects, as is usual, was a tenth of a command."""


def main() -> None:
    """Run the command line and exit with its status."""
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS)
    if sys.argv[1:3] == ["wal", "push"]:
        from keepwatch.wal.push import main as push  # a server waits for it, for each segment: it imports nothing else

        status = push(sys.argv[3:])
        if status is not None:
            sys.exit(status)
    from keepwatch.headstart import begin

    begin(sys.argv[1:], os.environ)  # goes on while what follows is being imported
    from keepwatch.cli.app import run

    status = run(sys.argv[1:])
    gc.freeze()  # or the interpreter, before it ends, looks for cycles in all that was ever imported, and then again
    sys.exit(status)


if __name__ == "__main__":
    main()
