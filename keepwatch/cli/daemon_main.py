"""What ``keepwatch run`` becomes: loads the settings, makes what the first use needs, says where things are, and runs.

Reads its options by hand: a command-line library would cost the daemon megabytes for as long as it lives.
"""

import os
import sys
from pathlib import Path

from config.loading import find_config, find_state_dir, load
from config.problems import ConfigProblems
from config.secrets import SecretError
from config.settings import Settings
from keepwatch import __version__, logs
from keepwatch.daemon import Daemon
from keepwatch.errors import KeepwatchError
from keepwatch.first_use import make_passwords
from keepwatch.state import StateDirectory
from keepwatch.web.server import ListenError


def main(arguments: list[str]) -> int:
    """Run the daemon until it is told to stop; returns the exit status."""
    options = dict(zip(arguments[::2], arguments[1::2], strict=True))
    config = Path(options["--config"]) if "--config" in options else None
    path = find_config(config, os.environ)
    given = Path(options["--state-dir"]) if "--state-dir" in options else None
    found = find_state_dir(given, path, os.environ)
    state_dir = found.absolute() if found else None
    logs.configure()

    def read() -> Settings:
        return load(path, environ=os.environ, state_dir=state_dir, listen=options.get("--listen"))

    try:
        settings = read()
        logs.configure(settings.daemon.log_format)
        state = StateDirectory(settings.daemon.state_dir)
        with state.lock("daemon", what=f"keepwatch on {state.path}"):
            state.tighten()
            made = make_passwords(settings) if path is None else []
            daemon = Daemon(settings, state, read)
            _introduce(settings, path, made, daemon.url)
            return daemon.run()
    except ConfigProblems as problems:
        for problem in problems.problems:
            print(problem, file=sys.stderr)
        print(f"hint: {problems.hint}", file=sys.stderr)
        return 2
    except (KeepwatchError, SecretError, ListenError) as error:
        print(f"keepwatch: {error}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        return getattr(error, "exit_code", 1)


def _introduce(settings: Settings, path: Path | None, made: list[Path], address: str) -> None:
    """Say where everything is; on the first use also what must not be lost."""
    lines = [
        f"keepwatch {__version__} watches {settings.daemon.host}",
        f"  settings   {path or 'embedded default (write your own with: keepwatch config init)'}",
        f"  state      {settings.daemon.state_dir}",
        *(
            f"  repository {r.url}  (password: {r.password_file or 'by command'})"
            for r in settings.repositories.values()
        ),
        f"  page       {address}",
        f"  metrics    {address}metrics",
    ]
    lines += [
        f"  A new repository password was made: {file}\n"
        "  Keep a copy of that file in a safe place off this machine: whoever loses it loses the backups."
        for file in made
    ]
    print("\n".join(lines), flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
