"""Advice: a text for each reason in each language, with the values of the session, readable without them."""

import re
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pytest

from smtpprobe import advice as module
from smtpprobe.advice import MAX_CHARS, OWNERS, AdviceFacts, advise, fill, more
from smtpprobe.vocabulary import REASONS, Owner, Reason

TEXTS = tomllib.loads(Path(module.__file__).with_name("advice.toml").read_text("utf-8"))
CALCULATED = {"server", "session", "service_form"}
FACTS = AdviceFacts(
    host="smtp.mail.example.com",
    port=587,
    mode="starttls",
    server_ip="2001:db8:aaaa:bbbb::25",
    egress_ip="2001:db8:cccc:dddd:eeee::7",
    user_shape="address",
    helo="shop.apps.cluster.example.com",
    time=datetime(2026, 11, 22, 14, 3, 22, tzinfo=UTC),
    stage="rcpt",
    reply="550 5.7.1 " + "x" * 130,
    sender="noreply@shop.example.com",
    recipient="postmaster@example.org",
    mechanism="PLAIN",
)
EVERY = [(reason, lang) for reason in Reason for lang in OWNERS]


@pytest.mark.parametrize(("reason", "lang"), EVERY)
def test_every_reason_has_advice_that_fits_the_status(reason, lang):
    """Each reason has a text in each language, of known values only, under 600 characters even when all are long."""
    names = set(re.findall(r"\{(\w+)\}", TEXTS[reason][lang]))
    assert names <= set(AdviceFacts.__struct_fields__) | CALCULATED
    for facts in (FACTS, AdviceFacts(), AdviceFacts(host="smtp.example.com", port=25, mode="plain")):
        advice = advise(reason, facts, lang)
        assert advice.owner == REASONS[reason].owner.value
        assert 20 < len(advice.text) <= MAX_CHARS
        assert not re.search(r"[{}\[|]|\]$|\(\)|  | [,.;]|None", advice.text.replace(" [2001:db8:aaaa:bbbb::25]", ""))


def test_no_advice_links_to_a_domain():
    """Advice points to a command of ours, never to a site."""
    assert not re.search(r"https?:|www\.", str(TEXTS))


def test_no_text_stands_for_a_reason_that_does_not_exist():
    """The data file has exactly the vocabulary's reasons, each with what the other language has too."""
    assert set(TEXTS) == {reason.value for reason in Reason}
    for name, text in TEXTS.items():
        assert ("more_en" in text) == ("more_ko" in text), name


def test_advice_names_the_exact_values_of_the_session():
    """The admin reads the address to allow, the server with its address, the time in UTC and the EHLO name."""
    text = advise(Reason.EGRESS_IP_NOT_AUTHORIZED, FACTS).text
    assert "allow 2001:db8:cccc:dddd:eeee::7" in text
    assert "server smtp.mail.example.com [2001:db8:aaaa:bbbb::25]:587" in text
    assert "2026-11-22 14:03:22 UTC" in text
    assert "EHLO name shop.apps.cluster.example.com" in text


def test_advice_points_to_explain_only_where_there_is_more():
    """The pointer stands exactly where explain has more to tell, and can be left out."""
    for reason, lang in EVERY:
        assert advise(reason, FACTS, lang).text.endswith(f"smtpprobe explain {reason}") == bool(more(reason, lang))
        assert "smtpprobe explain" not in advise(reason, FACTS, lang, pointer=False).text


def test_a_long_reply_is_cut_before_the_advice_is():
    """Where the values are long, the reply gives way, and the last sentence stays whole."""
    facts = AdviceFacts(**{name: getattr(FACTS, name) for name in FACTS.__struct_fields__} | {"reply": "y" * 400})
    text = advise(Reason.RELAY_DENIED, facts).text
    assert len(text) <= MAX_CHARS
    assert "…" in text
    assert text.endswith("smtpprobe explain RelayDenied")


@pytest.mark.parametrize(
    ("word", "written"),
    [
        ("서버", "서버가 서버를 서버는 서버와 서버로"),
        ("메일", "메일이 메일을 메일은 메일과 메일로"),
        ("주문", "주문이 주문을 주문은 주문과 주문으로"),
        ("587", "587이 587을 587은 587과 587로"),
        ("25", "25가 25를 25는 25와 25로"),
        ("443", "443이 443을 443은 443과 443으로"),
    ],
)
def test_korean_particles_follow_the_sound_before_them(word, written):
    """이/가, 을/를, 은/는, 과/와, 으로/로 agree with the word that is filled in."""
    template = "{host}이(가) {host}을(를) {host}은(는) {host}과(와) {host}(으)로"
    assert fill(template, AdviceFacts(host=word), "ko") == written


def test_every_owner_has_a_name_in_every_language():
    """Who must act is said in both languages."""
    assert all(set(names) == set(Owner) for names in OWNERS.values())
