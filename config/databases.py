"""Settings of databases that jobs back up, but for PostgreSQL, which has a module of its own."""

from typing import Annotated, Literal

from pydantic import Field

from config.model import AbsolutePath, Model
from config.units import Duration

NewestColumn = Annotated[str, Field(pattern=r"^[^.]+\.[^.]+$")]
"""``TABLE.COLUMN``."""
NewestColumnOfDatabase = Annotated[str, Field(pattern=r"^[^.]+\.[^.]+\.[^.]+$")]
"""``DATABASE.TABLE.COLUMN``."""


class SqliteSource(Model):
    """A SQLite database file, copied page by page while others write to it."""

    type: Literal["sqlite"]
    path: AbsolutePath = Field(examples=["/srv/ledger/ledger.db"])
    """The database file; its write-ahead log is taken into account."""
    newest: list[NewestColumn] = Field([], examples=[["invoice.created_at"]])
    """Columns whose greatest value is noted at backup and must be back after a restore, as TABLE.COLUMN."""
    busy_timeout: Duration = Field("30s", validate_default=True)
    """How long to wait for a writer that holds the whole file."""

    @property
    def subject(self) -> str:
        """The file."""
        return str(self.path)
