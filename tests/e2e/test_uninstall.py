"""The chart is uninstalled while a probe hangs: nothing holds on to a namespace. The last module of this tier."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from hands import operator_log
from k8s import CRD, Api, eventually
from shop import Shop

NAME = "smtpprobes.smtpprobe.dev"
GONE_WITHIN = 30.0


def pods(api: Api, namespace: str) -> list[dict[str, Any]]:
    """The pods of a namespace."""
    return list(api.get(f"/api/v1/namespaces/{namespace}/pods").ok()["items"])


@pytest.fixture(scope="module")
def left(
    api: Api, operator: str, run: Callable[..., str], make_shop: Callable[[], Shop], lives: list[str]
) -> dict[str, Any]:
    """Uninstall while a session waits for a greeting, then delete the namespace, then the definition; what was seen."""
    shop, other = make_shop(), make_shop()
    shop.probe("hangs", "silent", "plain", timeoutSeconds=120)
    other.probe("kept", "relay", "plain")
    other.judged("kept")
    eventually(lambda: [pod["status"]["phase"] for pod in pods(api, shop.namespace)] == ["Running"], within=60)
    lives.append(operator_log(api, operator))
    run("helm", "uninstall", "smtpprobe", "-n", operator, "--wait", "--timeout", "60s")
    eventually(lambda: not pods(api, operator), within=60, pause=0.2)
    seen: dict[str, Any] = {"kept": other.get("kept")}
    seen["phase"] = [pod["status"]["phase"] for pod in pods(api, shop.namespace)]
    seen["finalizers"] = shop.get("hangs")["metadata"].get("finalizers", [])
    api.delete(f"/api/v1/namespaces/{shop.namespace}").ok()
    seen["namespace"] = gone(api, f"/api/v1/namespaces/{shop.namespace}")
    api.delete(f"{CRD}/{NAME}").ok()
    seen["definition"] = gone(api, f"{CRD}/{NAME}")
    return seen


def gone(api: Api, path: str) -> float:
    """Wait until an object that was deleted is gone; returns the seconds that it took."""
    began = time.monotonic()
    eventually(lambda: api.get(path).status == 404, within=2 * GONE_WITHIN, pause=0.2)
    return time.monotonic() - began


def test_uninstalled_chart_leaves_what_people_made(left: dict[str, Any]) -> None:
    """The operator is gone, the SmtpProbes and their last results are not."""
    assert left["kept"]["status"]["summary"] == "1/1"


def test_namespace_goes_while_a_session_hangs(left: dict[str, Any]) -> None:
    """Without an operator and with a pod that waits for a greeting the namespace is gone within 30 s."""
    assert left["phase"] == ["Running"]
    assert left["finalizers"] == []
    assert left["namespace"] < GONE_WITHIN


def test_definition_goes_with_the_rest(left: dict[str, Any]) -> None:
    """Deleting the definition takes the SmtpProbes along; no finalizer waits for an operator that is not there."""
    assert left["definition"] < GONE_WITHIN


def test_operator_never_stumbled(left: dict[str, Any], lives: list[str]) -> None:
    """Whatever the tests of this tier did to it, its logs tell of no error of its own and of no right that it lacks."""
    assert left
    assert all("open: " in life for life in lives)
    stumbled = re.compile(r"Traceback|a step failed|cannot \w+ resource|never awaited")
    assert not [line for life in lives for line in life.splitlines() if stumbled.search(line)]
