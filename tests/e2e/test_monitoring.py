"""A real Prometheus scrapes the operator: metrics as the statuses say, the chart's alerts, every panel of the dashboard."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest
import yaml
from charts import alert_rules
from cluster_facts import Facts
from hands import operator_log
from k8s import Api, eventually
from shop import Shop

from dashboard import ask, empty_queries

ENVELOPE = {"from": "app@corp.test", "to": ["postmaster@outside.test"]}
USER = "user58@corp.test"


def reload(url: str) -> None:
    with urllib.request.urlopen(urllib.request.Request(f"{url}/-/reload", method="POST"), timeout=10) as reply:
        assert reply.status == 200


@pytest.fixture(scope="module")
def prometheus(facts: Facts, api: Api, operator: str) -> Iterator[str]:
    """Prometheus scraping what is behind the chart's metrics Service, with the chart's alerts (which wait 2 s instead of 5 min)."""
    assert facts.prometheus, "launch the e2e tier with --prometheus"
    query = {"labelSelector": "kubernetes.io/service-name=smtpprobe-operator-metrics"}
    (behind,) = api.get(f"/apis/discovery.k8s.io/v1/namespaces/{operator}/endpointslices", **query).ok()["items"]
    address = f"{behind['endpoints'][0]['addresses'][0]}:{behind['ports'][0]['port']}"
    rules = alert_rules()
    for group in rules["groups"]:
        for rule in group["rules"]:
            rule["for"] = "2s"
    rules_file = Path(facts.prometheus.rules_folder) / "chart.yml"
    rules_file.write_text(yaml.safe_dump(rules))
    config_file = Path(facts.prometheus.config_file)
    before = config_file.read_text()
    config = yaml.safe_load(before)
    job = {"job_name": "smtpprobe", "honor_labels": True, "static_configs": [{"targets": [address]}]}
    config_file.write_text(yaml.safe_dump(config | {"scrape_configs": [*config["scrape_configs"], job]}))
    reload(facts.prometheus.url)
    url = facts.prometheus.url
    eventually(lambda: ask(url, "smtpprobe_operator_build_info"), within=30, pause=0.3)
    yield url
    rules_file.unlink()
    config_file.write_text(before)
    reload(url)


@pytest.fixture(scope="module")
def watched(make_shop: Callable[[], Shop], prometheus: str) -> Shop:
    """Four probes: one passes with a login, one has a wrong password, one relay knows its address and one does not."""
    shop = make_shop()
    shop.secret("right", USER, shop.facts.mail.users[USER])
    shop.secret("wrong", USER, "not-the-password")
    shop.probe("good", "submission", "starttls", credentialsSecretRef={"name": "right"})
    shop.probe("bad-login", "submission", "starttls", credentialsSecretRef={"name": "wrong"})
    for node in ("node-a", "node-b"):
        location = {"nodeSelector": {"kubernetes.io/hostname": node}}
        shop.probe(f"relay-{node}", "relay", "plain", envelope=ENVELOPE, location=location)
    for name in ("good", "bad-login", "relay-node-a", "relay-node-b"):
        shop.judged(name)
    return shop


def values(url: str, shop: Shop, metric: str, label: str = "name") -> dict[str, float]:
    """One metric of a namespace's probes, by a label."""
    found = ask(url, f'{metric}{{namespace="{shop.namespace}"}}')
    return {each["metric"][label]: float(each["value"][1]) for each in found}


def shows(url: str, shop: Shop, metric: str, wanted: dict[str, float], label: str = "name") -> None:
    """Wait for the scrape that shows these values, all of them and no others."""
    eventually(lambda: values(url, shop, metric, label) == wanted, within=20, pause=0.3)


def alerts(url: str, shop: Shop, name: str) -> set[str]:
    """Alerts that fire for one probe."""
    selector = f'alertstate="firing",namespace="{shop.namespace}",name="{name}"'
    return {each["metric"]["alertname"] for each in ask(url, f"ALERTS{{{selector}}}")}


def test_success_is_what_the_statuses_say(prometheus: str, watched: Shop) -> None:
    """Prometheus shows for each probe whether its last session passed, as its status does."""
    shows(prometheus, watched, "smtpprobe_success", {"good": 1, "bad-login": 0, "relay-node-a": 1, "relay-node-b": 0})


def test_reason_is_what_the_statuses_say(prometheus: str, watched: Shop) -> None:
    """The reason in Prometheus is the reason of Ready, for the probes that are not ready and for no other."""

    def compare() -> bool:
        found = ask(prometheus, f'smtpprobe_failure_reason{{namespace="{watched.namespace}"}}')
        shown = {each["metric"]["name"]: each["metric"]["reason"] for each in found}
        said = {}
        for name in ("good", "bad-login", "relay-node-a", "relay-node-b"):
            ready = next(c for c in watched.get(name)["status"]["conditions"] if c["type"] == "Ready")
            if ready["status"] != "True":
                said[name] = ready["reason"]
        return shown == said and said["bad-login"] == "BadCredentials" and "relay-node-b" in said

    eventually(compare, within=20, pause=0.5)


