"""Mode auto in a real cluster: port and mode are found once, by one login, and kept; later runs go straight there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from conftest import condition
from shop import Shop

USER = "user24@corp.test"
Run = Callable[..., str]


@pytest.fixture(scope="module")
def story(make_shop: Callable[[], Shop]) -> tuple[Shop, int, dict[str, Any]]:
    """A probe that names a server and a Secret and nothing else; the shop, where Dovecot's log began, the first status."""
    shop = make_shop()
    mail = shop.facts.mail
    assert mail
    mark = mail.mark()
    shop.apply(
        "auto",
        {
            "host": mail.services["submission"].host,
            "mode": "auto",
            "credentialsSecretRef": {"name": shop.login(USER)},
            "heloName": "shop.corp.test",
            "tls": {"caRef": {"kind": "ConfigMap", "name": "ca"}},
        },
    )
    return shop, mark, shop.judged("auto", within=120)


def test_the_best_port_is_found_and_passes(story: tuple[Shop, int, dict[str, Any]]) -> None:
    """Of Postfix's ports 465 is taken, with TLS from the first byte; the login passes there, and each port is told."""
    _, _, status = story
    ready = condition(status, "Ready")
    assert (ready["status"], ready["reason"]) == ("True", "Succeeded"), ready["message"]
    assert ":465 smtps: " in ready["message"]
    found = status["discovery"]
    assert (found["port"], found["mode"]) == (465, "smtps")
    modes = {port["port"]: port.get("mode") for port in found["ports"]}
    assert modes == {25: "starttls", 465: "smtps", 587: "starttls", 2465: None, 2525: "plain", 2587: "starttls"}
    assert next(port["reason"] for port in found["ports"] if port["port"] == 2525) == "TlsNotOffered"
    assert condition(status, "Secure")["status"] == condition(status, "Authenticated")["status"] == "True"
    assert "mode auto found smtps on port 465" in condition(status, "Accepted")["message"]


def test_kubectl_shows_what_was_declared(story: tuple[Shop, int, dict[str, Any]], run: Run) -> None:
    """PORT and MODE are those of the spec: no port, and auto; the message has what was found."""
    shop, _, _ = story
    columns = "custom-columns=PORT:.spec.port,MODE:.spec.mode,FOUND:.status.discovery.port"
    printed = run("kubectl", "get", "smtpprobe", "auto", "-n", shop.namespace, "--no-headers", "-o", columns)
    assert printed.split() == ["<none>", "auto", "465"]
    row = run("kubectl", "get", "smtpprobe", "auto", "-n", shop.namespace, "--no-headers").split()
    assert "auto" in row
    assert "465" not in row


def test_later_runs_go_straight_there(story: tuple[Shop, int, dict[str, Any]]) -> None:
    """A second run of the same generation looks at nothing again; Dovecot has seen one login a run."""
    shop, mark, first = story
    assert shop.facts.mail
    assert shop.facts.mail.logins(USER, since=mark).accepted == 1
    again = shop.run_now("auto", "please")
    assert again["discovery"] == first["discovery"]
    assert condition(again, "Ready")["reason"] == "Succeeded"
    logins = shop.facts.mail.logins(USER, since=mark)
    assert (logins.accepted, logins.refused) == (2, 0)
