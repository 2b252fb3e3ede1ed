"""A password is in the Secret and on the wire to the mail server, and nowhere else; and none of them breaks an output."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
import traces
from conftest import condition
from k8s import Api
from shop import Shop

ENVELOPE = {"from": "app@corp.test", "to": ["postmaster@corp.test"]}
INBOX = {"from": "user46@corp.test", "to": ["someone@inbox.corp.test"]}
UNENCRYPTED = {"mode": "plain", "allowPlaintextAuth": True}
# name of the Secret: user, password (None: the right one), mail service, more of the spec, reason
LOGINS: dict[str, tuple[str, str | None, str, dict[str, Any], str]] = {
    "right": ("user15@corp.test", None, "submission", {"envelope": ENVELOPE}, "Succeeded"),
    "right-login": ("user16@corp.test", None, "mechanisms", {"mechanism": "LOGIN"}, "Succeeded"),
    "right-unicode": ("unicode@corp.test", None, "submissions", {"mode": "smtps"}, "Succeeded"),
    "wrong": ("user18@corp.test", "Wr0ng+/pass word=%1", "submission", {}, "BadCredentials"),
    "wrong-newline": ("user19@corp.test", "Tr4iling/new+line&\n", "submission", {}, "BadCredentials"),
    "echoed": ("user20@corp.test", "Ech0+ed/by=the?server", "echo", UNENCRYPTED, "BadCredentials"),
    "echoed-login": (
        "user21@corp.test",
        "L0gin+ed/line=by~line",
        "echo",
        UNENCRYPTED | {"mechanism": "LOGIN"},
        "BadCredentials",
    ),
    "right-scram": (
        "user46@corp.test",
        None,
        "mechanisms",
        {"mechanism": "SCRAM-SHA-256", "envelope": INBOX, "depth": "message"},
        "Succeeded",
    ),
    "wrong-cram": (
        "user47@corp.test",
        "Cr4m/digest+of=this?",
        "mechanisms",
        {"mechanism": "CRAM-MD5"},
        "BadCredentials",
    ),
    "wrong-token": (
        "user48@corp.test",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ1c2VyNDgifQ.t0ken/of+nobody=",
        "mechanisms",
        {"mechanism": "XOAUTH2"},
        "BadCredentials",
    ),
    "unsent": ("user22@corp.test", "Never/s3nt+in=clear", "plain-auth", {"mode": "plain"}, "PlaintextAuthRefused"),
}
SHORT = {"short-mail@corp.test": "mail", "short-250@corp.test": "250", "short-sender@corp.test": "sender"}
CONTROL = "user23@corp.test"


def password_of(shop: Shop, name: str) -> str:
    """The password in a Secret of LOGINS."""
    assert shop.facts.mail
    user, password, *_ = LOGINS[name]
    return password or shop.facts.mail.users[user]


@pytest.fixture(scope="module")
def told(api: Api, operator: str, make_shop: Callable[[], Shop]) -> tuple[Shop, dict[str, str]]:
    """Logins of every kind, twice each; and all that the cluster says about them afterwards."""
    shop = make_shop()
    for name, (user, _, service, more, _) in LOGINS.items():
        shop.secret(name, user, password_of(shop, name))
        spec = {key: value for key, value in more.items() if key != "mode"}
        shop.probe(name, service, more.get("mode", "starttls"), credentialsSecretRef={"name": name}, **spec)
    for name in LOGINS:
        shop.judged(name)
        shop.ask(name, "once-more")
    for name in LOGINS:
        shop.run_now(name, "once-more")
    return shop, traces.collect(api, shop, operator)


@pytest.mark.parametrize("name", LOGINS)
def test_password_is_nowhere(told: tuple[Shop, dict[str, str]], name: str) -> None:
    """Raw, in base64 at any offset, URL-encoded or in hex: no status, event, Job, pod, log, metric or report has it."""
    shop, texts = told
    assert not traces.hits(password_of(shop, name), texts)


@pytest.mark.parametrize("name", LOGINS)
def test_login_was_what_it_should_be(told: tuple[Shop, dict[str, str]], name: str) -> None:
    """Each session got as far as its login: what is not found was there to be found."""
    shop, texts = told
    status = shop.get(name)["status"]
    assert condition(status, "Ready")["reason"] == LOGINS[name][-1]
    assert any(name in place for place in texts), "no report"
    assert name in texts["the operator's log"]


@pytest.mark.parametrize("name", ["echoed", "echoed-login"])
def test_echo_is_withheld_and_noted(told: tuple[Shop, dict[str, str]], name: str) -> None:
    """A server that repeats the login in its refusal: the code and the verdict stay, the line goes, a note says so."""
    shop, _ = told
    status = shop.get(name)["status"]
    assert (status["failedStage"], status["replyCode"]) == ("auth", 535)
    assert "CredentialEchoed" in status["locations"][0]["evidence"]["notes"]
    assert "withheld" in str(status["locations"][0])


def test_search_finds_each_form() -> None:
    """The search is not blind: each form is found in the midst of other text."""
    password = "Ech0+ed/by=the?server"
    raw = password.encode()
    planted = {
        "raw": f"535 no {password} here",
        "url": f"?p={quote(password, safe='')}&",
        "hex": raw.hex(),
        **{f"base64 offset {n}": base64.b64encode(b"u" * n + raw + b"!").decode() for n in range(3)},
    }
    for form, text in planted.items():
        assert (form, form) in traces.hits(password, {form: text}), form


@pytest.fixture(scope="module")
def short(make_shop: Callable[[], Shop]) -> Shop:
    """Passwords that are words of the protocol, and one that is not, all of them right."""
    shop = make_shop()
    for user in (*SHORT, CONTROL):
        name = shop.login(user)
        shop.probe(name, "submission", "starttls", credentialsSecretRef={"name": name}, envelope=ENVELOPE)
    for user in (*SHORT, CONTROL):
        shop.judged(user.partition("@")[0])
    return shop


def skeleton(status: dict[str, Any]) -> dict[str, Any]:
    """What two statuses with the same course have in common: all but times, places and the servers' own words."""
    (location,) = status["locations"]
    return {
        "keys": sorted(status),
        "conditions": [(c["type"], c["status"], c["reason"]) for c in status["conditions"]],
        "stages": [(s["stage"], s["outcome"], (s.get("reply") or {}).get("code")) for s in location["stages"]],
        "history": [(h["outcome"], h.get("reason")) for h in status["history"]],
        "egress": status["egress"]["verdict"],
    }


