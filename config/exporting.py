"""Settings of what is shown to others: the page and its users, metrics, and Alertmanager."""

import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr

from config.expansion import SecretText
from config.model import AbsolutePath, Model
from config.units import Duration

LISTEN = r"^(\[[0-9a-fA-F:]+\]|[^:\s]+):\d{1,5}$"
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def host_of(listen: str) -> str:
    """Return the address of ``address:port``, without brackets."""
    return listen.rpartition(":")[0].strip("[]")


def web_address(url: SecretStr) -> SecretStr:
    """Refuse what is no URL of a web server. Shows nothing of it: there may be a password in it."""
    if not re.match(r"https?://[^/\s]", url.get_secret_value()):
        raise ValueError("must begin with http:// or https://")
    try:
        urlsplit(url.get_secret_value()).port  # noqa: B018 - it is read to see whether it can be
    except ValueError:
        raise ValueError("has a port that is none; write %2F for a slash in a password") from None
    return url


def _port(listen: str) -> str:
    if int(listen.rpartition(":")[2]) > 65_535:
        raise ValueError("a port is at most 65535")
    return listen


def _page_address(url: str) -> str:
    if not re.fullmatch(r"https?://[^/\s@?#]+(/[^\s?#]*)?", url):
        raise ValueError("must be an address such as https://erp-1.example.com:9750/, without a user")
    return url


class WebSettings(Model):
    """The page, metrics and API."""

    listen: Annotated[str, Field(pattern=LISTEN), AfterValidator(_port)] = "127.0.0.1:9750"
    """Address and port. Any address but loopback needs a web_config_file."""
    web_config_file: AbsolutePath | None = Field(None, examples=["/etc/keepwatch/web.config.yml"])
    """TLS and users, in the format of Prometheus' exporters (docs/web.md); read again when it changes."""
    external_url: Annotated[str, AfterValidator(_page_address)] | None = Field(
        None, examples=["https://erp-1.example.com:9750/"]
    )
    """How people reach the page from elsewhere: for links in alerts, and a host name that the page answers to."""

    @property
    def host(self) -> str:
        """The address without its port."""
        return host_of(self.listen)

    @property
    def port(self) -> int:
        """The port."""
        return int(self.listen.rpartition(":")[2])

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect."""
        return self.host in LOOPBACK


class MetricsSettings(Model):
    """What /metrics/node does; /metrics is always there."""

    node: Literal["auto", "on", "off"] = "auto"
    """Host metrics as node_exporter names them; auto: unless one listens on port 9100 of this machine."""
    textfile_directory: AbsolutePath | None = Field(None, examples=["/var/lib/prometheus/node-exporter"])
    """Folder whose *.prom files are passed on there, as node_exporter's textfile collector does."""


class AlertmanagerSettings(Model):
    """Prometheus Alertmanagers that are told of alerts, in place of the channels of [[notify]]."""

    urls: list[Annotated[SecretText, AfterValidator(web_address)]] = Field(
        min_length=1, examples=[["http://127.0.0.1:9093"]]
    )
    """Every Alertmanager of the cluster; write a user and password into an address as ${VARIABLE}."""
    severities: list[Literal["warning", "critical"]] = ["warning", "critical"]
    """Alerts that it is told. Channels of [[notify]] tell these only while no Alertmanager takes them."""
    fallback_after: Duration = Field("2m", validate_default=True)
    """How long no Alertmanager may answer before the channels tell in its place."""
    ca_file: AbsolutePath | None = Field(None, examples=["/etc/ssl/certs/internal-ca.pem"])
    """Certificate authorities for https addresses; the machine's own when left out."""
