"""``python -m keepwatch`` and the console script: hands over to the command line."""

import sys


def main() -> None:
    """Run the command line and exit with its status."""
    from keepwatch.cli.app import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
