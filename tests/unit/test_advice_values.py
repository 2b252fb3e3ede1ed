"""Advice names what is known, all of it and nothing else, the same in both languages."""

import re
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from smtpprobe import advice as module
from smtpprobe.advice import MAX_CHARS, OWNERS, REPLY_CHARS, AdviceFacts, advise
from smtpprobe.model import (
    AuthFacts,
    Certificate,
    EgressAddress,
    EgressFinding,
    Envelope,
    Features,
    ProbeRequest,
    ProbeResult,
    Reply,
    StageResult,
    TlsFacts,
    Verdict,
)
from smtpprobe.vocabulary import (
    Depth,
    EgressMethod,
    Mechanism,
    Mode,
    Note,
    Outcome,
    Reason,
    Stage,
    StageOutcome,
)

FOLDER = Path(module.__file__).parent
TEXTS = tomllib.loads((FOLDER / "advice.toml").read_text("utf-8"))
BY_RULE = tomllib.loads((FOLDER / "advice_rules.toml").read_text("utf-8"))
AT = datetime(2026, 11, 22, 14, 3, 22, tzinfo=UTC)
SERVER, OURS = "198.51.100.5", "203.0.113.7"
NO_SESSION = frozenset(
    {
        *(Reason.SPEC_INVALID, Reason.SECRET_NOT_FOUND, Reason.SECRET_KEY_MISSING, Reason.HOST_NOT_ALLOWED),
        *(Reason.IMAGE_PULL_FAILED, Reason.UNSCHEDULABLE, Reason.RESOURCE_QUOTA_EXCEEDED, Reason.ADMISSION_DENIED),
        *(Reason.POD_LOST, Reason.OUT_OF_MEMORY, Reason.DEADLINE_EXCEEDED, Reason.RESULT_UNREADABLE),
        Reason.RESULT_LOST,
    }
)
ABOUT_OUR_ADDRESS = (
    *(Reason.EGRESS_IP_NOT_AUTHORIZED, Reason.EGRESS_IP_BLOCKLISTED, Reason.REVERSE_DNS_MISSING),
    *(Reason.RELAY_DENIED, Reason.GREETING_REJECTED, Reason.CONNECT_RESET, Reason.GREYLISTED),
)
# What a text may name of a session, in the same form in both languages.
VALUES = {
    "address": OURS,
    "server address": SERVER,
    "time": "2026-11-22 14:03:24 UTC",
    "EHLO name": "shop.apps.example.com",
    "sender": "noreply@shop.example.com",
    "recipient": "orders@partner.example.org",
    "host": "smtp.mail.example.com",
    "port": "2587",
    "mode": "starttls",
    "reply": "the server's own words",
    "mechanism": "SCRAM-SHA-256",
    "stage": "rcpt",
    "issuer": "Example CA",
    "names": "mx1.mail.example.com",
    "ends": "2026-12-22 14:03:22 UTC",
    "begins": "2026-11-21 14:03:22 UTC",
}
EVERY = [(reason, reason.value) for reason in Reason] + [(Reason(BY_RULE[rule]["reason"]), rule) for rule in BY_RULE]


def session(reason: Reason, rule: str = "", *, seen: bool = True, shape: str = "address") -> AdviceFacts:
    """A whole session that ended in RCPT with all values known, our address only where ``seen``."""
    request = ProbeRequest(
        host="smtp.mail.example.com",
        port=2587,
        mode=Mode.STARTTLS,
        depth=Depth.ENVELOPE,
        helo_name="shop.apps.example.com",
        envelope=Envelope(mail_from="noreply@shop.example.com", rcpt_to=("orders@partner.example.org",)),
    )
    leaf = Certificate(
        subject="CN=mx1.mail.example.com",
        issuer="CN=Example CA",
        not_before=AT - timedelta(days=1),
        not_after=AT + timedelta(days=30),
        sans=("mx1.mail.example.com",),
    )
    ours = EgressAddress(ip=OURS, family=4, rank="A1", method=EgressMethod.EHLO_REPLY)
    socket = EgressAddress(ip="10.9.8.7", family=4, rank="F", method=EgressMethod.SOCKET)
    result = ProbeResult(
        outcome=Outcome.FAILED,
        started_at=AT,
        finished_at=AT + timedelta(seconds=2),
        verdict=Verdict(reason=reason, rule=rule),
        stage=Stage.RCPT,
        stages=(
            StageResult(
                stage=Stage.RCPT,
                outcome=StageOutcome.FAILED,
                recipient="orders@partner.example.org",
                reply=Reply(code=550, enhanced="5.7.1", lines=("the server's own words",)),
            ),
        ),
        server_ip=SERVER,
        features=Features(before_tls=("STARTTLS",)),
        tls=TlsFacts(protocol="TLSv1.3", verified=False, chain=(leaf,)),
        auth=AuthFacts(mechanism=Mechanism.SCRAM_SHA_256, sent=True, user_shape=shape),
        egress=EgressFinding(addresses=(ours, socket) if seen else (socket,)),
        notes=(Note.GREETING_SLOW,),
    )
    return AdviceFacts.of(request, result)


