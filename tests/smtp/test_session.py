"""Whole sessions against loopback servers: what is sent, how often, in which order, and what is remembered of it."""

import asyncio
import datetime as dt
import socket
import ssl
import threading
import time

import asking
import msgspec
import pytest
from certificates import pki
from hostile import Hostile
from stock import stock_server

from smtpprobe.credentials import Credentials, fingerprint
from smtpprobe.model import Envelope, ProbeRequest, ProbeResult, RefusedLogin, StageResult, TlsOptions, TranscriptLine
from smtpprobe.probing import probe
from smtpprobe.vocabulary import Depth, Mechanism, Mode, Note, Outcome, Reason, Stage, StageOutcome

USER, PASSWORD = "sender@shop.example.com", "correct-horse-9"
SALT = "00112233445566778899aabbccddeeff"
ALL_MODES = pytest.mark.parametrize("mode", [Mode.PLAIN, Mode.STARTTLS, Mode.SMTPS])


def request(port: int, mode: Mode, depth: Depth = Depth.ENVELOPE, **changes: object) -> ProbeRequest:
    return asking.request(port, mode, depth, **({"allow_plaintext_auth": True} | changes))


def run(made: ProbeRequest, password: str | None = PASSWORD) -> ProbeResult:
    return asyncio.run(probe(made, None if password is None else Credentials(USER, password)))


def verdict(result: ProbeResult) -> tuple[Outcome, Stage | None, Reason | None]:
    return result.outcome, result.stage, result.verdict.reason if result.verdict else None


@pytest.mark.filterwarnings("ignore:Session.login_data is deprecated:DeprecationWarning")
@ALL_MODES
def test_stock_server_passes(mode: Mode) -> None:
    """Against a well-behaved server all stages pass, with one login and verified TLS where the mode has it."""
    with stock_server(mode.value, pki().contexts["good"], PASSWORD) as server:
        result = run(request(server.port, mode))
    assert verdict(result) == (Outcome.PASSED, None, None), result.message
    assert server.logins == [(USER.encode(), PASSWORD.encode())]
    assert result.auth.succeeded
    assert not result.auth.refused
    assert (result.tls is not None and result.tls.verified) is (mode is not Mode.PLAIN)
    assert all(entry.outcome is StageOutcome.PASSED for entry in result.stages)


@pytest.mark.parametrize(
    "after, outcome, said",
    [
        ("PLAIN XNEW", StageOutcome.PASSED, "our first choice of what the server offers: PLAIN XNEW"),
        ("XNEW", StageOutcome.FAILED, "the server offers XNEW, not one that we can speak"),
    ],
)
def test_a_login_is_chosen_and_explained_by_what_tls_offers(after: str, outcome: StageOutcome, said: str) -> None:
    """What was announced in plaintext decides no login behind TLS, and stands in no sentence about it."""
    script = "> 220 mx\n< EHLO\n> 250-mx\n> 250-AUTH LOGIN XOLD\n> 250 STARTTLS\n< STARTTLS\n> 220 go\ntls\n"
    script += f"< EHLO\n> 250-mx\n> 250 AUTH {after}\n@rest"
    with Hostile([script], "starttls", pki().contexts) as server:
        result = run(request(server.port, Mode.STARTTLS, Depth.AUTH))
    login = next(entry for entry in result.stages if entry.stage is Stage.AUTH)
    assert (login.outcome, login.detail is not None and login.detail.endswith(said)) == (outcome, True), login.detail
    assert result.features.before_tls is not None
    assert "AUTH LOGIN XOLD" in result.features.before_tls


@pytest.mark.filterwarnings("ignore:Session.login_data is deprecated:DeprecationWarning")
@ALL_MODES
@pytest.mark.parametrize("mechanism", [Mechanism.AUTO, Mechanism.PLAIN, Mechanism.LOGIN])
def test_wrong_password_is_one_login(mode: Mode, mechanism: Mechanism) -> None:
    """A wrong password costs one login, whatever else the server offers, and its fingerprint is kept."""
    with stock_server(mode.value, pki().contexts["good"], PASSWORD) as server:
        result = run(request(server.port, mode, mechanism=mechanism), "wrong-password")
    assert verdict(result) == (Outcome.FAILED, Stage.AUTH, Reason.BAD_CREDENTIALS)
    assert server.logins == [(USER.encode(), b"wrong-password")]
    assert result.auth.refused
    assert result.auth.salt
    assert result.auth.fingerprint == fingerprint(Credentials(USER, "wrong-password"), result.auth.salt)


