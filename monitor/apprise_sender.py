"""The child process that speaks Apprise: one order as JSON on stdin, one answer as JSON on stdout.

Order: ``url``, ``title``, ``body``, ``severity`` (ok, warning, critical). Answer: ``ok``, ``permanent``, ``error``;
what Apprise said may quote the address, and the parent takes that out. Started as ``python -m monitor.apprise_sender``;
the address comes on stdin since anybody can read a command line. Never retries, keeps nothing, is imported by nobody.
"""

import json
import logging
import re
import sys

_HOPELESS = frozenset({400, 405, 410, 411, 413, 414, 415, 422, 431})
"""HTTP codes that say the message itself is not acceptable. 401, 403 and 404 are not among them: they come and go with
somebody's maintenance, and a message is not given up for that.
"""


def main() -> int:
    """Carry the order out. Return the exit code: 0 sent, 1 not."""
    order = json.load(sys.stdin)
    error, permanent = _send(order["url"], order["title"], order["body"], order["severity"])
    json.dump({"ok": not error, "permanent": permanent, "error": error}, sys.stdout)
    return 1 if error else 0


def _send(url: str, title: str, body: str, severity: str) -> tuple[str, bool]:
    """Return what went wrong (empty: nothing), and whether it always will."""
    import apprise

    types = {
        "ok": apprise.NotifyType.SUCCESS,
        "warning": apprise.NotifyType.WARNING,
        "critical": apprise.NotifyType.FAILURE,
    }
    with apprise.LogCapture(level=logging.INFO) as log:  # type: ignore[no-untyped-call]
        channel = apprise.Apprise(asset=apprise.AppriseAsset(app_id="keepwatch", app_desc="keepwatch"))
        if not channel.add(url):
            return f"Apprise does not understand the address: {_last_line(log.getvalue())}", True
        if channel.notify(
            title=title, body=body, notify_type=types[severity], body_format=apprise.NotifyFormat.TEXT
        ):
            return "", False
        said = log.getvalue()
    codes = {int(code) for code in re.findall(r"error=(\d{3})\b", said)}
    return _last_line(said), bool(codes & _HOPELESS)


def _last_line(log: str) -> str:
    return (log.strip().splitlines() or ["Apprise gave no reason"])[-1]


if __name__ == "__main__":
    sys.exit(main())