@pytest.mark.parametrize("user", SHORT)
def test_password_that_is_a_word_of_the_protocol_breaks_no_status(short: Shop, user: str) -> None:
    """With the password `mail`, `250` or `sender` a status has the stages, codes and conditions of any other login."""
    control = short.get(CONTROL.partition("@")[0])
    probe = short.get(user.partition("@")[0])
    assert skeleton(probe["status"]) == skeleton(control["status"])
    assert condition(probe["status"], "Ready")["reason"] == "Succeeded"
    assert probe["spec"]["envelope"] == ENVELOPE


def course(report: str) -> list[str]:
    """A report without times, places and the servers' own words: what two sessions with the same course share."""
    lines = []
    for line in report.splitlines():
        text = re.sub(r"node-\w, zone-\w|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC|\s+\d+ ms", " …", line)
        lines.append(re.sub(r"\b([2-5]\d\d)[ -].*", r"\1", text))
    return lines


@pytest.mark.parametrize("user", SHORT)
def test_password_that_is_a_word_of_the_protocol_breaks_no_report(short: Shop, user: str) -> None:
    """A report says the same as with another password, line for line, but for the servers' own words after the login."""
    said, control = (traces.report(short.get(name.partition("@")[0])) for name in (user, CONTROL))
    assert course(said) == course(control)
    assert "<postmaster@corp.test>; 250" in said
    assert "postfix.test:587" in said
