"""What a scrape costs: /metrics, /metrics/node and the real node_exporter, taking turns in one run.

``python -m tests.benchmarks.scrape [--rounds 500] [--json]``. The daemon runs on the embedded default with its checks
going on, so that each scrape of /metrics finds a new view. Each round scrapes all three over HTTP and reads them to the
end; the target is that p99 of ours is at most half of node_exporter's p50. Exits with 1 when it is missed.
"""

import argparse
import http.client
import json
import statistics
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

import psutil

from tests.benchmarks import idle
from tests.end_to_end.prometheus_tools import node_exporter

WARM_UP = 20
PAUSE_SECONDS = 0.02
PAGES = ("/metrics", "/metrics/node", "node_exporter")


def scrape(connection: http.client.HTTPConnection, path: str) -> tuple[float, int]:
    """Return how long one scrape took, in milliseconds, and how many series it brought."""
    began = time.perf_counter()
    connection.request("GET", path, headers={"Accept-Encoding": "identity"})
    with connection.getresponse() as answer:
        body = answer.read()
        took = (time.perf_counter() - began) * 1e3
        if answer.status != 200:
            raise RuntimeError(f"scraping {path}: {answer.status} {body[:200]!r}")
    return took, sum(not line.startswith(b"#") for line in body.splitlines())


def measure(ours: int, theirs: int, rounds: int) -> dict[str, dict[str, float]]:
    """Take turns; figures in milliseconds."""
    took: dict[str, list[float]] = {page: [] for page in PAGES}
    series: dict[str, int] = {}
    with (
        closing(http.client.HTTPConnection("127.0.0.1", ours)) as keepwatch,
        closing(http.client.HTTPConnection("127.0.0.1", theirs)) as node,
    ):
        for number in range(rounds + WARM_UP):
            for page in PAGES:
                connection, path = (node, "/metrics") if page == "node_exporter" else (keepwatch, page)
                milliseconds, series[page] = scrape(connection, path)
                if number >= WARM_UP:
                    took[page].append(milliseconds)
            time.sleep(PAUSE_SECONDS)
    return {
        page: {
            "series": series[page],
            "p50_ms": round(statistics.median(values), 2),
            "p99_ms": round(statistics.quantiles(values, n=100)[98], 2),
        }
        for page, values in took.items()
    }


def main() -> int:
    """Run it and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=500)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="keepwatch-scrape.") as name:
        folder, port = Path(name), idle.free_port()
        child = idle.start(folder, port, '[metrics]\nnode = "on"\n')
        try:
            idle.wait_until_idle(psutil.Process(child.pid))
            with node_exporter(folder) as url:
                figures = measure(port, int(url.split(":")[2].split("/")[0]), arguments.rounds)
        finally:
            child.terminate()
            child.wait(60)
    bound = figures["node_exporter"]["p50_ms"] / 2
    if arguments.json:
        sys.stdout.write(json.dumps(figures) + "\n")
    else:
        sys.stdout.write("| scrape over HTTP | series | p50 ms | p99 ms | met |\n|---|---|---|---|---|\n")
        for page, row in figures.items():
            met = "" if page == "node_exporter" else "yes" if row["p99_ms"] <= bound else f"no: over {bound:.2f}"
            sys.stdout.write(f"| {page} | {row['series']} | {row['p50_ms']} | {row['p99_ms']} | {met} |\n")
    return int(any(figures[page]["p99_ms"] > bound for page in PAGES[:2]))


if __name__ == "__main__":
    sys.exit(main())
