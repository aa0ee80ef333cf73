"""The client that talks to S3 for one process: botocore, told to do one request for one operation and nothing besides.

Imported when the first request is made, since botocore costs a tenth of a second and the daemon never needs it. What
takes longest about a client is reading botocore's descriptions of services; they are read by orjson, only those that
are wanted, and once, also for the processes that are forked later.

It refuses to try again, to expect leave before it sends, and to judge: errors come as botocore raises them.
"""

import base64
import gzip
import hashlib
import os
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import orjson
from botocore import handlers
from botocore.config import Config
from botocore.loaders import JSONFileLoader, Loader
from botocore.session import Session

from backup.storage.limited import PacedBody

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from backup.storage.s3 import S3Options

_CONNECTIONS: Final = 16


@lru_cache(maxsize=8)
def client_of(process: int, endpoint: str | None, options: "S3Options") -> "S3Client":  # noqa: ARG001 - each has its own
    """Make a client, or give the one that this process has. Threads that come first at once may each make one."""
    keys = (options.access_key_id, options.secret_access_key)
    key_id, secret = (key.get_secret_value() if key else None for key in keys)
    session = Session(profile=options.profile)
    session.register_component("data_loader", _loader(session.get_config_variable("data_path")))
    addressing: Any = options.addressing
    if addressing == "auto" and endpoint is not None:
        addressing = "path"
    config = Config(
        connect_timeout=20,
        read_timeout=60,
        retries={"total_max_attempts": 1, "mode": "standard"},
        max_pool_connections=_CONNECTIONS,
        tcp_keepalive=True,
        s3={"addressing_style": addressing},
        signature_version="s3v4",
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    client: Any = session.create_client(
        "s3",
        endpoint_url=endpoint,
        region_name=options.region or session.get_config_variable("region") or "us-east-1",
        aws_access_key_id=key_id,
        aws_secret_access_key=secret,
        config=config,
    )
    client.meta.events.register("before-send.s3", _start_body)
    client.meta.events.register("before-call.s3.DeleteObjects", _add_md5)
    # "Expect: 100-continue" costs a round trip a pack, and a second with servers that do not know it
    client.meta.events.unregister("before-call.s3", handlers.add_expect_header)
    made: S3Client = client
    return made


@lru_cache(maxsize=1)
def _loader(path: str | None) -> Loader:
    """What reads botocore's descriptions of services, and remembers them: also for the processes forked later."""
    extra = [os.path.expanduser(os.path.expandvars(part)) for part in path.split(os.pathsep)] if path else []
    return _Descriptions(extra, file_loader=_QuickFiles())


class _Descriptions(Loader):
    """botocore's loader, which would look into the folder of each of 400 services before it loads one."""

    def list_available_services(self, type_name: str) -> list[str]:  # noqa: ARG002 - whoever loads it learns what it has
        """Name the services that have a folder."""
        folders = (path for path in self.search_paths if os.path.isdir(path))
        return sorted({entry.name for path in folders for entry in os.scandir(path) if entry.is_dir()})


class _QuickFiles(JSONFileLoader):
    """Reads a description; orjson takes a quarter of the time."""

    def load_file(self, file_path: str) -> Any:
        """Give what is in the file of this name, plain or compressed; None when there is none."""
        for suffix, expand in ((".json", bytes), (".json.gz", gzip.decompress)):
            try:
                with open(file_path + suffix, "rb") as file:
                    content = file.read()
            except (FileNotFoundError, IsADirectoryError):
                continue
            return orjson.loads(expand(content))
        return None


def _add_md5(params: dict[str, Any], **_: Any) -> None:
    """Send the checksum that every server knows; botocore's own choice, a CRC, is refused by older ones."""
    digest = hashlib.md5(params["body"], usedforsecurity=False).digest()
    params["headers"]["Content-MD5"] = base64.b64encode(digest).decode()
    params["context"].pop("checksum", None)


def _start_body(request: Any, **_: Any) -> None:
    """From here on the body is read for the line and no more for its signature."""
    if isinstance(request.body, PacedBody):
        request.body.start()
