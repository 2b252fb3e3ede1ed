"""The Grafana dashboard: built by its generator, sound in structure, and every query answered by a real Prometheus."""

import itertools
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import promql_parser
import pytest
from charts import ROOT, one, render
from runs_made import bad_login, finished, login_spec, passed, refused, spec

import dashboard
from smtpprobe_operator.metric_table import METRICS

PANELS = [panel for panel in dashboard.load()["panels"] if panel["type"] != "row"]
TITLES = [panel["title"] for panel in PANELS]


def test_committed_file_is_what_the_generator_builds() -> None:
    """The file in the chart is what tools/dashboard.py builds."""
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "dashboard.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_rows() -> None:
    """The rows are there in the order in which a reader asks."""
    rows = [panel["title"] for panel in dashboard.load()["panels"] if panel["type"] == "row"]
    assert rows == ["Now", "Probes", "One probe", "Reasons", "TLS", "Operator"]


def test_ids_and_titles_are_unique() -> None:
    """Every panel has an id and a title of its own."""
    ids = [panel["id"] for panel in dashboard.load()["panels"]]
    assert len(ids) == len(set(ids))
    assert len(TITLES) == len(set(TITLES))


def test_panels_do_not_overlap() -> None:
    """No two panels share a place, and none is wider than the page."""
    places = [panel["gridPos"] for panel in dashboard.load()["panels"]]
    for place in places:
        assert 0 <= place["x"] < place["x"] + place["w"] <= 24
    for a, b in itertools.combinations(places, 2):
        apart = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        assert apart or a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"], (a, b)


@pytest.mark.parametrize("panel", PANELS, ids=TITLES)
def test_panel_is_complete(panel: dict[str, Any]) -> None:
    """A panel says what it shows, in which unit, from the chosen data source, and each query has its letter."""
    assert len(panel["description"]) > 20
    assert panel["fieldConfig"]["defaults"]["unit"]
    sources = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]
    assert all(source == {"type": "prometheus", "uid": "${datasource}"} for source in sources)
    letters = [target["refId"] for target in panel["targets"]]
    assert letters == [chr(ord("A") + index) for index in range(len(letters))]
    assert letters


def test_no_fixed_data_source() -> None:
    """The data source is a variable: nothing has to be chosen at import."""
    loaded = dashboard.load()
    assert "__inputs" not in loaded
    assert [each["name"] for each in loaded["templating"]["list"]] == ["datasource", "namespace", "name"]
    assert loaded["schemaVersion"] == 41


QUERIES = list(dashboard.queries())


@pytest.mark.parametrize("query", QUERIES, ids=[f"{query.panel}-{index}" for index, query in enumerate(QUERIES)])
def test_query_parses_and_uses_the_metric_table(query: dashboard.PanelQuery) -> None:
    """Every query is PromQL, filters by the chosen probes where its metrics have probes, and uses known metrics only."""
    filled = query.filled()
    assert "$" not in filled
    promql_parser.parse(filled)
    table = {metric.name: metric for metric in METRICS}
    names = set(re.findall(r"\bsmtpprobe_[a-z_]+\b", filled))
    assert names
    assert names <= set(table)
    for name in names:
        if "namespace" in table[name].labels:
            assert len(
                re.findall(rf'{name}\{{namespace=~"\$namespace",name=~"\$name"', query.expr)
            ) == query.expr.count(name)


def test_every_probe_metric_is_shown() -> None:
    """No metric about probes is left out of the dashboard and no column of the table refers to a missing query."""
    shown = " ".join(query.expr for query in QUERIES)
    assert not [metric.name for metric in METRICS if metric.name not in shown]
    table = next(panel for panel in PANELS if panel["type"] == "table")
    letters = {target["refId"] for target in table["targets"]}
    columns = table["transformations"][1]["options"]
    for name in [*columns["renameByName"], *columns["excludeByName"]]:
        assert not name.startswith("Value #") or name[-1] in letters
    shown_names = set(columns["renameByName"].values())
    assert {override["matcher"]["options"] for override in table["fieldConfig"]["overrides"]} <= shown_names


