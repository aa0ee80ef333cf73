"""Settings of what a job backs up: files, databases, the output of a program."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from config.databases import MariaDbSource, RedisSource, SqliteSource
from config.expansion import SecretText
from config.model import AbsolutePath, Identifier, Model
from config.postgres import PostgresSource
from config.units import ByteSize, Duration

FILE_NAME = r"^[^/\x00]+$"


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
    file_name: str = Field("output", pattern=FILE_NAME, max_length=255, examples=["directory.ldif"])
    """Name of the file that it becomes in the snapshot."""
    environment: dict[str, SecretText] = Field({}, examples=[{"LDAPTLS_CACERT": "/etc/ssl/ldap.pem"}])
    """Variables added to its environment; write secrets in them as ${VARIABLE}."""

    @property
    def subject(self) -> str:
        """The program's name; its arguments may hold what is nobody's business."""
        return self.run.split()[0]


MemberSettings = Annotated[
    FilesSource | CommandSource | PostgresSource | MariaDbSource | SqliteSource | RedisSource,
    Field(discriminator="type"),
]


class GroupSource(Model):
    """Several databases and folders as one snapshot, of moments as close together as can be had."""

    type: Literal["group"]
    members: dict[Identifier, MemberSettings] = Field(
        min_length=1,
        examples=[
            {
                "documents": {"type": "files", "paths": ["/srv/invoices"]},
                "ledger": {"type": "sqlite", "path": "/srv/ledger/ledger.db"},
            }
        ],
    )
    """What belongs together, each as the source of a job; at most one of type files, which takes several paths."""
    max_skew: Duration | None = Field(None, examples=["30s"])
    """How far the members' moments may lie apart; a run in which they lie farther is partial."""

    @property
    def subject(self) -> str:
        """What its members are."""
        return ", ".join(f"{name}: {member.subject}" for name, member in self.members.items())

    @model_validator(mode="after")
    def _files_once_and_apart(self) -> Self:
        files = [member for member in self.members.values() if isinstance(member, FilesSource)]
        if len(files) > 1:
            raise ValueError("a group has at most one member of type files, which takes several paths")
        tops = {path.parts[1] for member in files for path in member.paths if len(path.parts) > 1}
        taken = {name for name, member in self.members.items() if not isinstance(member, FilesSource)} & tops
        if taken:
            raise ValueError(f"the member {min(taken)} would lie where files of the group lie; give it another name")
        return self


SourceSettings = Annotated[
    FilesSource | CommandSource | PostgresSource | MariaDbSource | SqliteSource | RedisSource | GroupSource,
    Field(discriminator="type"),
]
