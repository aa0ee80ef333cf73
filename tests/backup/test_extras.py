"""A library that is not installed is named, with what installs it."""

import builtins
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from backup.applications.open import open_applications
from backup.errors import RestoreError, SourceError
from backup.sources.open import open_source
from config.sources import SourceSettings

JOBS = {
    "psycopg": {"type": "postgres", "dsn": "service=ledger"},
    "pymysql": {"type": "mariadb", "defaults_file": "/etc/mysql/backup.cnf"},
}


@pytest.mark.parametrize("library", JOBS)
def test_a_missing_driver_is_named_with_what_to_install(
    library: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] == library:
            raise ModuleNotFoundError(f"No module named {library!r}", name=library)
        return real(name, *rest)

    for loaded in [name for name in sys.modules if name.startswith(("backup.sources.", "backup.applications."))]:
        if any(kind in loaded for kind in ("postgres", "mariadb")):
            monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setattr(builtins, "__import__", without)
    source = TypeAdapter(SourceSettings).validate_python(JOBS[library], context={"environ": {}}, strict=False)
    with pytest.raises(SourceError, match=f"the library {library} is not installed") as caught:
        open_source(source, name="ledger", clock=lambda: datetime(2026, 3, 1, tzinfo=UTC), workspace=tmp_path)
    assert caught.value.hint == "pip install 'keepwatch[databases]'"
    with pytest.raises(RestoreError, match=library):
        open_applications(source, name="ledger")
