"""``python -m keepwatch`` and the console script: begins what takes long, and hands over to the command line."""

import os
import sys


def main() -> None:
    """Run the command line and exit with its status."""
    from keepwatch.headstart import begin

    begin(sys.argv[1:], os.environ)  # goes on while what follows is being imported
    from keepwatch.cli.app import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