def test_tls_facts() -> None:
    """The result names protocol, cipher and the chain as the server sent it."""
    with Hostile(["@hello"], "smtps", pki().contexts) as server:
        result = run(request(server.port, Mode.SMTPS, Depth.TLS), None)
    facts = result.tls
    assert facts is not None
    assert facts.protocol == "TLSv1.3"
    assert facts.cipher
    assert facts.errors == ()
    assert facts.chain[0].sans == ("localhost", "127.0.0.1", "::1")
    assert len(facts.chain[0].sha256) == 64


# --------------------------------------------------------------------------------------------------- last commands


@ALL_MODES
@pytest.mark.parametrize(
    "depth, last",
    [
        (Depth.GREETING, ["QUIT"]),
        (Depth.EHLO, ["EHLO probe.example.com", "QUIT"]),
        (Depth.TLS, ["EHLO probe.example.com", "QUIT"]),
        (Depth.ENVELOPE, ["RCPT TO:<postmaster@other.example.org>", "RSET", "QUIT"]),
    ],
)
def test_last_commands(mode: Mode, depth: Depth, last: list[str]) -> None:
    """QUIT ends each depth; after MAIL and RCPT one RSET comes before it."""
    script = "> 220 mx\n@rest"
    if mode is Mode.STARTTLS and depth in {Depth.TLS, Depth.ENVELOPE}:
        script = "@hello\n@rest"
    with Hostile([script], mode.value, pki().contexts) as server:
        result = run(request(server.port, mode, depth), None)
    assert verdict(result) == (Outcome.PASSED, None, None), result.message
    lines = server.heard[0].lines
    assert lines[-len(last) :] == last
    assert lines.count("RSET") == (1 if depth is Depth.ENVELOPE else 0)
    assert len(server.heard) == 1


ENVELOPE_TAKEN = "@hello PIPELINING\n< MAIL\n> 250 ok\n< RCPT\n> 250 ok\n< RSET\n< QUIT\n"


@ALL_MODES
def test_the_goodbye_is_one_round_trip(mode: Mode) -> None:
    """Where PIPELINING is offered RSET and QUIT go together: a server that answers neither before both came is no delay."""
    with Hostile([ENVELOPE_TAKEN + "> 250 ok\n> 221 bye"], mode.value, pki().contexts) as server:
        result = run(request(server.port, mode), None)
    assert verdict(result) == (Outcome.PASSED, None, None), result.message
    assert (result.stages[-1].stage, result.stages[-1].reply and result.stages[-1].reply.code) == (Stage.QUIT, 221)


def test_one_reply_too_many_shows_also_in_a_goodbye_of_one_round_trip() -> None:
    """A reply that answers nothing takes the pass back, although RSET and QUIT were sent together."""
    with Hostile([ENVELOPE_TAKEN + "> 250 ok\n> 250 ok\n> 221 bye"], "plain") as server:
        result = run(request(server.port, Mode.PLAIN), None)
    assert verdict(result) == (Outcome.FAILED, Stage.RCPT, Reason.PROTOCOL_ERROR), result.message
    assert Note.EARLY_DATA in result.notes


def test_after_a_refused_sender() -> None:
    """A refused sender is followed by RSET and QUIT, and by no recipient."""
    with Hostile(["@hello\n< MAIL\n> 550 no\n@rest"], "plain") as server:
        run(request(server.port, Mode.PLAIN), None)
    assert [line.split()[0] for line in server.heard[0].lines] == ["EHLO", "MAIL", "RSET", "QUIT"]


