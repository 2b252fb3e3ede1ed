"""The alerts that the chart renders, put to promtool with series as the operator gives them."""

import copy
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from charts import alert_rules

from smtpprobe_operator.metric_table import METRICS

ALERTS = Path(__file__).parent / "alerts"
FILES = sorted(ALERTS.glob("*.yaml"))
WANTED = {
    "SmtpProbeAuthFailing",
    "SmtpProbeEgressNotAuthorized",
    "SmtpProbeFailing",
    "SmtpProbeStale",
    "SmtpProbeOperatorDown",
}
PROMTOOL = os.environ.get("PROMTOOL", "promtool")


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([PROMTOOL, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False)


def bare(rules: dict[str, Any]) -> dict[str, Any]:
    """The rules without their texts: promtool compares those letter by letter."""
    rules = copy.deepcopy(rules)
    for group in rules["groups"]:
        for rule in group["rules"]:
            del rule["annotations"]
    return rules


def run_tests(folder: Path, rules: dict[str, Any], tests: list[dict[str, Any]]) -> subprocess.CompletedProcess[str]:
    """`promtool test rules` of these tests on these rules."""
    (folder / "rules.yml").write_text(yaml.safe_dump(rules))
    suite = {"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": tests}
    (folder / "tests.yml").write_text(yaml.safe_dump(suite))
    return promtool("test", "rules", folder / "tests.yml")


def rules_of(rules: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for group in rules["groups"] for rule in group["rules"]}


def test_alerts_are_these() -> None:
    """The chart has these alerts, and each has its file of tests."""
    assert set(rules_of(alert_rules())) == WANTED == {path.stem for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_fires_and_is_silent(path: Path, tmp_path: Path) -> None:
    """Each alert fires where it should and is silent where it should be, on the rules as the chart renders them."""
    tests = yaml.safe_load(path.read_text())
    expected = [
        each["exp_alerts"] for test in tests for each in test["alert_rule_test"] if each["alertname"] == path.stem
    ]
    assert any(expected), "no case in which it fires"
    assert not all(expected), "no case in which it is silent"
    done = run_tests(tmp_path, bare(alert_rules()), tests)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_tests_can_fail(path: Path, tmp_path: Path) -> None:
    """Each alert's tests fail on rules in which that alert can never fire, and on rules in which it always does."""
    tests = yaml.safe_load(path.read_text())
    for instead in ("vector(0) > 1", "vector(1)"):
        rules = bare(alert_rules())
        rules_of(rules)[path.stem]["expr"] = instead
        assert run_tests(tmp_path, rules, tests).returncode != 0, instead


def test_promtool_accepts_the_rules(tmp_path: Path) -> None:
    """`promtool check rules` finds nothing wrong, texts and templates included."""
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump(alert_rules("--set", "prometheusRule.runbookUrl=https://runbooks.example")))
    done = promtool("check", "rules", path)
    assert done.returncode == 0, done.stdout + done.stderr


def selectors(expression: str) -> set[str]:
    """Names of the metrics in an expression, which must be one that Prometheus can parse."""
    promql_parser.parse(expression)
    return set(re.findall(r"\bsmtpprobe_[a-z_]+\b", expression))


def test_expressions_use_the_metric_table() -> None:
    """Every metric in an expression or a text is one that the operator gives."""
    known = {metric.name for metric in METRICS}
    for name, rule in rules_of(alert_rules()).items():
        found = selectors(rule["expr"])
        assert found, name
        assert found <= known, name
        assert set(re.findall(r"\bsmtpprobe_[a-z_]+\b", str(rule["annotations"]))) <= known, name


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_series_are_as_the_operator_gives_them(path: Path) -> None:
    """Every series in the tests has a name and exactly the labels of the operator's table of metrics."""
    table = {metric.name: set(metric.labels) for metric in METRICS}
    for test in yaml.safe_load(path.read_text()):
        for each in test["input_series"]:
            name, labels = re.fullmatch(r"(\w+)\{(.*)\}", each["series"]).groups()
            assert set(re.findall(r"(\w+)=", labels)) == table[name], each["series"]


def test_texts(tmp_path: Path) -> None:
    """The text of an alert names the probe, the reason at that moment, and the commands to run next."""
    tests = yaml.safe_load((ALERTS / "SmtpProbeAuthFailing.yaml").read_text())[:1]
    field = "kubectl -n shop get smtpprobe order-mail -o jsonpath='{.status.advice}'"
    (alert,) = tests[0]["alert_rule_test"][1]["exp_alerts"]
    alert["exp_annotations"] = {
        "summary": "SmtpProbe shop/order-mail: the mail server refuses the login (BadCredentials)",
        "description": "What uses this Secret cannot log in. Logins may be paused by now, so that the account is not "
        f"locked; this alert stays until one succeeds. Who must act, and what to do: {field}. "
        "The whole session: kubectl -n shop describe smtpprobe order-mail. "
        "A mended Secret is tried at the next run.",
        "runbook_url": "https://runbooks.example/SmtpProbeAuthFailing",
    }
    tests[0]["alert_rule_test"] = tests[0]["alert_rule_test"][1:2]
    done = run_tests(tmp_path, alert_rules("--set", "prometheusRule.runbookUrl=https://runbooks.example/"), tests)
    assert done.returncode == 0, done.stdout + done.stderr


def test_texts_name_what_to_do() -> None:
    """Every alert says in its description which command to run next, and links nowhere unless a runbook is given."""
    for name, rule in rules_of(alert_rules()).items():
        assert "kubectl " in rule["annotations"]["description"], name
        assert set(rule["annotations"]) == {"summary", "description"}, name


def test_switches_and_thresholds() -> None:
    """Each alert can be switched off and tuned; what a switched off alert said, SmtpProbeFailing says instead."""
    settings = "prometheusRule.rules"
    rules = rules_of(
        alert_rules(
            "--set",
            f"{settings}.SmtpProbeAuthFailing.enabled=false,{settings}.SmtpProbeFailing.failures=5,"
            f"{settings}.SmtpProbeStale.intervals=10,{settings}.SmtpProbeStale.for=1h,"
            f"{settings}.SmtpProbeEgressNotAuthorized.severity=page,prometheusRule.additionalRuleLabels.team=mail",
        )
    )
    assert set(rules) == WANTED - {"SmtpProbeAuthFailing"}
    assert 'stage="auth"' not in rules["SmtpProbeFailing"]["expr"]
    assert "smtpprobe_consecutive_failures >= 5" in rules["SmtpProbeFailing"]["expr"]
    assert "9 * smtpprobe_interval_seconds" in rules["SmtpProbeStale"]["expr"]
    assert rules["SmtpProbeStale"]["for"] == "1h"
    assert rules["SmtpProbeEgressNotAuthorized"]["labels"] == {"severity": "page", "team": "mail"}