def test_egress_is_what_the_statuses_say(prometheus: str, watched: Shop) -> None:
    """The address that may relay is 1, the one that may not is 0, and where nothing is known there is no series."""
    shows(prometheus, watched, "smtpprobe_egress_authorized", {"relay-node-a": 1, "relay-node-b": 0})
    verdicts = {name: watched.get(name)["status"]["egress"]["verdict"] for name in ("relay-node-a", "relay-node-b")}
    assert verdicts == {"relay-node-a": "Authorized", "relay-node-b": "NotAuthorized"}


def test_times_and_certificate(prometheus: str, watched: Shop) -> None:
    """The last run's time and the certificate's end are those of the status."""
    status = watched.get("good")["status"]
    seen = datetime.fromisoformat(status["lastRunTime"]).timestamp()
    eventually(
        lambda: values(prometheus, watched, "smtpprobe_last_run_timestamp_seconds").get("good") == seen,
        within=20,
        pause=0.3,
    )
    (leaf, *_) = status["locations"][0]["tls"]["chain"]
    ends = datetime.fromisoformat(leaf["notAfter"]).timestamp()
    shows(prometheus, watched, "smtpprobe_certificate_not_after_timestamp_seconds", {"good": ends, "bad-login": ends})


def test_namespace_is_the_probes(prometheus: str, watched: Shop) -> None:
    """The label `namespace` is the SmtpProbe's, and nothing is called exported_namespace."""
    shows(prometheus, watched, "smtpprobe_success", {"good": 1, "bad-login": 0, "relay-node-a": 1, "relay-node-b": 0})
    (found,) = ask(prometheus, f'smtpprobe_success{{namespace="{watched.namespace}",name="good"}}')
    assert "exported_namespace" not in found["metric"]


def test_address_that_is_not_allowed_fires(prometheus: str, watched: Shop) -> None:
    """SmtpProbeEgressNotAuthorized fires for node B's relay, and nothing for node A's and the good login."""
    eventually(
        lambda: alerts(prometheus, watched, "relay-node-b") == {"SmtpProbeEgressNotAuthorized"}, within=30, pause=0.5
    )
    assert not alerts(prometheus, watched, "relay-node-a")
    assert not alerts(prometheus, watched, "good")


def test_wrong_password_keeps_firing(prometheus: str, make_shop: Callable[[], Shop]) -> None:
    """SmtpProbeAuthFailing fires after the second, the fourth and the tenth run, of which hardly any logs in."""
    shop = make_shop()
    assert shop.facts.mail
    user, mark = "user59@corp.test", shop.facts.mail.mark()
    shop.secret("wrong", user, "not-the-password")
    for run in range(1, 11):
        # A new spec runs at once, and by the rules of a scheduled run: run-now would allow a login each time.
        login = {"name": "wrong"}
        shop.probe("bad", "submission", "starttls", credentialsSecretRef=login, heloName=f"run{run}.corp.test")
        shop.judged("bad")
        if run in {2, 4, 10}:
            shows(prometheus, shop, "smtpprobe_consecutive_failures", {"bad": run})
            eventually(lambda: alerts(prometheus, shop, "bad") == {"SmtpProbeAuthFailing"}, within=30, pause=0.5)
    assert shop.facts.mail.logins(user, since=mark).refused <= 2
    stages = values(prometheus, shop, "smtpprobe_stage_success", "stage")
    assert (stages["tls"], stages["auth"]) == (1, 0)


def test_no_panel_of_the_dashboard_is_empty(prometheus: str, watched: Shop) -> None:
    """Every query of every panel has an answer, for the probes of one namespace."""
    chosen = {"namespace": watched.namespace}
    eventually(lambda: not empty_queries(prometheus, chosen), within=60, pause=2)


def test_the_grant_is_enough(api: Api, operator: str, prometheus: str, watched: Shop) -> None:
    """The operator lacked no right: its grant, the smallest there is, covers all that it did.

    A 403 alone would not tell: quotas, policies and a namespace that ends give it too, and other modules cause those.
    """
    assert watched.get("good")
    eventually(lambda: ask(prometheus, 'smtpprobe_operator_api_calls_total{verb="create"}'), within=20, pause=0.3)
    assert not ask(prometheus, 'smtpprobe_operator_api_calls_total{code="401"}')
    assert "not permitted" not in operator_log(api, operator)


def test_deleted_probe_leaves_no_series(prometheus: str, make_shop: Callable[[], Shop]) -> None:
    """What is deleted is gone from the metrics: no series of it stays."""
    shop = make_shop()
    shop.probe("short-lived", "relay", "plain")
    shop.judged("short-lived")
    everything = f'{{namespace="{shop.namespace}",job="smtpprobe"}}'
    eventually(lambda: ask(prometheus, everything), within=20, pause=0.3)
    path = f"/apis/smtpprobe.dev/v1alpha1/namespaces/{shop.namespace}/smtpprobes/short-lived"
    shop.api.delete(path).ok()
    eventually(lambda: not ask(prometheus, everything), within=20, pause=0.3)
