"""The same manifest from two nodes: what each node's address may do, and which address the server saw."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import condition
from hands import leaving_as, node_of
from k8s import eventually
from shop import Shop

ENVELOPE = {"from": "app@corp.test", "to": ["postmaster@outside.test"]}
HOSTNAME, WRONG = "kubernetes.io/hostname", "10.200.0.99"
ECHOES = {"relay": False, "exim": True, "opensmtpd": True}


@pytest.fixture(scope="module")
def pinned(make_shop: Callable[[], Shop]) -> Shop:
    """One probe a server and node, without credentials."""
    shop = make_shop()
    for service in ECHOES:
        for node in ("node-a", "node-b"):
            location = {"nodeSelector": {"kubernetes.io/hostname": node}}
            expected = {"expectedCIDRs": ["10.200.0.11/32"]}
            shop.probe(f"{service}-{node}", service, "plain", envelope=ENVELOPE, location=location, egress=expected)
    return shop


def _facts(status: dict[str, Any], kind: str) -> tuple[str, str]:
    found = condition(status, kind)
    return found["status"], found["reason"]


@pytest.mark.parametrize("service", ["relay", "exim"])
def test_relay_by_address_is_accepted_from_node_a_and_refused_from_node_b(pinned: Shop, service: str) -> None:
    """Node A's address is on the relay's list, node B's is not: the status says so and claims no more."""
    from_a, from_b = pinned.judged(f"{service}-node-a"), pinned.judged(f"{service}-node-b")
    assert _facts(from_a, "Ready") == ("True", "Succeeded")
    assert _facts(from_a, "EgressAuthorized") == ("True", "RelayAcceptedNoControl")
    assert from_a["egress"]["verdict"] == "Authorized"
    assert _facts(from_b, "Ready")[0] == "False"
    assert _facts(from_b, "EgressAuthorized") == ("False", "AnonymousRelayDenied")
    assert from_b["egress"]["verdict"] == "NotAuthorized"
    assert from_b["failedStage"] == "rcpt"


@pytest.mark.parametrize("service", ["relay", "exim"])
def test_a_fresh_pod_that_is_refused_asks_again(pinned: Shop, service: str) -> None:
    """Node B's pod goes to the server once more after its first seconds, and the status keeps that the refusal lasted."""
    kept = {one["name"]: one for one in pinned.judged(f"{service}-node-b")["experiments"]}
    assert kept["address-again"]["answer"] == "refused"
    assert "5 s after the start it is refused again" in kept["address-again"]["showed"]
    assert "address-again" not in str(pinned.judged(f"{service}-node-a"))


def test_the_address_of_the_first_seconds_is_not_blamed(make_shop: Callable[[], Shop]) -> None:
    """A pod whose egress rule comes late is refused and then not: no word against its address, and the next run passes."""
    shop = make_shop()
    assert shop.facts.mail
    exim, log = shop.facts.mail.services["exim"], Path(shop.facts.mail.logs["exim"])
    node, before = node_of(shop.facts, "node-a"), log.stat().st_size
    with leaving_as(node, WRONG, exim.address):
        shop.probe("late", "exim", "plain", envelope=ENVELOPE, location={"nodeSelector": {HOSTNAME: node.name}})
        eventually(lambda: f"[{WRONG}]".encode() in log.read_bytes()[before:], within=60, pause=0.1)
    status = shop.judged("late")
    assert _facts(status, "Ready") == ("False", "EgressIPNotAuthorized")
    assert _facts(status, "EgressAuthorized") == ("Unknown", "Transient")
    assert "leave from another address" in status["advice"]["text"]
    assert "EgressFlapped" in status["locations"][0]["evidence"]["notes"]
    passed = shop.run_now("late", "again")
    assert _facts(passed, "Ready") == ("True", "Succeeded")
    assert _facts(passed, "EgressAuthorized") == ("True", "RelayAcceptedNoControl")
    assert {seen["ip"] for seen in passed["egress"]["addresses"]} == {WRONG, node.address}


def test_refusal_that_names_no_cause_claims_none(pinned: Shop) -> None:
    """OpenSMTPD refuses node B with "550 Invalid recipient": not ready, and no word that the address is to blame."""
    from_a, from_b = pinned.judged("opensmtpd-node-a"), pinned.judged("opensmtpd-node-b")
    assert _facts(from_a, "Ready") == ("True", "Succeeded")
    assert _facts(from_a, "EgressAuthorized") == ("True", "RelayAcceptedNoControl")
    assert (_facts(from_b, "Ready")[0], from_b["failedStage"], from_b["replyCode"]) == ("False", "rcpt", 550)
    assert _facts(from_b, "EgressAuthorized")[0] == "Unknown"
    assert from_b["egress"]["verdict"] == "Unknown"


@pytest.mark.parametrize("service", [name for name, echoes in ECHOES.items() if echoes])
def test_status_names_the_address_that_the_server_saw(pinned: Shop, service: str) -> None:
    """Where the server says our address, the status has it, and it is each node's own."""
    for node, address, expected in (
        ("node-a", "10.200.0.11", ("True", "InExpectedRange")),
        ("node-b", "10.200.0.12", ("False", "OutsideExpectedRange")),
    ):
        status = pinned.judged(f"{service}-{node}")
        seen = status["egress"]["addresses"]
        assert [(s["ip"], s["rank"], s["node"], s["zone"]) for s in seen] == [(address, "A1", node, f"zone-{node[-1]}")]
        assert _facts(status, "EgressExpected") == expected


def test_server_that_names_no_address_leaves_it_unknown(pinned: Shop) -> None:
    """Postfix echoes nothing: no address is claimed, EgressExpected stays Unknown."""
    status = pinned.judged("relay-node-a")
    assert status["egress"].get("addresses", []) == []
    assert _facts(status, "EgressExpected") == ("Unknown", "NotObservable")
