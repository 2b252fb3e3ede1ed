"""The Grafana dashboard without Grafana: its queries, and whether a Prometheus answers them."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "charts" / "smtpprobe-operator" / "files" / "dashboards" / "smtpprobe.json"
DEFAULTS = {"namespace": ".*", "name": ".*", "__rate_interval": "1m", "__range": "1h", "__interval": "15s"}


class PanelQuery(NamedTuple):
    """One query of one panel, variables still in it."""

    panel: str
    expr: str

    def filled(self, variables: Mapping[str, str] | None = None) -> str:
        """Put values for the dashboard's and Grafana's own variables, longest names first."""
        text = self.expr
        for name, value in sorted({**DEFAULTS, **(variables or {})}.items(), key=lambda item: -len(item[0])):
            text = text.replace(f"${{{name}}}", value).replace(f"${name}", value)
        return text


def load() -> dict[str, Any]:
    """The dashboard as it is in the chart."""
    return dict(json.loads(FILE.read_text()))


def queries() -> Iterator[PanelQuery]:
    """Every query of every panel."""
    for panel in load()["panels"]:
        for target in panel.get("targets", []):
            yield PanelQuery(panel["title"], target["expr"])


def ask(prometheus_url: str, expr: str) -> list[dict[str, Any]]:
    """Ask a Prometheus server for the value of an expression now; AssertionError with its words where it refuses."""
    url = f"{prometheus_url.rstrip('/')}/api/v1/query?{urllib.parse.urlencode({'query': expr})}"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=10) as reply:
            return list(json.load(reply)["data"]["result"])
    except urllib.error.HTTPError as error:
        raise AssertionError(f"{expr}: {error.read().decode()}") from error


def empty_queries(prometheus_url: str, variables: Mapping[str, str] | None = None) -> list[PanelQuery]:
    """The panel queries to which the server has no answer now: none where every panel shows something.

    ``variables`` are values for the dashboard's (``namespace``, ``name``: regular expressions) and Grafana's variables;
    everything is matched where they are not given.
    """
    return [query for query in queries() if not ask(prometheus_url, query.filled(variables))]
