"""Part of the second question: which version the PostgreSQL servers of jobs have, and can they tell what changed?

Asks each server once and writes nothing. A server that does not answer is a problem: its next backup fails as well.
"""

from collections.abc import Iterator

from backup.errors import BackupError, SourceError
from backup.extras import needed_for
from config.postgres import PostgresSource
from config.settings import Settings
from keepwatch.diagnose.answer import Answer, note, ok, problem

_SECONDS = 5
_SUMMARIES_SINCE = 170000


def servers(settings: Settings) -> Iterator[Answer]:
    """Answer for the source of each job that saves a PostgreSQL server."""
    for name, job in settings.jobs.items():
        if isinstance(job.source, PostgresSource):
            try:
                yield _server(f"PostgreSQL of job {name}", job.source)
            except BackupError as error:
                yield problem(f"PostgreSQL of job {name}", str(error), error.hint)


def _server(subject: str, source: PostgresSource) -> Answer:
    with needed_for("PostgreSQL", SourceError):
        from backup.applications.postgres_connection import Server
    with Server.from_settings(source).connect(timeout_seconds=_SECONDS) as connection:
        version = str(connection.info.parameter_status("server_version")).split(" ")[0]
        if source.method != "physical" or connection.info.server_version < _SUMMARIES_SINCE:
            return ok(subject, version)
        row = connection.execute("show summarize_wal").fetchone()
        if row == ("on",):
            return ok(subject, f"{version}, sends only what changed")
    return note(
        subject, f"{version}, summarize_wal is off: every base backup reads all of the cluster",
        "alter system set summarize_wal = on; select pg_reload_conf();",
    )  # fmt: skip
