"""Settings of repositories and backup jobs: what is saved, where to, how often, and what recovery is promised."""

from datetime import timedelta
from typing import Literal, Self

from pydantic import Field, model_validator

from config.drills import DrillSettings
from config.expansion import Expandable, SecretText
from config.model import Identifier, Model, SecretFile, Window
from config.schedule import Schedule
from config.sources import SourceSettings
from config.units import ByteRate, Duration, Share

STORAGE_CLASS = r"^[A-Z][A-Z0-9_]*$"


RateWindows = dict[Window, ByteRate]
"""Rates by window of the week, in the daemon's time zone; where windows overlap, the lowest rate counts."""


class RepositorySettings(Model):
    """A place where snapshots live, in restic's repository format version 2."""

    url: Expandable = Field(min_length=1, examples=["/srv/keepwatch/repository"])
    """Where it is, in restic's way of writing: an absolute path, or s3:https://host/bucket/prefix."""
    password_file: SecretFile | None = Field(None, examples=["/etc/keepwatch/repository.password"])
    """File whose first line is the password; a bare name is a systemd credential."""
    password_command: SecretText | None = Field(None, examples=["pass show keepwatch"])
    """Command that prints the password; run without a shell."""
    create: bool = True
    """Make the repository at the first backup when nothing is there yet."""
    verify: Schedule | None = Field(None, examples=["daily 03:30"])
    """When to check the repository's structure: every snapshot, tree and index against the packs."""
    read_all_within: Duration | None = Field(None, examples=["30d"])
    """Let each verification also read a share of the packs, so that all are read and proven within this time."""
    prune: Schedule | None = Field(None, examples=["sunday 05:30"])
    """When to give back the space of data that no snapshot needs any more."""

    extend: Schedule | None = Field(None, examples=["sunday 06:30"])
    """When to renew object_lock on everything stored, so that what is still needed never gets deletable."""
    access_key_id_file: SecretFile | None = Field(None, examples=["/etc/keepwatch/s3.id"])
    """File with the S3 access key id; AWS's environment, profile or instance role when left out."""
    secret_access_key_file: SecretFile | None = Field(None, examples=["/etc/keepwatch/s3.key"])
    """File with the S3 secret access key that belongs to it."""
    profile: str | None = Field(None, min_length=1, examples=["backup"])
    """Profile in AWS's own configuration files, in place of the two key files."""
    region: str | None = Field(None, min_length=1, examples=["eu-central-1"])
    """Region of the bucket; what AWS's environment or profile says, or us-east-1, when left out."""
    addressing: Literal["auto", "path", "virtual"] = "auto"
    """Whether the bucket stands in the URL's path or its host name; auto takes the host name on AWS only."""
    storage_class: str | None = Field(None, pattern=STORAGE_CLASS, examples=["STANDARD_IA"])
    """S3 storage class of data packs; all else stays in the bucket's own, since it is read at every run."""
    server_side_encryption: Literal["AES256", "aws:kms", "aws:kms:dsse"] | None = Field(None, examples=["aws:kms"])
    """How the S3 server encrypts once more what arrives encrypted; the bucket's own way when left out."""
    server_side_encryption_key_id: str | None = Field(None, min_length=1, examples=["alias/backup"])
    """KMS key for it."""
    object_lock: Duration | None = Field(None, examples=["30d"])
    """Let nobody delete or replace what was stored for this long (S3 Object Lock); never set on lock files."""
    object_lock_mode: Literal["governance", "compliance"] = "governance"
    """Who may lift it: users with a special right, or nobody at all, the owner of the account included."""
    upload_limit: ByteRate | None = Field(None, examples=["20 MiB/s"])
    """Most bytes a second to the repository, by all processes of this machine together."""
    upload_limit_windows: RateWindows = Field({}, examples=[{"mon-fri 08:00-19:00": "2 MiB/s"}])
    """Other limits at some times of the week; unlimited lifts it."""
    download_limit: ByteRate | None = Field(None, examples=["40 MiB/s"])
    """The same for bytes from the repository."""
    download_limit_windows: RateWindows = Field({}, examples=[{"mon-fri 08:00-19:00": "10 MiB/s"}])
    """The same at some times of the week."""

    @property
    def is_s3(self) -> bool:
        """Whether it lies in a bucket rather than in a folder."""
        return self.url.startswith("s3:")

    @model_validator(mode="after")
    def _one_password(self) -> Self:
        if (self.password_file is None) == (self.password_command is None):
            raise ValueError("give exactly one of password_file and password_command")
        return self

    @model_validator(mode="after")
    def _what_belongs_together(self) -> Self:
        if self.read_all_within is not None and self.verify is None:
            raise ValueError("read_all_within needs a verify schedule, whose runs read")
        if (self.access_key_id_file is None) != (self.secret_access_key_file is None):
            raise ValueError("give both of access_key_id_file and secret_access_key_file, or neither")
        if self.access_key_id_file is not None and self.profile is not None:
            raise ValueError("give a profile or the two key files, not both")
        if self.server_side_encryption_key_id is not None and self.server_side_encryption in (None, "AES256"):
            raise ValueError("server_side_encryption_key_id needs server_side_encryption = 'aws:kms' or 'aws:kms:dsse'")
        if self.extend is not None and self.object_lock is None:
            raise ValueError("extend renews object_lock, which is not set")
        if self.object_lock is not None and self.object_lock < timedelta(days=1):
            raise ValueError("an object_lock of less than a day protects nothing; write a duration such as 30d")
        return self


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


class GuardSettings(Model):
    """When a snapshot is suspicious: taken, but flagged and told, and nothing is forgotten until a person agrees."""

    off: bool = False
    """Judge nothing."""
    shrink: Share = Field("50%", validate_default=True)
    """Share of its usual files or bytes that may be gone."""
    change: Share = Field("80%", validate_default=True)
    """Share of the files that may be changed, replaced or gone with new data at once, unless that is usual here."""
    incompressible: Share = Field("90%", validate_default=True)
    """Stored share of new data from which on it counts as incompressible, where data used to compress."""
    at_least_files: int = Field(20, ge=1)
    """Sources of fewer files are not judged."""


class JobSettings(Model):
    """One thing that is backed up, with its promises."""

    source: SourceSettings
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
    guard: GuardSettings = GuardSettings()
    """What makes a snapshot suspicious."""
    timeout: Duration | None = Field(None, examples=["6h"])
    """Stop a run that takes longer."""