def test_a_recipient_taken_at_loopback_is_not_called_foreign() -> None:
    """What stands behind a loopback address no MX record tells: RCPT 250 without a login proves nothing there."""
    with Hostile(["@hello\n< MAIL\n> 250 ok\n< RCPT\n> 250 ok\n@rest"], "plain") as server:
        result = run(request(server.port, Mode.PLAIN), None)
    assert verdict(result) == (Outcome.PASSED, None, None)
    assert (result.egress.status, result.egress.reason) == ("Unknown", "RecipientMayBeLocal")


def test_all_recipients_are_asked() -> None:
    """Each recipient has its own entry; the first refusal is the verdict, and the others are asked all the same."""
    to = ("a@x.example", "b@x.example", "c@x.example")
    script = "@hello\n< MAIL\n> 250 ok\n< RCPT\n> 250 ok\n< RCPT\n> 550 5.1.1 User unknown\n< RCPT\n> 250 ok\n@rest"
    with Hostile([script], "plain") as server:
        result = run(request(server.port, Mode.PLAIN, envelope=Envelope(mail_from="", rcpt_to=to)), None)
    entries = [(entry.recipient, entry.outcome) for entry in result.stages if entry.stage is Stage.RCPT]
    assert entries == list(zip(to, [StageOutcome.PASSED, StageOutcome.FAILED, StageOutcome.PASSED], strict=True))
    assert verdict(result) == (Outcome.FAILED, Stage.RCPT, Reason.RECIPIENT_REJECTED)
    assert "MAIL FROM:<>" in server.heard[0].lines


def test_two_refused_recipients_are_enough() -> None:
    """After two refusals no other recipient is named, nor by an experiment: fail2ban bars an address after five."""
    to = tuple(f"{name}@x.example" for name in "abcde")
    script = (
        "@hello\n< MAIL\n> 250 ok\n< RCPT\n> 554 5.7.1 Relay access denied\n< RCPT\n> 554 5.7.1 Relay access denied"
    )
    with Hostile([script], "plain") as server:
        result = run(request(server.port, Mode.PLAIN, envelope=Envelope(mail_from="", rcpt_to=to)), None)
    entries = [(entry.recipient, entry.outcome) for entry in result.stages if entry.stage is Stage.RCPT]
    refused, silent = StageOutcome.FAILED, StageOutcome.NOT_REACHED
    assert entries == list(zip(to, [refused, refused, silent, silent, silent], strict=True))
    assert sum(line.startswith("RCPT") for heard in server.heard for line in heard.lines) == 2


def test_later_stages_are_not_reached() -> None:
    """After a failed stage the rest of the plan is listed as not reached."""
    with Hostile(["> 554 no"], "plain") as server:
        result = run(request(server.port, Mode.PLAIN))
    assert [(entry.stage.value, entry.outcome.value) for entry in result.stages] == [
        ("dns", "Passed"),
        ("connect", "Passed"),
        ("greeting", "Failed"),
        ("quit", "Passed"),
        ("ehlo", "NotReached"),
        ("auth", "NotReached"),
        ("mail", "NotReached"),
        ("rcpt", "NotReached"),
    ]


# ------------------------------------------------------------------------------------------------------------ login


def refused_login(password: str) -> RefusedLogin:
    since = dt.datetime(2026, 11, 20, 12, 0, tzinfo=dt.UTC)
    value = fingerprint(Credentials(USER, password), SALT)
    return RefusedLogin(salt=SALT, fingerprint=value, reason=Reason.ACCOUNT_LOCKED, since=since)


@ALL_MODES
def test_refused_credentials_are_not_sent_again(mode: Mode) -> None:
    """Credentials that the server refused before are not sent; the verdict is the old refusal, with its time."""
    with Hostile(["@hello AUTH PLAIN"], mode.value, pki().contexts) as server:
        result = run(request(server.port, mode, refused=refused_login(PASSWORD)))
    assert server.logins == 0
    assert verdict(result) == (Outcome.FAILED, Stage.AUTH, Reason.ACCOUNT_LOCKED)
    assert result.auth.paused
    assert not result.auth.sent
    assert Note.NOT_SENT in result.notes
    assert "2026-11-20 12:00 UTC" in result.message
    assert [e.outcome for e in result.stages if e.stage is Stage.AUTH] == [StageOutcome.SKIPPED]


