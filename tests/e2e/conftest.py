"""The e2e tier: the chart installed by helm in a real two-node cluster, real mail servers behind real NAT addresses.

Every module applies what it needs at once, in its own namespaces, and its tests read. The last module uninstalls the
chart.
"""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cluster_facts
import pytest
from hands import operator_log
from k8s import Api
from shop import Shop

ROOT = Path(__file__).resolve().parents[2]
SYSTEM = "smtpprobe-test-system"
LAST = ("test_operator_killed.py", "test_uninstall.py")
_NUMBERS = itertools.count(1)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave to the end what the others would notice; they come in any order."""
    items.sort(key=lambda item: LAST.index(item.path.name) + 1 if item.path.name in LAST else 0)


@pytest.fixture(scope="session")
def facts() -> cluster_facts.Facts:
    """What the launcher says about its cluster; without one this tier cannot run, and that is a failure."""
    if cluster_facts.VARIABLE not in os.environ:
        pytest.fail("no test cluster: run this tier as `make test TIERS=e2e`, or pytest inside tests/cluster/launch.py")
    return cluster_facts.load()


@pytest.fixture(scope="session")
def api(facts: cluster_facts.Facts) -> Iterator[Api]:
    """The API server as its admin."""
    assert facts.kubernetes
    client = Api.from_kubeconfig(facts.kubernetes.kubeconfigs["admin"])
    yield client
    client.close()


@pytest.fixture(scope="session")
def run(facts: cluster_facts.Facts) -> Callable[..., str]:
    """Run kubectl or helm as admin; returns what it printed, a failure fails the test."""
    assert facts.kubernetes
    environment = os.environ | {"KUBECONFIG": facts.kubernetes.kubeconfigs["admin"]}

    def command(*arguments: str, within: float = 120) -> str:
        done = subprocess.run(
            arguments, capture_output=True, text=True, timeout=within, check=False, env=environment, cwd=ROOT
        )
        assert done.returncode == 0, f"{' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    return command


def chart_values(facts: cluster_facts.Facts) -> list[str]:
    """The values that an installation in the tests' cluster needs: its images, and Jobs as fast as two cores bear."""
    values = {"limits.jobsPerSecond": "5", "limits.maxRunsPerHost": "12"}
    for prefix, image in (("image", facts.images["operator"]), ("probe.image", facts.images["probe"])):
        repository, tag = image.rsplit(":", 1)
        values |= {f"{prefix}.repository": repository, f"{prefix}.tag": tag, f"{prefix}.pullPolicy": "Never"}
    return [
        part
        for key, value in values.items()
        for part in ("--set-string" if key.endswith("tag") else "--set", f"{key}={value}")
    ]


@pytest.fixture(scope="session")
def operator(facts: cluster_facts.Facts, run: Callable[..., str]) -> str:
    """The operator, installed by helm and ready; gives its namespace."""
    run(
        "helm",
        "upgrade",
        "--install",
        "smtpprobe",
        "charts/smtpprobe-operator",
        "--namespace",
        SYSTEM,
        "--create-namespace",
        *chart_values(facts),
        "--wait",
        "--timeout",
        "90s",
    )
    return SYSTEM


@pytest.fixture(scope="session")
def lives() -> list[str]:
    """What the operator has logged in its earlier lives, as far as a test ended them on purpose."""
    return []


@pytest.fixture(scope="session")
def restart(api: Api, operator: str, run: Callable[..., str], lives: list[str]) -> Callable[[], None]:
    """Give the operator a new pod, and wait until it is ready."""

    def begin_anew() -> None:
        lives.append(operator_log(api, operator))
        run("kubectl", "rollout", "restart", "deployment/smtpprobe-operator", "-n", operator)
        run("kubectl", "rollout", "status", "deployment/smtpprobe-operator", "-n", operator, "--timeout=90s")

    return begin_anew


@pytest.fixture(scope="session")
def make_shop(facts: cluster_facts.Facts, api: Api, operator: str) -> Iterator[Callable[[], Shop]]:
    """Make namespaces where an application's probes live; all are asked to go away in the end."""
    made: list[str] = []

    def make() -> Shop:
        name = f"smtpprobe-test-{os.getpid()}-{next(_NUMBERS)}"
        api.post("/api/v1/namespaces", {"metadata": {"name": name}}).ok()
        made.append(name)
        shop = Shop(api, facts, name)
        shop.config_map("ca", {"ca.crt": Path(facts.ca_file).read_text()})
        return shop

    yield make
    for name in made:
        api.delete(f"/api/v1/namespaces/{name}")


@pytest.fixture
def shop(make_shop: Callable[[], Shop]) -> Shop:
    """A namespace of the test's own."""
    return make_shop()


def condition(status: dict[str, Any], kind: str) -> dict[str, Any]:
    """One condition of a status."""
    return next(c for c in status["conditions"] if c["type"] == kind)
