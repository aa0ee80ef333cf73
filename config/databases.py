"""Settings of databases that jobs back up, but for PostgreSQL, which has a module of its own."""

from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from config.expansion import SecretText
from config.model import AbsolutePath, Model, SecretFile
from config.units import ByteSize, Duration

COLUMN_OF_TABLE = r"^[^.]+\.[^.]+$"
COLUMN_OF_DATABASE = r"^[^.]+\.[^.]+\.[^.]+$"


class SqliteSource(Model):
    """A SQLite database file, copied page by page while others write to it."""

    type: Literal["sqlite"]
    path: AbsolutePath = Field(examples=["/srv/ledger/ledger.db"])
    """The database file; its write-ahead log is taken into account."""
    newest: list[Annotated[str, Field(pattern=COLUMN_OF_TABLE)]] = Field([], examples=[["invoice.created_at"]])
    """Columns whose greatest value is noted at backup and must be back after a restore, as TABLE.COLUMN."""
    busy_timeout: Duration = Field("30s", validate_default=True)
    """How long to wait for a writer that holds the whole file."""

    @property
    def subject(self) -> str:
        """The file."""
        return str(self.path)


class RedisSource(Model):
    """A Redis server: its data as an RDB file over the replication protocol, or its append-only files."""

    type: Literal["redis"]
    url: SecretText = Field("redis://127.0.0.1:6379", validate_default=True, examples=["unix:///run/redis/redis.sock"])
    """redis://[USER@]HOST[:PORT], rediss:// for TLS, or unix:///PATH. The user needs +info, +config|get, +sync, +psync
    and +replconf.
    """
    password_file: SecretFile | None = Field(None, examples=["/etc/keepwatch/redis.password"])
    """File whose first line is the password."""
    method: Literal["rdb", "aof"] = "rdb"
    """`rdb` works from anywhere and loads into any newer server. `aof` copies the append-only files of Redis 7 from
    this machine's disk, without a fork of the server.
    """
    aof_folder: AbsolutePath | None = Field(None, examples=["/var/lib/redis/appendonlydir"])
    """Where they lie; the server is asked when left out."""
    ca_file: AbsolutePath | None = Field(None, examples=["/etc/ssl/redis-ca.pem"])
    """Certificate of the authority that vouches for the server; the machine's own authorities when left out."""

    @property
    def subject(self) -> str:
        """What it is; the URL may hold a password."""
        return f"Redis, {self.method}"

    @model_validator(mode="after")
    def _a_url_that_is_understood(self) -> Self:
        url = urlsplit(self.url.get_secret_value())
        if url.scheme not in ("redis", "rediss", "unix") or not (url.path if url.scheme == "unix" else url.hostname):
            raise ValueError("url must be redis://HOST, rediss://HOST or unix:///PATH")
        return self


class MariaDbSource(Model):
    """A MariaDB or MySQL server: a dump of its databases, or a copy of its data directory made while it runs."""

    type: Literal["mariadb"]
    defaults_file: AbsolutePath | None = Field(None, examples=["/etc/mysql/debian.cnf"])
    """Option file of MariaDB's own with how to connect in its group [client]; the keys below are then not needed."""
    host: str | None = Field(None, min_length=1, examples=["db-1.example.com"])
    """Server to connect to; the socket of this machine when left out."""
    port: int = Field(3306, ge=1, le=65535)
    """Its port."""
    socket: AbsolutePath = Field("/run/mysqld/mysqld.sock", validate_default=True)
    """Socket of a server on this machine, where no host is given."""
    user: str | None = Field(None, min_length=1, examples=["keepwatch"])
    """User; the system's user when left out. A dump needs SELECT, SHOW VIEW, TRIGGER, EVENT, RELOAD, LOCK TABLES,
    PROCESS and BINLOG MONITOR, a physical copy the last four, the binlog REPLICATION SLAVE besides.
    """
    password_file: SecretFile | None = Field(None, examples=["/etc/keepwatch/mariadb.password"])
    """File whose first line is the password."""
    method: Literal["physical", "logical"] = "logical"
    """Logical dumps databases in one transaction, for any newer server. Physical copies the data directory of a server
    on this machine with mariadb-backup: quicker to restore; keepwatch must be able to read that directory.
    """
    databases: list[str] = Field([], examples=[["ledger"]])
    """Databases to dump, and whose tables are counted; all but the system's own when left out."""
    newest: list[Annotated[str, Field(pattern=COLUMN_OF_DATABASE)]] = Field(
        [], examples=[["ledger.invoice.created_at"]]
    )
    """Columns whose greatest value is noted at backup and must be back after a restore, as DATABASE.TABLE.COLUMN."""
    count_rows: bool = True
    """Count the rows of all tables for a physical copy, so that a drill can compare; a dump counts what it writes."""

    binlog: bool = False
    """Archive the server's binlog all the time, a few seconds behind, for recovery to any moment; rpo then counts from
    the last event that is stored. `sync_binlog` is the server's business.
    """
    binlog_from: Literal["files", "server"] = "files"
    """`files`: from the server's disk, which keepwatch must be able to read. `server`: over its own connection, as a
    replica gets it, by mariadb-binlog; from anywhere, and the copies lie in the state directory until they are stored.
    """
    binlog_folder: AbsolutePath | None = Field(None, examples=["/var/log/mysql"])
    """With `files`: where the server writes it; the server is asked when left out."""
    binlog_spool_limit: ByteSize = Field("2 GiB", validate_default=True)
    """With `server`: most bytes that wait in the state directory while a repository is away; the server keeps the rest.
    """
    binlog_every: Duration = Field("10s", validate_default=True)
    """How often to look for what is new in it."""

    @property
    def keeps_log(self) -> bool:
        """Whether its log is archived all the time."""
        return self.binlog

    @property
    def subject(self) -> str:
        """What it is."""
        return f"MariaDB, {self.method}"

    @model_validator(mode="after")
    def _one_way_in(self) -> Self:
        if self.defaults_file is not None and (self.host or self.user or self.password_file):
            raise ValueError("give a defaults_file, or host, user and password_file, not both")
        return self