def test_no_login_is_sent_after_one_that_was_lost_with_its_pod() -> None:
    """Nobody knows what the lost pod sent, so nothing is sent; the result says which credentials that holds for."""
    mode, refused = Mode.STARTTLS, msgspec.structs.replace(refused_login(PASSWORD), fingerprint="")
    with Hostile(["@hello AUTH PLAIN"], mode.value, pki().contexts) as server:
        result = run(request(server.port, mode, refused=refused))
    assert server.logins == 0
    assert (result.auth.paused, result.auth.sent) == (True, False)
    assert (result.auth.salt, result.auth.fingerprint) == (SALT, refused_login(PASSWORD).fingerprint)
    assert "run-now" in result.message


@ALL_MODES
def test_new_credentials_are_tried(mode: Mode) -> None:
    """Other credentials than the refused ones are sent at once."""
    with Hostile(["@hello AUTH PLAIN"], mode.value, pki().contexts) as server:
        result = run(request(server.port, mode, refused=refused_login("the-old-password")))
    assert server.logins == 1
    assert result.outcome is Outcome.PASSED


@pytest.mark.parametrize(
    "reply, refused",
    [
        ("> 535 5.7.8 no", True),
        ("> 454 4.7.0 Temporary authentication failure", False),
        ("close", True),
        ("reset", True),
        ("hang", True),
        ("> 250 what", True),
    ],
)
def test_what_counts_as_refused(reply: str, refused: bool) -> None:
    """A login counts as refused unless 235 came or the server called it temporary; no answer counts too."""
    with Hostile([f"@hello AUTH PLAIN\n< AUTH\n{reply}"], "plain") as server:
        result = run(request(server.port, Mode.PLAIN, timeout_seconds=6))
    assert result.auth.sent
    assert result.auth.refused is refused
    assert (result.auth.fingerprint is not None) is refused


@pytest.mark.parametrize("user, password", [(USER, PASSWORD + "\n"), (" " + USER, PASSWORD)])
def test_white_space_is_sent_and_noted(user: str, password: str) -> None:
    """A newline that somebody encoded with the password is used as it is, and noted before anything else."""
    with Hostile(["@hello AUTH PLAIN"], "plain") as server:
        result = asyncio.run(probe(request(server.port, Mode.PLAIN), Credentials(user, password)))
    assert result.notes[0] is Note.CREDENTIAL_HAS_WHITESPACE
    assert result.outcome is Outcome.PASSED


def test_credentials_are_nowhere() -> None:
    """No stage, line or message shows the credentials, though the server repeats what it heard."""
    script = "@hello AUTH PLAIN LOGIN\n< AUTH\n> 535-5.7.8 bad: AUTH PLAIN AHNlbmRlckBzaG9wLmV4YW1wbGUuY29tAGNvcnJlY3QtaG9yc2UtOQ==\n> 535 5.7.8 (correct-horse-9)"
    lines: list[TranscriptLine] = []
    with Hostile([script], "plain") as server:
        result = asyncio.run(probe(request(server.port, Mode.PLAIN), Credentials(USER, PASSWORD), on_line=lines.append))
    shown = repr(result) + repr(lines)
    assert PASSWORD not in shown
    assert "AHNlbmRlc" not in shown
    assert verdict(result)[2] is Reason.BAD_CREDENTIALS
    assert Note.CREDENTIAL_ECHOED in result.notes
    assert [entry.reply.code for entry in result.stages if entry.stage is Stage.AUTH and entry.reply] == [535]


def test_insecure_never_logs_in() -> None:
    """Without verification there is no login, and no connection for it."""
    with Hostile(["@hello AUTH PLAIN"], "smtps", pki().contexts) as server:
        made = request(server.port, Mode.SMTPS, tls=TlsOptions(insecure_skip_verify=True))
        result = run(made)
    assert verdict(result) == (Outcome.ERROR, None, Reason.SPEC_INVALID)
    assert server.heard == []


# ------------------------------------------------------------------------------------- names, addresses, ports, limits


