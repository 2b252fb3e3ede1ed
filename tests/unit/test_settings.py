"""Client settings: every client in every configuration, values quoted as its language reads them, no password in any."""

import ast
import configparser
import itertools
import json
import re
from datetime import UTC, datetime

import msgspec
import pytest
import yaml
from hypothesis import given, strategies as st

from smtpprobe import settings
from smtpprobe.cli import main
from smtpprobe.model import AuthFacts, Envelope, ProbeRequest, ProbeResult, TlsOptions
from smtpprobe.settings import Working, clients, snippet
from smtpprobe.vocabulary import Depth, Mechanism, Mode, Outcome

MODES = (Mode.PLAIN, Mode.STARTTLS, Mode.SMTPS)
PORTS = {Mode.PLAIN: 25, Mode.STARTTLS: 587, Mode.SMTPS: 465}
EVERY = [
    Working(
        host="smtp.example.com",
        port=PORTS[mode],
        mode=mode,
        username="sender@example.com" if login else None,
        mechanism=mechanism,
        mail_from="noreply@example.com" if mail_from else None,
        helo="shop.example.com" if helo else None,
        ca_file="/etc/ssl/own.pem" if ca else None,
        server_name="mail.example.com" if name else None,
    )
    for mode, login, mechanism, mail_from, helo, ca, name in itertools.product(
        MODES, (True, False), Mechanism, *[(True, False)] * 4
    )
]
FULL = next(w for w in EVERY if w.mode is Mode.STARTTLS and w.username and w.helo and w.mail_from and not w.server_name)


def working(mode: Mode, **changes: object) -> Working:
    return msgspec.structs.replace(FULL, **{"mode": mode, "port": PORTS[mode], **changes})


@pytest.mark.parametrize("name", clients())
def test_every_client_takes_every_configuration(name):
    """No marker of the template stays, host and port stand in it or a comment says why not, brackets close, no password."""
    for one in EVERY:
        text = snippet(name, one).text
        assert not re.search(r"\{\{\w|\w\}\}|^@| $|[\"'= ]None[\"']", text, re.MULTILINE), text
        assert text.endswith("\n")
        comments = all(line[0] in "#/" for line in text.splitlines())
        assert comments or ("smtp.example.com" in text and str(one.port) in text)
        assert comments or bool(re.search(r"SMTP_PASSWORD|smtp-password", text)) is bool(one.username)
        assert all(text.count(a) == text.count(b) for a, b in ("()", "[]", "{}"))


@pytest.mark.parametrize("name", ["smtplib", "aiosmtplib", "django"])
def test_python_compiles(name):
    """What is Python is Python in every configuration."""
    for one in EVERY:
        compile(snippet(name, one).text, name, "exec")


def test_alertmanager_is_yaml_and_grafana_is_ini():
    """What a parser of the format reads is what was meant, in every configuration."""
    for one in EVERY:
        text = snippet("alertmanager", one).text
        read = yaml.safe_load(text)
        if read is not None:
            read = read["global"]
            assert read["smtp_smarthost"] == f"smtp.example.com:{one.port}"
            assert read.get("smtp_auth_username") == one.username
            assert read["smtp_require_tls"] is (one.mode is Mode.STARTTLS)
            (mail,) = yaml.safe_load(text)["receivers"][0]["email_configs"]
            ca, name = one.ca_file, one.server_name
            if one.mode is Mode.PLAIN:
                ca = name = None
            assert (mail.get("tls_config", {}).get("ca_file"), mail.get("tls_config", {}).get("server_name")) == (
                ca,
                name,
            )
        ini = configparser.RawConfigParser()
        ini.read_string(snippet("grafana", one).text)
        if ini.has_section("smtp"):
            assert ini["smtp"]["host"] == f"smtp.example.com:{one.port}"


LINES = [
    ("django", Mode.STARTTLS, "EMAIL_USE_TLS = True"),
    ("django", Mode.SMTPS, "EMAIL_USE_SSL = True"),
    ("nodemailer", Mode.STARTTLS, "requireTLS: true"),
    ("nodemailer", Mode.SMTPS, "secure: true"),
    ("nodemailer", Mode.PLAIN, "ignoreTLS: true"),
    ("jakarta-mail", Mode.STARTTLS, "mail.smtp.starttls.required=true"),
    ("jakarta-mail", Mode.SMTPS, "mail.smtp.ssl.enable=true"),
    ("spring-boot", Mode.SMTPS, "spring.mail.properties.mail.smtp.ssl.enable=true"),
    ("rails", Mode.STARTTLS, "enable_starttls: true"),
    ("rails", Mode.SMTPS, "\n  tls: true"),
    ("rails", Mode.PLAIN, "enable_starttls_auto: false"),
    ("mailkit", Mode.STARTTLS, "SecureSocketOptions.StartTls"),
    ("mailkit", Mode.SMTPS, "SecureSocketOptions.SslOnConnect"),
    ("phpmailer", Mode.STARTTLS, "ENCRYPTION_STARTTLS"),
    ("phpmailer", Mode.SMTPS, "ENCRYPTION_SMTPS"),
    ("phpmailer", Mode.PLAIN, "SMTPAutoTLS = false"),
    ("grafana", Mode.STARTTLS, "startTLS_policy = MandatoryStartTLS"),
    ("alertmanager", Mode.STARTTLS, "smtp_require_tls: true"),
    ("msmtp", Mode.STARTTLS, "tls_starttls on"),
    ("msmtp", Mode.SMTPS, "tls_starttls off"),
    ("msmtp", Mode.PLAIN, "\ntls off"),
    ("go", Mode.STARTTLS, "client.StartTLS(config)"),
    ("go", Mode.SMTPS, "tls.DialWithDialer"),
]


