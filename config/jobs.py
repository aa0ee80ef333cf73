"""Settings of repositories and backup jobs: what is saved, where to, how often, and what recovery is promised."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from config.expansion import Expandable, SecretText
from config.model import AbsolutePath, Identifier, Model
from config.schedule import Schedule
from config.units import ByteSize, Duration


def _absolute_or_bare(path: Path) -> Path:
    if not path.is_absolute() and len(path.parts) != 1:
        raise ValueError("must be an absolute path, or a bare name for a systemd credential")
    return path


class RepositorySettings(Model):
    """A place where snapshots live, in restic's repository format version 2."""

    url: Expandable = Field(min_length=1, examples=["/srv/keepwatch/repository"])
    """Where it is, in restic's way of writing: an absolute path."""
    password_file: Annotated[Path, Field(strict=False), AfterValidator(_absolute_or_bare)] | None = Field(
        None, examples=["/etc/keepwatch/repository.password"]
    )
    """File whose first line is the password; a bare name is a systemd credential."""
    password_command: SecretText | None = Field(None, examples=["pass show keepwatch"])
    """Command that prints the password; run without a shell."""
    create: bool = True
    """Make the repository at the first backup when nothing is there yet."""
    verify: Schedule | None = Field(None, examples=["daily 03:30"])
    """When to check the repository's structure: every snapshot, tree and index against the packs."""
    prune: Schedule | None = Field(None, examples=["sunday 05:30"])
    """When to give back the space of data that no snapshot needs any more."""

    @model_validator(mode="after")
    def _one_password(self) -> Self:
        if (self.password_file is None) == (self.password_command is None):
            raise ValueError("give exactly one of password_file and password_command")
        return self


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


class KeepSettings(Model):
    """Retention: which snapshots `forget` keeps. The newest and the newest drill-proven one are always kept."""

    last: int = Field(0, ge=0)
    """The newest N."""
    hourly: int = Field(0, ge=0)
    """One for each of the last N hours that have any."""
    daily: int = Field(0, ge=0)
    """The same for days."""
    weekly: int = Field(0, ge=0)
    """The same for ISO weeks."""
    monthly: int = Field(0, ge=0)
    """The same for months."""
    yearly: int = Field(0, ge=0)
    """The same for years."""
    within: Duration | None = Field(None, examples=["48h"])
    """All that are younger than this, measured from the newest."""
    tags: list[str] = Field([], examples=[["before-upgrade"]])
    """All that carry one of these tags."""

    @model_validator(mode="after")
    def _keeps_something(self) -> Self:
        counts = (self.last, self.hourly, self.daily, self.weekly, self.monthly, self.yearly)
        if not any(counts) and self.within is None and not self.tags:
            raise ValueError("a keep policy without any rule would keep nothing; leave it out to keep everything")
        return self


class DrillSettings(Model):
    """A scheduled restore drill."""

    schedule: Schedule = Field(examples=["daily 04:30"])
    """When to drill."""
    level: Literal["restore"] = "restore"
    """How far to go; `restore` restores everything into scratch and compares every byte."""
    repository: Identifier | None = Field(None, examples=["local"])
    """Which of the job's repositories; the first by default."""


class JobSettings(Model):
    """One thing that is backed up, with its promises."""

    source: FilesSource
    """What is backed up."""
    repositories: list[Identifier] = Field(min_length=1, examples=[["local"]])
    """Names of the repositories that receive it."""
    incremental: Schedule | None = Field(None, examples=["every 1h"])
    """When to save what changed since the last snapshot."""
    full: Schedule | None = Field(None, examples=["sunday 02:00"])
    """When to read every byte again, changed or not."""
    keep: KeepSettings | None = None
    """Which snapshots to keep; everything when left out. Applied after each successful run."""
    rpo: Duration | None = Field(None, examples=["2h"])
    """Recovery point objective: how much work may be lost at most."""
    rto: Duration | None = Field(None, examples=["30m"])
    """Recovery time objective: how long a restore may take at most."""
    before: list[str] = Field([], examples=[["systemctl stop importer"]])
    """Shell commands run first; one that fails stops the run."""
    after: list[str] = Field([], examples=[["systemctl start importer"]])
    """Shell commands run last, whatever happened; $KEEPWATCH_OUTCOME tells them."""
    drill: DrillSettings | None = None
    """The scheduled proof that it comes back."""
    timeout: Duration | None = Field(None, examples=["6h"])
    """Stop a run that takes longer."""
