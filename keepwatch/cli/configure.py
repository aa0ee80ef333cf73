"""``keepwatch config``: begin, check, show and describe the configuration. Changes no settings of a running daemon."""

import json
import logging
import os
from pathlib import Path
from typing import Annotated

import typer
from pathspec import GitIgnoreSpec

from config.jobs import JobSettings
from config.machine import Machine
from config.sample import sample
from config.secrets import SecretError, read_secret_file
from config.settings import Settings
from config.showing import show
from config.sources import FilesSource
from config.units import format_duration
from config.wording import counted
from keepwatch.cli.mounting import mount
from keepwatch.cli.options import JsonOption, Setup, StateOption
from keepwatch.cli.output import note, print_json
from keepwatch.errors import UsageError

_CODES = "0 done; 2 usage or configuration"


def register(root: typer.Typer) -> None:
    """Add the commands."""
    app = typer.Typer(help="Begin, check, show and describe the configuration.", no_args_is_help=True)
    mount(app, init, "keepwatch config init --output /etc/keepwatch/keepwatch.toml", _CODES)
    mount(app, check, "keepwatch config check --config ./keepwatch.toml", _CODES)
    mount(app, show_settings, "keepwatch config show --json", _CODES, name="show")
    mount(app, schema, "keepwatch config schema > keepwatch.schema.json", _CODES)
    root.add_typer(app, name="config")


def init(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to this new file instead of stdout.")
    ] = None,
    state_dir: StateOption = None,
) -> None:
    """Write a commented keepwatch.toml that does what the embedded default does."""
    text = sample(state_dir.absolute() if state_dir else Machine.here(os.environ).state_dir)
    if output is None:
        print(text, end="")
        return
    try:
        with output.open("x", encoding="utf-8") as file:  # "x" refuses an existing file without a moment in between
            file.write(text)
    except FileExistsError:
        raise UsageError(f"cannot write {output}: it exists", hint="name another file, or move it away") from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UsageError(f"cannot write {output}: {reason}", hint="name a file in a folder you may write to") from error
    note(f"wrote {output}; check your changes with: keepwatch config check --config {output}")


def check(setup: Setup) -> None:
    """Check everything the configuration says, and tell every problem with its line."""
    settings = setup.settings
    counts = (
        (len(settings.checks), "check"),
        (len(settings.jobs), "job"),
        (len(settings.repositories), "repository"),
        (len(settings.notify), "notification channel"),
    )
    files = ", ".join(str(file) for file in setup.document.files if file) or "embedded default"
    print(f"{', '.join(counted(number, word) for number, word in counts)}: no problems in {files}")
    in_vain = [] if setup.path is None else unread_secrets(settings)  # the first start makes the default's password
    for remark in [*remarks(settings), *in_vain, *unknown_services(settings)]:
        note(f"note: {remark}")


def show_settings(setup: Setup, as_json: JsonOption = False) -> None:
    """Print the settings in force as TOML, secrets masked, defaults marked."""
    shown = show(setup.settings, setup.document)
    files = [str(file) for file in setup.document.files if file]
    if as_json:
        print_json({"files": files, "settings": shown.data, "defaults": shown.default_names()})
    else:
        print(f"# settings in force, from {', '.join(files) or 'the embedded default'}\n\n{shown.as_toml()}", end="")


def schema() -> None:
    """Print the JSON Schema of keepwatch.toml, by which editors complete and check it."""
    print(json.dumps(Settings.json_schema(), indent=2))


def remarks(settings: Settings) -> list[str]:
    """Say what is allowed and yet hardly meant."""
    found = []
    if not settings.checks:
        found.append("nothing is watched: there is no [[checks]]")
    if not settings.jobs:
        found.append("nothing is backed up: there is no [jobs.NAME]")
    if not settings.notify:
        found.append("nobody is told of alerts: there is no [[notify]]")
    found += [
        f"what repository {name} stores is protected for its first {format_duration(repository.object_lock)} only:"
        " object_lock is set, and no extend renews it"
        for name, repository in settings.repositories.items()
        if repository.object_lock is not None and repository.extend is None
    ]
    for name, job in settings.jobs.items():
        if job.incremental is None and job.full is None:
            found.append(f"job {name} runs only by hand: it has neither incremental nor full")
        if job.drill is None:
            found.append(f"nothing proves that job {name} comes back: it has no drill")
        found += [
            f"job {name} backs up its own repository {repository}, so that every run has more to save than the last;"
            " add the repository's folder to exclude"
            for repository in job.repositories
            if _swallows(job, Path(settings.repositories[repository].url.removeprefix("local:")))
        ]
    return found


def unread_secrets(settings: Settings) -> list[str]:
    """Say which files of repositories cannot be read here and now; the service may be another user, or not there yet.

    Runs no ``password_command``: a check changes nothing, and asks nobody.
    """
    found = []
    for name, repository in settings.repositories.items():
        for key in ("password_file", "access_key_id_file", "secret_access_key_file"):
            file = getattr(repository, key)
            try:
                file and read_secret_file(file, os.environ)
            except SecretError as error:
                found.append(f"repository {name}, {key}: {error}; {error.hint}")
    return found


def unknown_services(settings: Settings) -> list[str]:
    """Say which channels no service of Apprise would take a message for."""
    if not settings.notify:
        return []
    import apprise

    logging.getLogger("apprise").disabled = True  # it would quote the url, with the secret in it
    return [
        f"channel {channel.name} can tell nobody: Apprise knows no service by such a url, or it lacks something"
        for channel in settings.notify
        if apprise.Apprise.instantiate(channel.url.get_secret_value()) is None
    ]


def _swallows(job: JobSettings, repository: Path) -> bool:
    """Tell whether a repository's folder is among what a job backs up."""
    if not isinstance(job.source, FilesSource):
        return False
    excluded = GitIgnoreSpec.from_lines(job.source.exclude)
    return any(
        repository.is_relative_to(path)
        and not excluded.match_file(f"{repository.relative_to('/')}/")
        and not excluded.match_file(f"{repository.relative_to(path)}/")
        for path in job.source.paths
    )
