"""S3 servers of independent makers, each a real process on a free loopback port.

rclone is there for everyday work; moto knows Object Lock.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from backup.storage.s3 import S3Options, S3Place, S3Storage

KEY_ID = "AKIAIOSFODNN7EXAMPLE"
SECRET_KEY = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
OTHER_KEY_ID = "AKIAI44QH8DHBEXAMPLE"
OTHER_SECRET_KEY = "je7MtGbClwBF/2Zp9Utk/h3yCo8nvbEXAMPLEKEY"
BUCKET = "backups"
_START_SECONDS = 30.0


@dataclass(frozen=True)
class S3Server:
    """A server under test."""

    address: str
    """``127.0.0.1:port``."""
    folder: Path
    """Where rclone keeps objects as files, one folder a bucket."""

    @property
    def endpoint(self) -> str:
        return f"http://{self.address}"

    def url(self, prefix: str = "", *, bucket: str = BUCKET) -> str:
        """A repository's URL as restic writes it."""
        return f"s3:{self.endpoint}/{bucket}/{prefix}".rstrip("/")

    def storage(self, prefix: str = "", options: S3Options | None = None, **more) -> S3Storage:
        return S3Storage(S3Place(self.endpoint, BUCKET, prefix), options or with_keys(), **more)

    @property
    def environment(self) -> dict[str, str]:
        """What other programs need to get in."""
        return aws_environment()


def with_keys(**options) -> S3Options:
    return S3Options(access_key_id=SecretStr(KEY_ID), secret_access_key=SecretStr(SECRET_KEY), **options)


def aws_environment() -> dict[str, str]:
    """Credentials for any AWS program; nothing of this machine's own settings, nor any network but loopback."""
    return {
        "AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET_KEY, "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    }  # fmt: skip


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def rclone_server(folder: Path) -> Iterator[S3Server]:
    """`rclone serve s3` over ``folder``."""
    objects = folder / "objects"
    (objects / BUCKET).mkdir(parents=True, exist_ok=True)
    address = f"127.0.0.1:{free_port()}"
    command = [
        Path(sys.executable).with_name("rclone"), "serve", "s3", str(objects), "--addr", address,
        "--auth-key", f"{KEY_ID},{SECRET_KEY}", "--config", os.devnull, "--cache-dir", str(folder / "cache"),
    ]  # fmt: skip
    with _process(command, address, folder / "rclone.log", {"HOME": str(folder)}):
        yield S3Server(address, objects)


@contextmanager
def moto_server(folder: Path) -> Iterator[S3Server]:
    """moto's server, which knows Object Lock and takes any key."""
    address = f"127.0.0.1:{free_port()}"
    host, _, port = address.partition(":")
    command = [Path(sys.executable).with_name("moto_server"), "-H", host, "-p", port]
    with _process(command, address, folder / "moto.log", aws_environment() | {"HOME": str(folder)}):
        yield S3Server(address, folder)


@contextmanager
def _process(command: list[object], address: str, log: Path, environment: Mapping[str, str]) -> Iterator[None]:
    with log.open("wb") as output:
        server = subprocess.Popen(
            list(map(str, command)), stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            env={"PATH": os.environ["PATH"], **environment},
        )  # fmt: skip
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not _listens(address):
            assert server.poll() is None, f"{command[0]} ended: {log.read_text()}"
            assert time.monotonic() < deadline, f"{command[0]} does not listen: {log.read_text()}"
            time.sleep(0.02)
        yield
    finally:
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _listens(address: str) -> bool:
    host, _, port = address.partition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0
