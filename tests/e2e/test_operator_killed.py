"""The operator is killed with SIGKILL while probes are under way: nothing is lost, nothing is done twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from cluster_facts import Facts
from conftest import condition
from hands import kill_operator, operator_pod, restarts
from k8s import Api, eventually
from shop import Shop

# Timeouts in seconds: a silent server lets a session last nearly as long, but no greeting is awaited for over 35 s.
SESSIONS = {"long": 60, "short": 5}


def of_probe(shop: Shop, kind: str, name: str) -> list[dict[str, Any]]:
    """The Jobs or pods of one probe."""
    group = "/apis/batch/v1" if kind == "jobs" else "/api/v1"
    label = f"smtpprobe.dev/probe={name}"
    return list(shop.api.get(f"{group}/namespaces/{shop.namespace}/{kind}", labelSelector=label).ok()["items"])


def phases(shop: Shop) -> dict[str, list[str]]:
    """The phases of each probe's pods."""
    return {name: [pod["status"]["phase"] for pod in of_probe(shop, "pods", name)] for name in SESSIONS}


@pytest.fixture(scope="module")
def survived(
    facts: Facts, api: Api, operator: str, restart: Callable[[], None], make_shop: Callable[[], Shop]
) -> tuple[Shop, dict[str, Any]]:
    """Probes of a silent server; the operator dies while both sessions last and is away when the short one ends."""
    restart()
    # After its second death the kubelet makes a container wait for 10 s, longer than the short session lasts.
    killed = kill_operator(api, facts, operator)
    path = f"/api/v1/namespaces/{operator}/pods/{killed['metadata']['name']}"
    eventually(lambda: dead_or_new(api.get(path).ok(), killed), within=30, pause=0.1)
    eventually(lambda: operator_pod(api, operator), within=60, pause=0.2)
    shop = make_shop()
    for name, seconds in SESSIONS.items():
        shop.probe(name, "silent", "plain", timeoutSeconds=seconds)
        eventually(lambda name=name: phases(shop)[name] == ["Running"], within=60, pause=0.1)
    kill_operator(api, facts, operator)
    seen: dict[str, Any] = {"jobs": {name: of_probe(shop, "jobs", name) for name in SESSIONS}}
    eventually(lambda: phases(shop)["short"] == ["Succeeded"], within=60, pause=0.1)
    seen["away"] = operator_pod(api, operator) is None
    seen["then"] = shop.get("short")["status"]
    eventually(lambda: operator_pod(api, operator), within=90, pause=0.2)
    seen["back while the long session lasts"] = phases(shop)["long"] == ["Running"]
    return shop, seen


def dead_or_new(pod: dict[str, Any], was: dict[str, Any]) -> bool:
    """Whether the kubelet has noticed that the process is gone."""
    (container,) = pod["status"]["containerStatuses"]
    return "running" not in container["state"] or restarts(pod) > restarts(was)


def test_operator_was_away(survived: tuple[Shop, dict[str, Any]]) -> None:
    """The short session ended with nobody there to see it, the long one while the operator was back."""
    _, seen = survived
    assert seen["away"]
    assert condition(seen["then"], "Ready")["reason"] == "Running"
    assert seen["back while the long session lasts"]


@pytest.mark.parametrize("name", SESSIONS)
def test_result_is_harvested_from_the_same_job(survived: tuple[Shop, dict[str, Any]], name: str) -> None:
    """After the restart the status has the verdict of the Job that ran all the time; there is one Job for the trigger."""
    shop, seen = survived
    status = shop.judged(name)
    assert condition(status, "Ready")["reason"] == "BannerTimeout"
    (before,), (after,) = seen["jobs"][name], of_probe(shop, "jobs", name)
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    (pod,) = of_probe(shop, "pods", name)
    (ended,) = pod["status"]["containerStatuses"]
    assert ended["restartCount"] == 0
    assert (status["lastRun"].get("attempt", 0), len(status["history"])) == (0, 1)


def test_one_event_tells_it(survived: tuple[Shop, dict[str, Any]]) -> None:
    """The failure is told once."""
    shop, _ = survived
    shop.judged("short")
    events = eventually(lambda: shop.events("short"))
    assert [event["reason"] for event in events] == ["ProbeFailed"]