def answer(monkeypatch: pytest.MonkeyPatch, *addresses: str | OSError | threading.Event) -> None:
    """Let the system's resolver, which is not ours, answer like this."""

    def getaddrinfo(_host: object, port: int, *_: object, flags: int = 0, **__: object) -> list[object]:
        if flags & socket.AI_NUMERICHOST:  # asks nobody: the name is no address
            raise socket.gaierror(socket.EAI_NONAME, "no address")
        found: list[object] = []
        for address in addresses:
            if isinstance(address, OSError):
                raise address
            if isinstance(address, threading.Event):
                address.wait(30)
                raise socket.gaierror(socket.EAI_AGAIN, "again")
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            sockaddr = (address, port, 0, 0) if ":" in address else (address, port)
            found.append((family, socket.SOCK_STREAM, 6, "", sockaddr))
        return found

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_closed_port() -> None:
    """A closed port is ConnectRefused, and says which address."""
    result = run(request(free_port(), Mode.PLAIN))
    assert verdict(result) == (Outcome.FAILED, Stage.CONNECT, Reason.CONNECT_REFUSED)
    assert "127.0.0.1" in result.message


def test_no_such_host() -> None:
    """A name that no name server knows is DnsFailure."""
    result = run(request(587, Mode.PLAIN, host="no-such-host.invalid", timeout_seconds=30))
    assert verdict(result)[:2] == (Outcome.FAILED, Stage.DNS)
    assert verdict(result)[2] in {Reason.DNS_FAILURE, Reason.DNS_TIMEOUT}  # a sandbox may have no name server at all


@pytest.mark.parametrize(
    "code, reason",
    [
        (socket.EAI_NONAME, Reason.DNS_FAILURE),
        (socket.EAI_NODATA, Reason.DNS_FAILURE),
        (socket.EAI_AGAIN, Reason.DNS_FAILURE),
        (socket.EAI_FAIL, Reason.DNS_FAILURE),
    ],
)
def test_resolver_errors(monkeypatch: pytest.MonkeyPatch, code: int, reason: Reason) -> None:
    """What the resolver refuses at once is DnsFailure."""
    answer(monkeypatch, socket.gaierror(code, "no"))
    assert verdict(run(request(587, Mode.PLAIN))) == (Outcome.FAILED, Stage.DNS, reason)


def test_silent_name_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server that never answers is DnsTimeout after the limit of dns, and holds nothing up afterwards."""
    gate = threading.Event()
    answer(monkeypatch, gate)
    began = time.monotonic()
    result = run(request(587, Mode.PLAIN, timeout_seconds=6))
    assert verdict(result) == (Outcome.FAILED, Stage.DNS, Reason.DNS_TIMEOUT)
    assert "(limit dns)" in result.message
    assert time.monotonic() - began < 10
    gate.set()


@pytest.mark.parametrize("host", ["", "a" * 300, "b" * 64 + ".example", "x\0y", "\udcff.example"])
def test_no_host_name(host: str) -> None:
    """What cannot be a name ends the run without a crash and without a connection."""
    result = run(request(587, Mode.PLAIN, host=host, tls=TlsOptions(server_name="x.example")))
    assert result.outcome is not Outcome.PASSED
    assert verdict(result)[2] in {Reason.DNS_FAILURE, Reason.DNS_TIMEOUT, Reason.SPEC_INVALID}


def test_next_address_where_the_first_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Addresses are tried in the resolver's order until one accepts; each outcome is recorded, later ones are left."""
    with Hostile(["@hello AUTH PLAIN"], "plain") as server:
        answer(monkeypatch, "127.0.0.9", "127.0.0.1", "127.0.0.8")
        result = run(request(server.port, Mode.PLAIN))
    assert result.outcome is Outcome.PASSED
    assert [(a.ip, a.tried, a.connected, a.reason) for a in result.addresses] == [
        ("127.0.0.9", True, False, Reason.CONNECT_REFUSED),
        ("127.0.0.1", True, True, None),
        ("127.0.0.8", False, False, None),
    ]
    assert result.server_ip == "127.0.0.1"


