"""Settings of PostgreSQL as something that a job backs up."""

from typing import Literal

from pydantic import Field, field_validator

from config.expansion import SecretText
from config.model import AbsolutePath, Model, SecretFile


class PostgresSource(Model):
    """A PostgreSQL server: its databases as dumps, or the whole cluster as a base backup; 13 and newer."""

    type: Literal["postgres"]
    dsn: SecretText = Field(examples=["service=ledger"])
    """How to connect, in libpq's way: keywords, a URI, or a service of pg_service.conf; PG* variables fill the gaps."""
    password_file: SecretFile | None = Field(None, examples=["/etc/keepwatch/ledger.password"])
    """File whose first line is the password; libpq's own ways (such as ~/.pgpass) when left out."""
    method: Literal["physical", "logical"] = "physical"
    """Physical copies the cluster's files while it runs, and can be brought to any moment with its WAL; the user needs
    the attribute REPLICATION and should be a member of pg_monitor and pg_read_all_data. Logical dumps databases, which
    load into any newer version.
    """
    databases: list[str] = Field([], examples=[["ledger"]])
    """Databases to dump, and whose tables are counted; all when left out. A base backup holds them all anyway."""
    newest: list[str] = Field([], examples=[["public.invoice.created_at"]])
    """Columns whose greatest value goes into the manifest, as SCHEMA.TABLE.COLUMN or DATABASE.SCHEMA.TABLE.COLUMN:
    moments, dates or numbers.
    """
    count_rows: bool = True
    """Count the rows of every table, so that a drill can compare; reads them all once more."""
    checkpoint: Literal["fast", "spread"] = "fast"
    """How a base backup begins: with a checkpoint at once, or one that spreads its writes over minutes."""
    programs: AbsolutePath | None = Field(None, examples=["/usr/lib/postgresql/15/bin"])
    """Folder of PostgreSQL's own programs; PATH and Debian's folders are searched when left out."""

    @property
    def subject(self) -> str:
        """What it is; the connection may hold a password."""
        return f"PostgreSQL, {self.method}"

    @field_validator("newest")
    @classmethod
    def _whole_columns(cls, newest: list[str]) -> list[str]:
        for column in newest:
            if column.count(".") not in (2, 3):
                raise ValueError(f"'{column}' must be SCHEMA.TABLE.COLUMN or DATABASE.SCHEMA.TABLE.COLUMN")
        return newest