def test_config_map() -> None:
    """The chart puts the file, byte for byte, where Grafana's sidecar looks."""
    config = one(render("--set", "dashboard.enabled=true,dashboard.annotations.folder=Mail"), "ConfigMap")
    assert config["data"]["smtpprobe.json"].strip() == dashboard.FILE.read_text().strip()
    assert config["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert config["metadata"]["annotations"] == {"folder": "Mail"}


# ----------------------------------------------------------------------- every query, answered by a real Prometheus


def exposition() -> bytes:
    """What the operator shows for probes that pass, are refused a login, and are refused as a relay."""
    from datetime import UTC, datetime, timedelta

    from msgspec.structs import replace

    from smtpprobe.model import Certificate, EgressFinding, TlsFacts
    from smtpprobe.resource import Status
    from smtpprobe.status import fold
    from smtpprobe.vocabulary import ConditionStatus, EgressReason, Outcome, Reason, Stage
    from smtpprobe_operator.metrics import Snapshot, exposition as text
    from smtpprobe_operator.registry import Probe

    now = datetime.now(UTC)
    relay = spec(envelope={"from": "a@shop.example.com", "to": ["b@other.example"]})
    leaf = Certificate(subject="CN=mail", issuer="CN=ca", not_before=now, not_after=now + timedelta(days=9))
    denied = EgressFinding(status=ConditionStatus.FALSE, reason=EgressReason.ANONYMOUS_RELAY_DENIED)
    runs = {
        "good": (login_spec(), replace(passed(login_spec(), now), tls=TlsFacts(verified=True, chain=(leaf,)))),
        "bad-login": (login_spec(), bad_login(login_spec(), now)),
        "no-relay": (relay, refused(relay, Reason.RELAY_DENIED, Stage.RCPT, now, egress=denied)),
    }
    probes = tuple(
        Probe(
            uid=name,
            namespace="shop",
            name=name,
            generation=1,
            resource_version="1",
            created=now,
            spec=of,
            status=fold(Status(), of, generation=1, finished=finished(of, result), now=now),
        )
        for name, (of, result) in runs.items()
    )
    return text(
        Snapshot(
            now=now,
            opened=now,
            probes=probes,
            runs={("good", Outcome.PASSED): 1},
            watch_age={"pods": 1.0, "smtpprobes": 1.0},
            api_calls={("patch", 200): 3},
        )
    )


class Metrics(BaseHTTPRequestHandler):
    """The operator's /metrics for these probes."""

    body = b""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *arguments: Any) -> None:
        """Say nothing: pytest's output is for results."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Prometheus that has scraped these metrics twice."""
    folder: Path = tmp_path_factory.mktemp("prometheus")
    Metrics.body = exposition()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Metrics)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    (folder / "prometheus.yml").write_text(
        "global: {scrape_interval: 1s}\n"
        f"scrape_configs: [{{job_name: smtpprobe, honor_labels: true, static_configs: [{{targets: ['127.0.0.1:{server.server_port}']}}]}}]\n"
    )
    url = f"http://127.0.0.1:{free_port()}"
    command = ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    with (folder / "log").open("wb") as log:
        program = subprocess.Popen(
            [*command, f"--web.listen-address={url.removeprefix('http://')}"], stdout=log, stderr=log
        )
    try:
        wait_for_scrapes(url, program, folder / "log")
        yield url
    finally:
        program.kill()
        program.wait()
        server.shutdown()
        server.server_close()
        thread.join()


def wait_for_scrapes(url: str, program: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end and program.poll() is None:
        try:
            counted = dashboard.ask(url, "min(count_over_time(smtpprobe_runs_total[1m]))")
            if counted and float(counted[0]["value"][1]) >= 2:
                return
        except (urllib.error.URLError, OSError, AssertionError):
            pass  # it is still starting
        time.sleep(0.2)
    raise AssertionError(f"Prometheus did not come up:\n{log.read_text()}")


def test_no_panel_is_empty(prometheus: str) -> None:
    """A real Prometheus answers every query of every panel, on what the operator really shows."""
    assert dashboard.empty_queries(prometheus, {"namespace": "shop"}) == []


def test_a_chosen_namespace_without_probes_is_empty(prometheus: str) -> None:
    """The variables are obeyed: with a namespace that has no probe, all panels about probes are empty."""
    empty = {query.panel for query in dashboard.empty_queries(prometheus, {"namespace": "nobody"})}
    operators = {panel["title"] for panel in PANELS if "operator" in str(panel["targets"])}
    assert empty == set(TITLES) - operators


def test_numbers_are_right(prometheus: str) -> None:
    """The first row counts what is there: two of three fail, one login, one address, one certificate."""
    shown = {}
    for query in QUERIES:
        if query.panel in {
            "Failing",
            "Logins refused",
            "Addresses not allowed",
            "Certificates < 14 days",
            "Overdue",
            "Operators",
        }:
            shown[query.panel] = float(dashboard.ask(prometheus, query.filled())[0]["value"][1])
    assert shown == {
        "Failing": 2,
        "Logins refused": 1,
        "Addresses not allowed": 1,
        "Certificates < 14 days": 1,
        "Overdue": 0,
        "Operators": 1,
    }
