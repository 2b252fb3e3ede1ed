"""Forms of a user name: what is suggested from shape, host, sender and reply, and what is never named."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from smtpprobe import usernames
from smtpprobe.usernames import SURE, Known, forms, nothing_to_try, own_domain, service_named, shown

CASES: list[dict[str, Any]] = tomllib.loads(Path(__file__).with_name("data").joinpath("usernames.toml").read_text())[
    "case"
]
FILE: list[dict[str, Any]] = tomllib.loads(Path(usernames.__file__).with_name("usernames.toml").read_text("utf-8"))[
    "service"
]


def known(case: dict[str, Any]) -> Known:
    return Known(
        username=case["username"],
        host=case["host"],
        banner=case.get("banner", ""),
        mail_from=case.get("from", ""),
        reply=case.get("reply", ""),
        password=case.get("password", "correct-horse-9"),
        ntlm=case.get("ntlm", False),
    )


@pytest.mark.parametrize("case", [pytest.param(case, id=case["says"]) for case in CASES])
def test_forms(case: dict[str, Any]) -> None:
    """Each case of the file gets exactly its forms, in their order, with the service that knows and how sure that is."""
    found = forms(known(case))
    assert [one.shown for one in found] == case["forms"]
    if not found:
        assert nothing_to_try(known(case)).startswith("no other form to try: ")
        return
    assert found[0].username == case.get("tried", case["forms"][0])
    assert (found[0].confidence >= SURE) is case.get("sure", False)
    assert found[0].service == case.get("service", "")


@pytest.mark.parametrize("entry", FILE, ids=[entry["name"] for entry in FILE])
def test_each_service_can_be_told(entry: dict[str, Any]) -> None:
    """An entry has hosts in lower case, a form we know, words in both languages, a source, and what its form needs."""
    assert service_named(entry["name"]) is not None
    assert all(host == host.lower() for host in entry["hosts"])
    assert entry["form"] in {"address", "bare", "literal", "key"}
    assert (entry["form"] == "literal") is bool(entry.get("literal"))
    assert (entry["form"] == "key") is bool(entry.get("shape"))
    assert entry["source"]
    assert re.search("[가-힣]", entry["ko"])
    assert not re.search(r"[.!]$", entry["en"] + entry["ko"])


def test_names_and_hosts_are_unique() -> None:
    """No service stands in the file twice, so the first match is the only one."""
    assert len({entry["name"] for entry in FILE}) == len(FILE)
    hosts = [host for entry in FILE for host in entry["hosts"]]
    assert len(set(hosts)) == len(hosts)


@pytest.mark.parametrize(
    "names, domain",
    [
        (("mx1.mail.example.com",), "example.com"),
        (("example.com",), "example.com"),
        (("mail.example.or.jp",), "example.or.jp"),
        (("co.kr",), "co.kr"),
        (("192.0.2.5", "mx.example.org"), "example.org"),
        (("2001:db8::5",), ""),
        (("localhost", "mail"), ""),
        (("smtp.mail.local", "mx.cluster.local"), ""),
        (("*******", "a b.example"), ""),
        (("mx.example.com.",), "example.com"),
    ],
)
def test_own_domain(names: tuple[str, ...], domain: str) -> None:
    """The domain of the first name that is one: neither an address nor a name that nobody can register."""
    assert own_domain(*names) == domain


@given(st.text(max_size=300), st.text(max_size=60), st.text(max_size=60))
def test_any_name_is_safe(username: str, password: str, host: str) -> None:
    """Whatever stands in the Secret: no crash, no form that is the name itself, no text that holds the password."""
    for one in forms(Known(username=username, host=host, password=password, mail_from="a@example.com")):
        assert one.username.casefold() != username.strip().casefold() or not one.username
        if len(password) >= 6 and password.casefold() not in "name@example.com" + host.casefold():
            assert password.casefold() not in one.shown.casefold()


def test_a_key_is_not_shown() -> None:
    """Tokens, UUIDs and what is inside the password become NAME; people's names stay."""
    for name in (
        "9f86d081884c7d659a2feaa0c55ad015",
        "0b0f4a4e-6c5e-4d8e-9a55-1d8c5e8a7a11",
        "PM-T-x8Zk2m3n4p5q6r7s8t9u",
    ):
        assert shown(f"{name}@example.com") == "NAME@example.com"
    for name in ("sender", "order.mail", "noreply-shop2", "team+alerts"):
        assert shown(f"{name}@example.com") == f"{name}@example.com"
