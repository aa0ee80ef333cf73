"""Puts the web server together from [web]: application, users, TLS, and the names that it answers to."""

from collections.abc import Callable
from datetime import datetime
from urllib.parse import urlsplit

from config.exporting import WebSettings
from keepwatch.view import View
from keepwatch.web.access import Access, ReloadingContext
from keepwatch.web.app import create_app
from keepwatch.web.server import WebServer
from monitor.inbox import Inbox


def open_server(
    settings: WebSettings,
    host: str,
    view: Callable[[], View],
    clock: Callable[[], datetime],
    host_metrics: Callable[[], bytes],
    inbox: Inbox | None = None,
) -> WebServer:
    """Bind the port; ``host`` is this machine's name. Raises ListenError, and WebConfigError for the file of users."""
    access = Access(settings.web_config_file) if settings.web_config_file else None
    outside = urlsplit(settings.external_url).hostname if settings.external_url else None
    names = [*([outside] if outside else []), *([host] if access else [])]
    app = create_app(view, clock, host_metrics=host_metrics, access=access, names=names, inbox=inbox)
    tls = ReloadingContext.of(access) if access and access.has_tls else None
    return WebServer(app, settings.host, settings.port, tls)
