"""Settings of PostgreSQL as something that a job backs up."""

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from config.expansion import SecretText
from config.model import AbsolutePath, Model, SecretFile
from config.units import ByteSize


class PostgresSource(Model):
    """A PostgreSQL server: its databases as dumps, or the whole cluster as a base backup; 13 and newer."""

    type: Literal["postgres"]
    dsn: SecretText = Field(examples=["service=ledger"])
    """How to connect, in libpq's way: keywords, a URI, or a service of pg_service.conf; PG* variables fill the gaps."""
    password_file: SecretFile | None = Field(None, examples=["/etc/keepwatch/ledger.password"])
    """File whose first line is the password; libpq's own ways (such as ~/.pgpass) when left out."""
    method: Literal["physical", "logical"] = "physical"
    """Physical copies the cluster's files while it runs, and can be brought to any moment with its WAL; the user needs
    the attribute REPLICATION and should be a member of pg_monitor and pg_read_all_data. From PostgreSQL 17 on, with
    `summarize_wal = on`, the server reads and sends only what changed. Logical dumps databases, which load into any
    newer version.
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

    wal: Literal["push", "receive"] | None = Field(None, examples=["push"])
    """Archive the write-ahead log, so that the job's data can be brought to any moment and its RPO is measured by the
    last archived record. `push`: the server runs archive_command = 'keepwatch wal push %p'. `receive`: keepwatch
    follows it by pg_receivewal and a replication slot, and stores what has come every second.
    """
    wal_users: list[str] = ["postgres"]
    """Users of this machine, besides the one keepwatch runs as and root, that may push."""
    wal_socket: AbsolutePath | None = Field(None, examples=["/run/keepwatch/wal-ledger.sock"])
    """Where pushes arrive; wal-JOB.sock in /run/keepwatch, or below the state directory, when left out."""
    wal_spool_limit: ByteSize = Field("2 GiB", validate_default=True)
    """Most bytes of WAL that wait in the state directory while a repository is away; beyond, the server keeps them."""

    @property
    def keeps_log(self) -> bool:
        """Whether its log is archived all the time."""
        return self.wal is not None

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

    @model_validator(mode="after")
    def _log_of_files(self) -> Self:
        if self.wal is not None and self.method == "logical":
            raise ValueError("wal replays onto a base backup; it needs method = 'physical'")
        return self
