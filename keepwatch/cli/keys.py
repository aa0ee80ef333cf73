"""Commands on a repository's passwords: ``key list``, ``add``, ``remove``, ``passwd``.

A new password comes from a file or is asked for twice on a terminal, and goes nowhere but into the sealed key. After a
change the operator is told where the old one is still configured; files with secrets are never written from here.
"""

import getpass
import sys
from pathlib import Path
from typing import Annotated

import typer

from backup.errors import BackupError
from backup.keys import add_key, change_password, list_keys, remove_key
from backup.owner import Owner
from backup.repository import Repository
from backup.storage.base import FileKind
from config.jobs import RepositorySettings
from config.secrets import read_secret_file
from keepwatch.cli.mounting import exit_status, mount
from keepwatch.cli.opening import LOCK_WAIT, ChosenRepository
from keepwatch.cli.options import DryRunOption, JsonOption
from keepwatch.cli.output import moment, note, print_json, print_table
from keepwatch.clock import now
from keepwatch.errors import UsageError

_CODES = "0 done; 1 failed; 2 usage or configuration; 10 no repository; 11 locked; 12 wrong password"
NewPasswordOption = Annotated[
    Path | None,
    typer.Option("--new-password-file", help="Its first line is the new password.", show_default=False),
]

key_app = typer.Typer(
    help="The passwords that open a repository.",
    epilog=exit_status("keepwatch key list", _CODES),
    no_args_is_help=True,
    rich_markup_mode=None,
)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for name, command, example in (
        ("list", list_all, "keepwatch key list --json"),
        ("add", add, "keepwatch key add --new-password-file /root/second.password"),
        ("remove", remove, "keepwatch key remove 3f2a91c0"),
        ("passwd", passwd, "keepwatch key passwd --new-password-file /root/new.password"),
    ):
        mount(key_app, command, example, _CODES, name=name)
    app.add_typer(key_app, name="key")


def list_all(repository: ChosenRepository, as_json: JsonOption = False) -> None:
    """List who holds a password, and since when. The one in use is marked with a star."""
    opened = repository.open()
    keys = list_keys(opened.storage)
    current = opened.opened_key.id
    if as_json:
        print_json([
            {"id": key.id, "created_at": key.created_at, "username": key.username, "hostname": key.hostname,
             "current": key.id == current}
            for key in keys
        ])  # fmt: skip
        return
    zone = repository.zone
    rows = [
        ("*" if key.id == current else "", key.id[:8], key.username, key.hostname, moment(key.created_at, zone))
        for key in keys
    ]
    print_table(("", "id", "user", "host", "made"), rows, empty="no keys")


def add(repository: ChosenRepository, new_password_file: NewPasswordOption = None, as_json: JsonOption = False) -> None:
    """Let one more password open the repository."""
    opened = repository.open()
    password = _new_password(new_password_file)
    owner = Owner.current()
    with opened.lock(retry_for=LOCK_WAIT):
        opened.require_lock()
        name = add_key(
            opened.storage, opened.key, password, now=now(), username=owner.username, hostname=owner.hostname
        )
    print_json({"id": name}) if as_json else print(f"added key {name[:8]}: both passwords open the repository now")


def remove(
    repository: ChosenRepository,
    key: Annotated[str, typer.Argument(help="The key's id, or a prefix of it.", show_default=False)],
    dry_run: DryRunOption = False,
) -> None:
    """Take a password away. Refuses the one in use, and with it the last."""
    opened = repository.open()
    with opened.lock(exclusive=True, retry_for=LOCK_WAIT):
        opened.require_lock(exclusive=True)
        name = _key_named(opened, key)
        if dry_run and name != opened.opened_key.id:
            print(f"would remove key {name[:8]}")
            return
        remove_key(opened.storage, name, current=opened.opened_key.id)
    print(f"removed key {name[:8]}")
    note("whoever knew that password and has a copy of the repository can still read the copy")


def passwd(
    repository: ChosenRepository,
    new_password_file: NewPasswordOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change the password in use: the new one is proven to open the repository before the old one goes."""
    settings = repository.settings
    opened = repository.open()
    password = _new_password(new_password_file)
    owner = Owner.current()
    with opened.lock(exclusive=True, retry_for=LOCK_WAIT):
        opened.require_lock(exclusive=True)
        changed = change_password(
            opened.storage, opened.opened_key, password, now=now(), username=owner.username, hostname=owner.hostname
        )
    if as_json:
        print_json({"id": changed.id, "removed": opened.opened_key.id})
    else:
        print(f"key {changed.id[:8]} replaces key {opened.opened_key.id[:8]}")
    note(what_to_change(settings, new_password_file))


def what_to_change(settings: RepositorySettings, new_password_file: Path | None) -> str:
    """Say where the old password is still configured, and how to put the new one there."""
    begin = f"the old password of {settings.url} opens nothing any more; until this is done its runs fail (exit 12):"
    old = settings.password_file
    if old is None:
        return f"{begin}\n  let password_command print the new password"
    if new_password_file is None:
        return f"{begin}\n  write the new password as the first line of {old}, mode 600"
    if new_password_file.absolute() == old:
        return f"the new password was read from {old}, where it is configured: nothing is to be done"
    return (
        f"{begin}\n  install -m 600 {new_password_file.absolute()} {old}\n  or set password_file to the new file"
    )


def _key_named(opened: Repository, prefix: str) -> str:
    names = [file.name for file in opened.storage.list(FileKind.KEY) if prefix and file.name.startswith(prefix)]
    if len(names) != 1:
        reason = f"{len(names)} keys begin so" if names else "there is no such key"
        raise BackupError(f"could not remove key {prefix}: {reason}", hint="`keepwatch key list` shows all")
    return names[0]


def _new_password(file: Path | None) -> str:
    """Read the new password, or ask for it twice. Raises UsageError, SecretError."""
    if file is not None:
        return read_secret_file(file.absolute(), {}).get_secret_value()
    if not sys.stdin.isatty():
        raise UsageError("no new password is given", hint="add --new-password-file, or run this on a terminal")
    first = getpass.getpass("New password: ")
    if not first:
        raise UsageError("the new password is empty", hint="an empty password protects nothing")
    if getpass.getpass("Once more: ") != first:
        raise UsageError("the two passwords differ", hint="nothing was changed; try again")
    return first