@pytest.mark.parametrize(("name", "mode", "line"), LINES)
def test_each_mode_has_the_clients_own_word_for_it(name, mode, line):
    """The line that makes the mode stands in that mode's snippet and in no other's."""
    for other in MODES:
        text = snippet(name, working(other, mechanism=Mechanism.AUTO, username=None)).text
        assert (line in text) is (other is mode)


def test_what_a_client_cannot_do_is_said_instead():
    """No setting is printed that would fail later: the snippet is a comment that says why."""
    impossible = [
        ("grafana", working(Mode.SMTPS, port=2465), "port 465 only"),
        ("grafana", working(Mode.STARTTLS, port=465), "another port"),
        ("go", working(Mode.PLAIN), "no password without TLS"),
        ("alertmanager", working(Mode.PLAIN, mechanism=Mechanism.LOGIN), "no password by PLAIN without TLS"),
        ("grafana", working(Mode.PLAIN), "no password by PLAIN without TLS"),
        ("go", working(Mode.STARTTLS, mechanism=Mechanism.LOGIN), "cannot log in by LOGIN"),
        ("smtplib", working(Mode.STARTTLS, mechanism=Mechanism.XOAUTH2), "cannot log in by XOAUTH2"),
    ]
    for name, one, why in impossible:
        text = snippet(name, one).text
        assert why in text
        assert all(line[0] in "#/" for line in text.splitlines())
    assert "smtp_force_implicit_tls: true" in snippet("alertmanager", working(Mode.SMTPS, port=2465)).text
    assert "force_implicit" not in snippet("alertmanager", working(Mode.SMTPS)).text


def test_what_has_no_setting_is_a_remark():
    """A client without a setting for the EHLO name, the CA or the certificate's name says so on top."""
    text = snippet("django", working(Mode.STARTTLS, mechanism=Mechanism.PLAIN, server_name="mail.example.com")).text
    assert text.startswith("# No setting for the EHLO name shop.example.com")
    assert "# No setting for the mechanism PLAIN" in text
    assert "the host must be mail.example.com" in text
    assert "EMAIL_HOST" in text


printable = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=30)


@given(printable)
def test_a_username_comes_out_as_it_went_in(username):
    """Quotes, backslashes and letters of all scripts survive the quoting of Python, YAML and Java properties."""
    one = working(Mode.STARTTLS, mechanism=Mechanism.AUTO, username=username)
    calls = [node for node in ast.walk(ast.parse(snippet("aiosmtplib", one).text)) if isinstance(node, ast.Call)]
    (login,) = [call for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr == "login"]
    assert ast.literal_eval(login.args[0]) == username
    assert yaml.safe_load(snippet("alertmanager", one).text)["global"]["smtp_auth_username"] == username
    found = re.search(r"^mail\.smtp\.user=(.*)$", snippet("jakarta-mail", one).text, re.MULTILINE)
    assert found
    assert _java_properties(found[1]) == username
    assert json.loads(settings.QUOTES["json"](username)) == username


def _java_properties(value: str) -> str:
    """Read a value as java.util.Properties.load does."""
    assert value.isascii()
    units = re.sub(r"\\u([0-9a-f]{4})|\\(.)", lambda m: chr(int(m[1], 16)) if m[1] else m[2], value.lstrip(" "))
    return units.encode("utf-16", "surrogatepass").decode("utf-16")


def test_an_ipv6_address_is_bracketed_where_a_port_follows():
    """Host alone stands bare, host and port together in brackets."""
    one = working(Mode.STARTTLS, host="2001:db8::25")
    assert '"[2001:db8::25]:587"' in snippet("alertmanager", one).text
    assert 'host="2001:db8::25"' in snippet("smtplib", one).text


