"""RabbitMQ with its management plugin for a test. It takes some seconds to come up."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.servers.private import accepts, free_port, hand_over, running

_HOME = Path("/usr/lib/rabbitmq")


@contextlib.contextmanager
def rabbitmq(folder: Path) -> Iterator[tuple[int, int]]:
    """Have RabbitMQ with the user guest; gives its port and that of its management API."""
    port, management, distribution, mapper = free_port(), free_port(), free_port(), free_port()
    plugins = folder / "plugins"
    plugins.write_text("[rabbitmq_management].\n", encoding="ascii")
    settings = folder / "rabbitmq.conf"
    settings.write_text(
        f"listeners.tcp.1 = 127.0.0.1:{port}\nmanagement.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {management}\n"
        "collect_statistics_interval = 5000\ndisk_free_limit.absolute = 1MB\n",
        encoding="ascii",
    )
    for path in (plugins, settings):
        hand_over(path)
    variables = {
        "RABBITMQ_NODENAME": f"kw{port}@localhost", "RABBITMQ_MNESIA_BASE": str(folder / "data"),
        "RABBITMQ_LOG_BASE": str(folder / "log"), "RABBITMQ_CONFIG_FILE": str(settings),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(plugins), "RABBITMQ_DIST_PORT": str(distribution),
        "ERL_EPMD_PORT": str(mapper), "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1",
    }  # fmt: skip
    program = max(_HOME.glob("lib/rabbitmq_server-*/sbin/rabbitmq-server"))
    with running([program], folder, lambda: accepts(port)() and accepts(management)(), variables=variables):
        try:
            yield port, management
        finally:
            # Erlang's port mapper is a process of its own, on a port of ours
            subprocess.run(
                ["epmd", "-port", str(mapper), "-kill"], check=False, capture_output=True, timeout=10,
                env={"PATH": "/usr/bin:/bin", "ERL_EPMD_RELAXED_COMMAND_CHECK": "1"},
            )  # fmt: skip
