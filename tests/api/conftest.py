"""The api tier runs inside `tests/cluster/launch.py --nodes 0 -- …`: a real API server, nothing else of a cluster."""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Callable, Iterator

import cluster_facts
import pytest
from k8s import Api

_NUMBERS = itertools.count(1)


@pytest.fixture(scope="session")
def facts() -> cluster_facts.Facts:
    """What the launcher says about its cluster; without one this tier cannot run, and that is a failure."""
    if cluster_facts.VARIABLE not in os.environ:
        pytest.fail("no test cluster: run this tier as `make test TIERS=api`, or pytest inside tests/cluster/launch.py")
    return cluster_facts.load()


@pytest.fixture(scope="session")
def api(facts: cluster_facts.Facts) -> Iterator[Api]:
    """The API server as its admin."""
    assert facts.kubernetes
    client = Api.from_kubeconfig(facts.kubernetes.kubeconfigs["admin"])
    yield client
    client.close()


@pytest.fixture(scope="session")
def crd(api: Api) -> None:
    """The project's CRD, served."""
    api.install_crd()


@pytest.fixture
def namespace(api: Api) -> Iterator[str]:
    """A namespace of the test's own."""
    with api.namespace(f"smtpprobe-test-{os.getpid()}-{next(_NUMBERS)}") as name:
        yield name


@pytest.fixture(scope="session")
def kubectl(facts: cluster_facts.Facts) -> Callable[..., str]:
    """Run kubectl as admin; returns what it printed, a failure fails the test."""
    assert facts.kubernetes
    config = facts.kubernetes.kubeconfigs["admin"]

    def run(*arguments: str) -> str:
        command = ["kubectl", f"--kubeconfig={config}", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
