"""Settings of what a job backs up: files, databases, the output of a program."""

from typing import Annotated, Literal

from pydantic import Field

from config.databases import MariaDbSource, RedisSource, SqliteSource
from config.expansion import SecretText
from config.model import AbsolutePath, Model
from config.postgres import PostgresSource
from config.units import ByteSize

FILE_NAME = r"^[^/\x00]{1,255}$"


class FilesSource(Model):
    """Files and folders below some paths."""

    type: Literal["files"]
    paths: list[AbsolutePath] = Field(min_length=1, examples=[["/srv/invoices"]])
    """Absolute paths to back up."""
    exclude: list[str] = Field([], examples=[["*.tmp", "cache/"]])
    """What to leave out, as gitignore patterns; one that begins with a slash is matched against the whole path."""
    exclude_caches: bool = True
    """Leave out folders marked with a CACHEDIR.TAG."""
    exclude_larger_than: ByteSize | None = Field(None, examples=["4 GiB"])
    """Leave out files above this size."""
    one_file_system: bool = False
    """Stay on the file systems of the given paths."""
    skip_unreadable: bool = False
    """Leave out, without calling the run partial, what this user may not read."""

    @property
    def subject(self) -> str:
        """What it is, in a few words for people; nothing secret."""
        return " ".join(str(path) for path in self.paths)


class CommandSource(Model):
    """What a program writes to its standard output; an exit status other than 0 fails the run."""

    type: Literal["command"]
    run: str = Field(min_length=1, examples=["ldapsearch -LLL -x -b dc=example,dc=com"])
    """Command line; run without a shell."""
    file_name: str = Field("output", pattern=FILE_NAME, examples=["directory.ldif"])
    """Name of the file that it becomes in the snapshot."""
    environment: dict[str, SecretText] = Field({}, examples=[{"LDAPTLS_CACERT": "/etc/ssl/ldap.pem"}])
    """Variables added to its environment; write secrets in them as ${VARIABLE}."""

    @property
    def subject(self) -> str:
        """The program's name; its arguments may hold what is nobody's business."""
        return self.run.split()[0]


SourceSettings = Annotated[
    FilesSource | CommandSource | PostgresSource | MariaDbSource | SqliteSource | RedisSource,
    Field(discriminator="type")
]