@pytest.mark.parametrize(("reason", "key"), EVERY)
def test_both_languages_name_the_same_values(reason: Reason, key: str) -> None:
    """Whatever a text names of the session, address, server, time, names, reply, the other language names too."""
    rule = key if key in BY_RULE else ""
    texts = {lang: advise(reason, session(reason, rule), lang).text for lang in OWNERS}
    named = {lang: {what for what, value in VALUES.items() if value in text} for lang, text in texts.items()}
    assert named["en"] == named["ko"]
    assert len(set(texts.values())) == len(texts)
    shapes = [advise(reason, session(reason, rule, shape="bare"), lang).text == texts[lang] for lang in OWNERS]
    assert len(set(shapes)) == 1


@pytest.mark.parametrize("lang", sorted(OWNERS))
@pytest.mark.parametrize(("reason", "key"), EVERY)
def test_no_text_claims_what_nobody_saw(reason: Reason, key: str, lang: module.Lang) -> None:
    """Without an address in the server's words none stands in the text, least of all the socket's own."""
    rule = key if key in BY_RULE else ""
    facts = session(reason, rule, seen=False)
    for known in (facts, AdviceFacts(host="smtp.mail.example.com", port=2587, mode="starttls", rule=rule)):
        text = advise(reason, known, lang).text
        addresses = set(re.findall(r"\d+\.\d+\.\d+\.\d+", text))
        assert addresses <= {SERVER}
        assert not re.search(r"\{|\}|\[(?!IPv6)|\]|\|| None|  |\( | \)|\(\)", text.replace(f"[{SERVER}]", ""))
        assert 20 < len(text) <= MAX_CHARS


@pytest.mark.parametrize("reason", ABOUT_OUR_ADDRESS)
def test_an_address_that_was_not_named_can_be_found(reason: Reason) -> None:
    """Where the address matters and the server did not name it, the text says where it stands: in the server's log."""
    facts = session(reason, seen=False)
    assert "server's log" in advise(reason, facts).text
    assert "서버 로그" in advise(reason, facts, "ko").text
    for lang in OWNERS:
        assert OURS in advise(reason, session(reason), lang).text


@pytest.mark.parametrize("reason", [known for known in ABOUT_OUR_ADDRESS if known is not Reason.GREYLISTED])
@pytest.mark.parametrize("lang", sorted(OWNERS))
def test_a_mail_admin_can_find_the_session_in_the_log(reason: Reason, lang: module.Lang) -> None:
    """What is asked of a mail admin names server with address and port, time in UTC and EHLO name."""
    text = advise(reason, session(reason), lang).text
    for what in ("host", "server address", "port", "time", "EHLO name"):
        assert VALUES[what] in text, what


def test_every_value_is_named_somewhere() -> None:
    """No value is gathered that no text uses, and each text's values are ones that are gathered."""
    used = set(re.findall(r"\{(\w+)\}", str(TEXTS) + str(BY_RULE)))
    gathered = set(AdviceFacts.__struct_fields__) | {"server", "session", "service_form"}
    assert used <= gathered
    assert gathered - used == {"rule", "situations"}


@pytest.mark.parametrize("lang", sorted(OWNERS))
@pytest.mark.parametrize("reason", sorted(NO_SESSION))
def test_what_could_not_run_speaks_of_no_session(reason: Reason, lang: module.Lang) -> None:
    """A run that did not take place has no reply, no address and no time in its advice."""
    text = advise(reason, session(reason), lang).text
    for what in ("address", "server address", "time", "reply", "issuer"):
        assert VALUES[what] not in text


def test_texts_are_short_and_polite() -> None:
    """English has no please in every line and no shouting; Korean sentences end politely, never in plain form."""
    for name, text in (TEXTS | BY_RULE).items():
        assert "!" not in text["en"] + text["ko"], name
        for key in ("ko", "more_ko"):
            bare = re.sub(r"\[([^\[\]|]*\|)*([^\[\]]*)\]", r"\2", text.get(key, ""))
            for sentence in re.split(r"(?<=[다오요])\.", re.sub(r"\([^()]*\)", "", bare)):
                ended = sentence.strip().rstrip(".")
                assert not ended or ended.endswith(("니다", "십시오", "고맙겠습니다")), (name, ended)


def test_a_long_value_never_pushes_the_last_sentence_out() -> None:
    """Values at their longest leave each text whole to its end, or mark where a long reply was cut."""
    long = "x" * 60 + ".example.com"
    for reason, key in EVERY:
        rule = key if key in BY_RULE else ""
        facts = msgspec.structs.replace(
            session(reason, rule), host=long, helo="h" + long, reply="550 " + "r" * REPLY_CHARS, names=f"{long}, {long}"
        )
        for lang in OWNERS:
            text = advise(reason, facts, lang, pointer=False).text
            assert len(text) <= MAX_CHARS
            assert text.endswith("."), (reason, rule, lang, text)


@pytest.mark.parametrize("lang", ["en", "ko"])
def test_no_port_is_named_where_none_was_asked_for(lang: module.Lang) -> None:
    """Mode auto without a port that finds every port closed names none: no port 0."""
    request = ProbeRequest(host="smtp.example.com", mode=Mode.AUTO, depth=Depth.TLS)
    result = ProbeResult(outcome=Outcome.FAILED, started_at=AT, finished_at=AT, stage=Stage.CONNECT)
    text = advise(Reason.CONNECT_REFUSED, AdviceFacts.of(request, result), lang).text
    assert not re.search(r"(?<!\d)0(?!\d)", text)