def test_no_second_address_sees_the_login(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once an address has accepted TCP, no other one sees AUTH or MAIL, however the session ends."""
    first = Hostile(["@hello AUTH PLAIN\n< AUTH\nclose"], "plain", host="127.0.0.1")
    second = Hostile(["@hello AUTH PLAIN"], "plain", host="127.0.0.2", port=first.port)
    answer(monkeypatch, "127.0.0.1", "127.0.0.2")
    with first, second:
        result = run(request(first.port, Mode.PLAIN))
    assert verdict(result) == (Outcome.FAILED, Stage.AUTH, Reason.CONNECTION_CLOSED)
    assert first.logins == 1
    assert second.heard == []


def test_unreachable_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address without a way to it is ConnectProhibited."""
    answer(monkeypatch, "255.255.255.255")
    assert verdict(run(request(587, Mode.PLAIN))) == (Outcome.FAILED, Stage.CONNECT, Reason.CONNECT_PROHIBITED)


def test_the_telling_address_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where addresses fail in different ways, the one that answered decides; the other reason stays an alternative."""
    answer(monkeypatch, "255.255.255.255", "127.0.0.1")
    result = run(request(free_port(), Mode.PLAIN))
    assert result.verdict is not None
    assert result.verdict.reason is Reason.CONNECT_REFUSED
    assert [other.reason for other in result.verdict.alternatives] == [Reason.CONNECT_PROHIBITED]


def test_dropped_syn() -> None:
    """A port that drops every SYN is ConnectTimeout after the limit of connect."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        full = [socket.socket() for _ in range(4)]
        for sock in full:  # the kernel drops SYNs once the queue of a socket that nobody accepts from is full
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", port))
        began = time.monotonic()
        result = run(request(port, Mode.PLAIN, host="127.0.0.1", timeout_seconds=6))
        for sock in full:
            sock.close()
    assert verdict(result) == (Outcome.FAILED, Stage.CONNECT, Reason.CONNECT_TIMEOUT)
    assert "(limit connect)" in result.message
    assert time.monotonic() - began < 10


def test_stalled_receiver() -> None:
    """A server that reads nothing any more runs into the limit of the stage, and the end leaves nothing behind."""
    with Hostile(["@hello\nhang"], "plain") as server:
        result = run(request(server.port, Mode.PLAIN, timeout_seconds=3), None)
    assert verdict(result) == (Outcome.FAILED, Stage.MAIL, Reason.COMMAND_TIMEOUT)


def test_total_limit_names_itself() -> None:
    """Where the whole time is over before a stage's own limit, the sentence names the total."""
    wait = "wait 0.9"
    script = f"{wait}\n> 220 mx\n< EHLO\n{wait}\n> 250 mx\n< MAIL\n{wait}\n> 250 ok\n< RCPT\nhang"
    with Hostile([script], "plain") as server:
        began = time.monotonic()
        result = run(request(server.port, Mode.PLAIN, timeout_seconds=3), None)
    assert verdict(result) == (Outcome.FAILED, Stage.RCPT, Reason.COMMAND_TIMEOUT)
    assert "(limit total)" in result.message
    assert time.monotonic() - began < 8


def test_no_hello_to_a_silent_port_25() -> None:
    """A silent port 25 gets no ClientHello."""
    made = request(25, Mode.PLAIN, host="127.0.0.1", timeout_seconds=3)
    try:
        server = Hostile(["hang"], "plain", port=25)
    except OSError:
        pytest.skip("port 25 cannot be opened here")
    with server:
        result = run(made, None)
    assert verdict(result) == (Outcome.FAILED, Stage.GREETING, Reason.BANNER_TIMEOUT)
    assert len(server.heard) == 1
    assert result.experiments == ()


def test_ipv6_literal() -> None:
    """An IPv6 address works as a host, and its certificate is checked against the address."""
    try:
        server = Hostile(["@hello"], "smtps", pki().contexts, host="::1")
    except OSError:
        pytest.skip("no IPv6 here")
    with server:
        result = run(request(server.port, Mode.SMTPS, Depth.TLS, host="::1"), None)
    assert result.outcome is Outcome.PASSED, result.message


# ------------------------------------------------------------------------------------------------- requests, callbacks


@pytest.mark.parametrize(
    "changes",
    [
        {"helo_name": "x\r\nMAIL FROM:<a@b.example>"},
        {"helo_name": "two words"},
        {"helo_name": ""},
        {"envelope": Envelope(mail_from="a@b.example> SIZE=1", rcpt_to=("c@d.example",))},
        {"envelope": Envelope(mail_from="a@b.example", rcpt_to=("c@d.example>\r\nDATA",))},
        {"envelope": Envelope(mail_from="a@b.example", rcpt_to=("",))},
        {"envelope": Envelope(mail_from="k\u00f6nig@b.example", rcpt_to=("c@d.example",))},
        {"envelope": None},
        {"tls": TlsOptions(server_name="a..b")},
        {"tls": TlsOptions(ca_file="/no/such/file")},
    ],
)
def test_nothing_odd_reaches_the_wire(changes: dict[str, object]) -> None:
    """A request with a line end, a blank or a bracket in a command is refused before the server hears of it."""
    with Hostile(["@hello AUTH PLAIN"], "smtps", pki().contexts) as server:
        result = run(request(server.port, Mode.SMTPS, **changes))
    assert verdict(result) == (Outcome.ERROR, None, Reason.SPEC_INVALID)
    assert all(heard.lines == [] for heard in server.heard)


def test_stages_and_lines_are_told() -> None:
    """Callbacks get each stage and each line as they happen."""
    told: list[StageResult] = []
    lines: list[TranscriptLine] = []
    with Hostile(["@hello"], "starttls", pki().contexts) as server:
        made = request(server.port, Mode.STARTTLS, Depth.TLS)
        result = asyncio.run(probe(made, None, on_stage=told.append, on_line=lines.append))
    assert tuple(told) == result.stages
    assert [line.text for line in lines if line.who == "C"] == [
        "EHLO probe.example.com",
        "STARTTLS",
        "EHLO probe.example.com",
        "QUIT",
    ]


def test_stop() -> None:
    """A run that is told to stop ends at once, as Error, with what it has."""

    async def stopped(port: int) -> ProbeResult:
        stop = asyncio.Event()
        asyncio.get_running_loop().call_later(0.3, stop.set)
        return await probe(request(port, Mode.PLAIN), Credentials(USER, PASSWORD), stop=stop)

    with Hostile(["@hello AUTH PLAIN\n< AUTH\nhang"], "plain") as server:
        began = time.monotonic()
        result = asyncio.run(stopped(server.port))
    assert time.monotonic() - began < 15
    assert verdict(result) == (Outcome.ERROR, None, Reason.DEADLINE_EXCEEDED)
    assert result.auth.refused  # a login without an answer counts
    assert [entry.stage for entry in result.stages if entry.outcome is StageOutcome.PASSED][-1] is Stage.EHLO
    assert "in stage auth" in result.message


def test_verification_uses_the_system_store() -> None:
    """Without a CA of its own a request trusts the system's store, so not the CA of a test."""
    with Hostile(["@hello"], "smtps", pki().contexts) as server:
        result = run(request(server.port, Mode.SMTPS, Depth.TLS, tls=TlsOptions()), None)
    assert verdict(result) == (Outcome.FAILED, Stage.TLS, Reason.CERTIFICATE_INVALID)


def test_minimum_version() -> None:
    """A server below the minimum version is TlsProtocolUnsupported."""
    tls = TlsOptions(ca_file=pki().ca_file, min_version="1.3")
    contexts: dict[str, ssl.SSLContext] = {"good": pki().contexts["tls12"]}
    with Hostile(["@hello"], "smtps", contexts) as server:
        result = run(request(server.port, Mode.SMTPS, Depth.TLS, tls=tls), None)
    assert verdict(result) == (Outcome.FAILED, Stage.TLS, Reason.TLS_PROTOCOL_UNSUPPORTED)


def test_server_name() -> None:
    """The certificate is checked against serverName where the request has one."""
    tls = TlsOptions(ca_file=pki().ca_file, server_name="mail.example.net")
    contexts = {"good": pki().contexts["other-name"]}
    with Hostile(["@hello"], "smtps", contexts) as server:
        result = run(request(server.port, Mode.SMTPS, Depth.TLS, tls=tls), None)
    assert result.outcome is Outcome.PASSED, result.message