def test_a_passed_session_gives_what_it_has_shown():
    """Mechanism and user come from a login that succeeded; the EHLO name that we made up is left out."""
    now = datetime(2026, 11, 22, tzinfo=UTC)
    request = ProbeRequest(
        host="smtp.example.com",
        port=465,
        mode=Mode.AUTO,
        depth=Depth.ENVELOPE,
        envelope=Envelope(mail_from="noreply@example.com", rcpt_to=("a@example.net",)),
        tls=TlsOptions(ca_file="/etc/own.pem"),
    )
    auth = AuthFacts(mechanism=Mechanism.LOGIN, sent=True, succeeded=True)
    result = ProbeResult(outcome=Outcome.PASSED, started_at=now, finished_at=now, auth=auth)
    made = Working.of(request, result, "sender")
    assert made == Working(
        host="smtp.example.com",
        port=465,
        mode=Mode.SMTPS,
        username="sender",
        mechanism=Mechanism.LOGIN,
        mail_from="noreply@example.com",
        ca_file="/etc/own.pem",
    )
    without = Working.of(request, msgspec.structs.replace(result, auth=AuthFacts()), "sender")
    assert (without.username, without.mechanism) == (None, Mechanism.AUTO)


def test_the_command_prints_one_client_bare_and_several_with_headings(capsys):
    """One client's snippet can go straight into a file; all of them come with their names; JSON holds each by name."""
    arguments = ["settings", "smtp.example.com:587", "--mode", "starttls", "--username", "sender"]
    assert main([*arguments, "--client", "msmtp"]) == 0
    assert capsys.readouterr().out.startswith("account default\n")
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert re.findall(r"^--- (\S+):", out, re.MULTILINE) == list(clients())
    assert main([*arguments, "--output", "json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert list(made) == list(clients())
    assert made["go"] == {"client": "go", "title": "Go net/smtp", "file": "mail.go", "text": made["go"]["text"]}


def test_a_client_goes_by_what_people_call_it(capsys):
    """javamail, spring, node, php and the like name the client that they stand for; no such name is two clients."""
    aliases = settings.by_alias()
    assert not set(aliases) & set(clients())
    assert {"javamail": "jakarta-mail", "node": "nodemailer", "php": "phpmailer"}.items() <= aliases.items()
    arguments = ["settings", "smtp.example.com:587", "--client"]
    assert main([*arguments, "javamail"]) == main([*arguments, "jakarta-mail"]) == 0
    first, second = capsys.readouterr().out.split("mail.transport.protocol")[1:]
    assert first.strip("# \n") == second.strip("# \n")


def test_a_login_in_the_clear_is_called_one():
    """In mode plain every snippet with a login says who can read the password; none in another mode does."""
    for name in clients():
        for mode in MODES:
            text = snippet(name, working(mode, mechanism=Mechanism.AUTO)).text
            written = not all(line[0] in "#/" for line in text.splitlines())
            assert ("anybody on the way can read the password" in text) is (mode is Mode.PLAIN and written)


def test_a_value_that_a_client_would_read_otherwise_is_refused():
    """Placeholders of Spring Boot and Grafana, letters that smtplib cannot send: the snippet is the reason."""
    for name, username, why in [
        ("spring-boot", "a${b}", "placeholder"),
        ("grafana", "a$__env{b}", "variables"),
        ("grafana", "a${b}", "variables"),
        ("smtplib", "s\u00e4nder", "ASCII only"),
        ("django", "s\u00e4nder", "ASCII only"),
    ]:
        text = snippet(name, working(Mode.STARTTLS, mechanism=Mechanism.AUTO, username=username)).text
        assert why in text
        assert all(line[0] in "#/" for line in text.splitlines())


def test_nothing_is_ever_unverified_or_optional():
    """No snippet, whatever is asked for, turns verification off or makes STARTTLS a choice."""
    weak = (
        r"rejectUnauthorized|Opportunistic|StartTlsWhenAvailable|InsecureSkipVerify|CERT_NONE|verify_peer|"
        r"smtp\.ssl\.trust|VERIFY_NONE|certcheck off|insecure_skip_verify|skip_verify = true|enable_starttls_auto: true|"
        r"start_tls=None|_create_unverified"
    )
    for name, one in itertools.product(clients(), EVERY):
        assert not re.search(weak, snippet(name, one).text, re.IGNORECASE)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["smtp.example.com"], "write the port too"),
        (["smtp.example.com:587", "--username", "a\0b"], "--username "),
        (["smtp.example.com:587", "--username", "a\nb"], "cannot be printed"),
        (["smtp example.com:587"], "HOST: "),
        ([":587"], "HOST: "),
        (["smtp.example.com:587", "--helo", "a b"], "--helo: "),
        (["smtp.example.com:587", "--from", "noreply"], "--from: "),
        (["smtp.example.com:587", "--from", ""], "--from: "),
        (["smtp.example.com:587", "--server-name", "a b"], "--server-name: "),
        (["smtp.example.com:587", "--ca", ""], "--ca: "),
        (["smtp.example.com:587", "--client", "telnet"], "telnet"),
        (["smtp.example.com:99999"], "99999"),
    ],
)
def test_refusals(arguments, said, capsys):
    """What no configuration can hold, or ``check`` refuses, ends with exit code 3 and a sentence that names it."""
    assert main(["settings", *arguments]) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
