"""The one place that turns a repository's URL, in restic's way of writing it, into a storage.

It refuses to guess: a scheme without a storage behind it is an error and never a folder of that name. What a URL does
not say (credentials, limits, retention) comes from the repository's settings; without any, S3 takes AWS's environment.
"""

import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Final, NamedTuple

from pydantic import SecretStr

from backup.errors import StorageError
from backup.storage.base import Storage
from backup.storage.counting import Counting
from backup.storage.halting import Halt
from backup.storage.limited import Bandwidth, Limit, Limited, Pace
from backup.storage.local import LocalStorage
from backup.storage.reading_ahead import ReadingAhead
from backup.storage.retrying import Retrying
from backup.storage.s3 import S3Options, S3Place, S3Storage
from config.jobs import RepositorySettings
from config.secrets import read_secret_file
from config.windows import WeeklyWindow

_SCHEME: Final = re.compile(r"([a-z][a-z0-9+]*):(.*)", re.DOTALL)
_S3: Final = re.compile(r"(?:(?P<scheme>https?)://|//)?(?P<host>[^/\s@]+)/(?P<bucket>[^/\s]+)(?:/(?P<prefix>[^\s?#]*))?")
_AWS_HOSTS: Final = {"s3.amazonaws.com", "s3-external-1.amazonaws.com"}


class _Wishes(NamedTuple):
    """What a constructor needs besides the URL's rest."""

    options: S3Options
    pace: Pace | None
    clock: Callable[[], datetime] | None
    halt: Halt | None = None


def _local(rest: str, wishes: _Wishes) -> Storage:
    storage = LocalStorage(Path(rest).expanduser())
    return storage if wishes.pace is None else Limited(storage, wishes.pace)


def _s3(rest: str, wishes: _Wishes) -> Storage:
    storage = S3Storage(parse_s3(rest), wishes.options, pace=wishes.pace, clock=wishes.clock)
    return ReadingAhead(Retrying(Counting(storage), halt=wishes.halt))


_CONSTRUCTORS: Final[Mapping[str, Callable[[str, _Wishes], Storage]]] = {"local": _local, "s3": _s3}


def open_storage(url: str) -> Storage:
    """Give the storage that ``url`` names: a path, or ``scheme:rest``. Nothing is opened or contacted yet.

    Raises StorageError (permanent) for a scheme that is not known, or a URL that names no place.
    """
    return _construct(url, _Wishes(S3Options(), None, None))


def open_configured(
    settings: RepositorySettings,
    *,
    clock: Callable[[], datetime],
    zone: tzinfo | None = None,
    environ: Mapping[str, str] | None = None,
    halt: Halt | None = None,
) -> Storage:
    """Give the storage of a configured repository.

    ``zone`` is where windows of the week are read; None for the machine's own. With ``halt`` nobody tries again or
    waits to once it is set. Raises StorageError as
    `open_storage`, SecretError for a key file that cannot be read.
    """
    options = _options(settings, os.environ if environ is None else environ)
    return _construct(settings.url, _Wishes(options, _pace(settings, clock, zone), clock, halt))


def open_bare(settings: RepositorySettings, environ: Mapping[str, str]) -> Storage:
    """Give the bucket of a configured repository to read from, with nothing that tries again, counts or limits.

    Raises as `open_configured`.
    """
    options = replace(_options(settings, environ), retention=None)
    return S3Storage(parse_s3(settings.url.removeprefix("s3:")), options)


def _options(settings: RepositorySettings, environ: Mapping[str, str]) -> S3Options:
    return S3Options(
        access_key_id=_secret(settings.access_key_id_file, environ),
        secret_access_key=_secret(settings.secret_access_key_file, environ),
        profile=settings.profile,
        region=settings.region,
        addressing=settings.addressing,
        storage_class=settings.storage_class,
        server_side_encryption=settings.server_side_encryption,
        server_side_encryption_key_id=settings.server_side_encryption_key_id,
        retention=settings.object_lock,
        retention_mode=settings.object_lock_mode,
    )


def parse_s3(rest: str) -> S3Place:
    """Read what stands after ``s3:``: ``https://host/bucket/prefix``, ``http://...``, ``[//]host/bucket``.

    Raises StorageError (permanent).
    """
    match = _S3.fullmatch(rest)
    if match is None:
        raise StorageError(
            "could not open s3:...: it does not name a host and a bucket",
            permanent=True,
            hint="write s3:https://host/bucket/prefix, without any key in it",
        )
    host = match["host"]
    endpoint = None if host in _AWS_HOSTS else f"{match['scheme'] or 'https'}://{host}"
    prefix = "/".join(part for part in (match["prefix"] or "").split("/") if part not in ("", "."))
    return S3Place(endpoint, match["bucket"], prefix)


def _construct(url: str, wishes: _Wishes) -> Storage:
    match = _SCHEME.fullmatch(url)
    scheme, rest = match.groups() if match else ("local", url)
    try:
        constructor = _CONSTRUCTORS[scheme]
    except KeyError:
        known = ", ".join(_CONSTRUCTORS)
        raise StorageError(
            f"could not open {scheme}:...: no storage of this kind (known: {known})",
            permanent=True,
            hint="write a path, or ./name for a folder whose name has a colon",
        ) from None
    return constructor(rest, wishes)


def _secret(file: Path | None, environ: Mapping[str, str]) -> SecretStr | None:
    return None if file is None else read_secret_file(file, environ)


def _pace(settings: RepositorySettings, clock: Callable[[], datetime], zone: tzinfo | None) -> Pace | None:
    def limit(rate: float | None, windows: Mapping[str, float]) -> Limit:
        parsed = tuple((WeeklyWindow.parse(window), within) for window, within in windows.items())
        return Limit(math.inf if rate is None else rate, parsed, zone)

    upload = limit(settings.upload_limit, settings.upload_limit_windows)
    download = limit(settings.download_limit, settings.download_limit_windows)
    if upload.never and download.never:
        return None
    return Bandwidth(settings.url, clock, upload=upload, download=download)
