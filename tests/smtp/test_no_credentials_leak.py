"""Servers that repeat the login wherever they can: it stands in no result, transcript, log or termination message."""

import asyncio
import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import msgspec
import pytest
from hostile import Hostile

from smtpprobe import codec
from smtpprobe.credentials import Credentials
from smtpprobe.model import CredentialFiles, Envelope, ProbeRequest, ProbeResult
from smtpprobe.probing import probe
from smtpprobe.redact import WITHHELD, WITHHELD_SHORT
from smtpprobe.vocabulary import Depth, Mechanism, Mode, Note, Outcome

USER = "sender@corp.test"
PASSWORD = 'c0rrect-horse"\\&% b4ttery'
FORMS = {
    "raw": lambda p: p,
    "upper": lambda p: p.upper(),
    "base64": base64.b64encode,
    "PLAIN": lambda p: base64.b64encode(b"\0" + USER.encode() + b"\0" + p),
    "PLAIN cut": lambda p: base64.b64encode(b"\0" + USER.encode() + b"\0" + p)[:-4],
    "offset": lambda p: base64.b64encode(b"ab" + p),
    "hex": lambda p: p.hex().encode(),
    "url": lambda p: quote(p, safe="").encode(),
}


def escaped(raw: bytes) -> str:
    """Bytes for a script line of the test server."""
    return "".join(f"\\x{byte:02x}" for byte in raw)


SCRIPTS = {
    "refusal": "@hello AUTH PLAIN\n< AUTH\n> 535 5.7.8 no such login: {it} sorry",
    "folded refusal": "@hello AUTH PLAIN\n< AUTH\n> 535-5.7.8 no {half}\n> 535 {rest}",
    "not SMTP": "@hello AUTH PLAIN\n< AUTH\n> you said {it}",
    "not SMTP, without end": "@hello AUTH PLAIN\n< AUTH\n>> {it}\nhang",
    "code mismatch": "@hello AUTH PLAIN\n< AUTH\n> 535-no\n> 454 {it}",
    "cut in the line": "@hello AUTH PLAIN\n< AUTH\n>> 535 no {it}\nclose",
    "endless line": "@hello AUTH PLAIN\n< AUTH\n>> 535 {it} \nflood x{it}",
    "unasked": "@hello AUTH PLAIN\n< AUTH\n> 235 in\n> 250 {it}\n< MAIL",
    "unasked 421": "@hello AUTH PLAIN\n< AUTH\n>> 235 in\\r\\n421 {it}\\r\\n\nhang",
    "MAIL refusal": "@hello AUTH PLAIN\n< AUTH\n> 235 welcome {it}\n< MAIL\n> 550 5.7.1 {it}",
    "RCPT refusal": "@hello AUTH PLAIN\n< AUTH\n> 235 in\n< MAIL\n> 250 ok\n< RCPT\n> 550 5.1.1 {it}",
    "challenge": "@hello AUTH PLAIN\n< AUTH\n> 334 {it}\n< \n> 334 {it}\n< *\n> 501 {it}",
    "greeting of the next session": "> 220 mx.example.net last was {it}\n< EHLO\n> 250 AUTH PLAIN",
    "EHLO line": "> 220 mx.example.net\n< EHLO\n> 250-mx.example.net hello {it}\n> 250 AUTH PLAIN\n< AUTH\n> 535 no",
    "EHLO keyword": "> 220 mx.example.net\n< EHLO\n> 250-mx.example.net\n> 250-LAST {it}\n> 250 AUTH PLAIN\n< AUTH\n> 535 no",
    "EHLO mechanism": "> 220 mx.example.net\n< EHLO\n> 250-mx.example.net\n> 250 AUTH {it}\n< QUIT",
    "EHLO mechanisms": "> 220 mx.example.net\n< EHLO\n> 250-mx.example.net\n> 250 AUTH PLAIN {it}\n< AUTH\n> 235 in",
    "QUIT": "@hello AUTH PLAIN\n< AUTH\n> 535 no\n< QUIT\n> 221 bye {it}",
}


def request(port: int, **more: object) -> ProbeRequest:
    return ProbeRequest(
        host="localhost", port=port, mode=Mode.PLAIN, depth=Depth.ENVELOPE, mechanism=Mechanism.PLAIN,
        allow_plaintext_auth=True, helo_name="probe.example.com", timeout_seconds=5,
        envelope=Envelope(mail_from="noreply@shop.example.com", rcpt_to=("postmaster@other.example.org",)), **more,
    )  # fmt: skip


def filled(script: str, said: bytes) -> str:
    half = len(said) // 2
    return script.format(it=escaped(said), half=escaped(said[:half]), rest=escaped(said[half:]))


def run(script: str, password: str) -> tuple[ProbeResult, str]:
    """Return the result and everything that may be stored or printed of the session."""
    printed: list[str] = []
    with Hostile([script], "plain") as server:
        result = asyncio.run(
            probe(
                request(server.port),
                Credentials(USER, password),
                on_stage=lambda entry: printed.append(codec.ascii_json(entry).decode()),
                on_line=lambda line: printed.append(line.text),
            )
        )
    stored = [codec.encode_result(result, None).decode(), codec.encode_result(result).decode(), repr(result)]
    return result, "\n".join([*stored, *printed])


def traces(password: str, text: str) -> list[str]:
    """Return the forms of the password, or eight characters of its base64, that stand in a text."""
    raw = password.encode()
    found = [name for name, form in FORMS.items() if form(raw).decode("latin-1").lower() in text.lower()]
    sanitized = "".join(chr(b) if 0x20 <= b < 0x7F else f"\\x{b:02x}" for b in raw)
    found += ["sanitized"] if sanitized.lower() in text.lower() or json.dumps(sanitized)[1:-1] in text else []
    found += ["readable"] if password.lower() in text.lower() else []
    if len(raw) >= 12:  # the secret part of the PLAIN response, in pieces
        tail = base64.b64encode(b"\0" + USER.encode() + b"\0" + raw).decode().rstrip("=")[-(len(raw) * 4 // 3 - 2) :]
        found += [f"piece {tail[i : i + 8]}" for i in range(len(tail) - 7) if tail[i : i + 8] in text]
    return found


CASES = [(name, PASSWORD, form) for name in SCRIPTS for form in ("raw", "PLAIN")]
CASES += [("refusal", PASSWORD, form) for form in FORMS if form not in ("raw", "PLAIN")]
CASES += [(name, "pässwörd-日本語", "PLAIN cut") for name in ("not SMTP", "folded refusal", "EHLO keyword")]
CASES += [(name, "Zx9Zx9", "raw") for name in ("cut in the line", "unasked 421", "QUIT")]


@pytest.mark.parametrize("name, password, form", CASES)
def test_no_echo_is_stored(name: str, password: str, form: str) -> None:
    """Whatever form of the login a server repeats, and wherever, nothing of it can be found, and a note says so."""
    result, text = run(filled(SCRIPTS[name], FORMS[form](password.encode())), password)
    assert traces(password, text) == [], result.message
    assert Note.CREDENTIAL_ECHOED in result.notes or name == "endless line"
    assert result.outcome is not Outcome.ERROR


@pytest.mark.parametrize("name", SCRIPTS)
def test_short_passwords_leave_no_server_text(name: str) -> None:
    """With a password under 6 characters the server's words from AUTH on are not stored, its codes are."""
    result, text = run(filled(SCRIPTS[name], b"GOTCHA"), "a1B")
    from_auth_on = [s.reply for s in result.stages if s.stage in ("auth", "mail", "rcpt", "quit") and s.reply]
    assert all(line in (WITHHELD_SHORT, WITHHELD) for reply in from_auth_on for line in reply.lines)
    assert all(reply.code >= 200 for reply in from_auth_on)
    if "EHLO" not in name and name != "greeting of the next session":
        assert "GOTCHA" not in text


@pytest.mark.parametrize("password", ["mail", "250", "sender", "example", "other.example.org", "probe.example.com"])
def test_passwords_like_our_own_words_break_nothing(password: str) -> None:
    """A password that is a word of the spec or the protocol alters no value of the spec and no code."""
    result, text = run("@hello AUTH PLAIN\n< AUTH\n> 235 2.7.0 in\n@rest", password)
    assert result.outcome is Outcome.PASSED
    assert [s.recipient for s in result.stages if s.recipient] == ["postmaster@other.example.org"]
    assert [s.reply.code for s in result.stages if s.reply] == [220, 250, 235, 250, 250, 221]
    assert "RCPT TO:<postmaster@other.example.org>" in text
    assert codec.decode_result(codec.encode_result(result)) == result


@pytest.mark.parametrize("name", ["refusal", "not SMTP", "MAIL refusal", "EHLO keyword", "challenge"])
def test_the_pod_prints_and_writes_nothing_of_it(name: str, tmp_path: Path) -> None:
    """Standard output, standard error and termination message of the real process hold no form of the login."""
    password = PASSWORD
    mount = tmp_path / "credentials"
    mount.mkdir()
    (mount / "username").write_text(USER)
    (mount / "password").write_bytes(password.encode())
    with Hostile([filled(SCRIPTS[name], FORMS["PLAIN"](password.encode()))], "plain") as server:
        wanted = request(server.port, credentials=CredentialFiles(directory=str(mount), secret_name="order-mail"))
        done = subprocess.run(
            [sys.executable, "-m", "smtpprobe.pod"],
            env={
                **os.environ,
                "SMTPPROBE_REQUEST": codec.encode_request(wanted).decode(),
                "SMTPPROBE_TERMINATION_LOG": str(tmp_path / "termination"),
            },
            capture_output=True,
            timeout=60,
            check=True,
        )
    written = (tmp_path / "termination").read_bytes() + done.stdout + done.stderr
    assert b"CredentialEchoed" in written
    assert written.isascii()
    assert traces(password, written.decode()) == []


# Until the client has given what only the password can have made.
EXCHANGES = {
    Mechanism.CRAM_MD5: "@hello AUTH CRAM-MD5\n< AUTH\n> 334 PDE4OTYuNjk3MTcwOTUyQG14Pg==\n< \n",
    Mechanism.SCRAM_SHA_256: "@hello AUTH SCRAM-SHA-256\n< AUTH\nscram stop\n",
    Mechanism.XOAUTH2: "@hello AUTH XOAUTH2\n< AUTH\n",
}
TOKEN = "ya29.A0AfB_byC-3xWq/Zk7+Vn==.R0-tYpL"


def secrets_of(mechanism: Mechanism, heard: list[str], password: str) -> dict[str, str]:
    """The forms of what was said: the response, its base64, what is inside, and the proof alone."""
    words = [line.rpartition(" ")[2] for line in heard if line and not line.startswith(("EHLO", "QUIT", "*"))]
    found = {f"response {number}": word for number, word in enumerate(words) if word != mechanism}
    inside = base64.b64decode(words[-1]).decode()
    found["inside"] = inside
    if mechanism is not Mechanism.XOAUTH2:
        found["proof"] = inside.rpartition("p=" if mechanism is Mechanism.SCRAM_SHA_256 else " ")[2]
    return found | {f"password {name}": form(password.encode()).decode("latin-1") for name, form in FORMS.items()}


@pytest.mark.parametrize("form", ["{raw}", "{decoded}", "{cut}", "{upper}"])
@pytest.mark.parametrize("mechanism", EXCHANGES)
def test_no_response_of_a_mechanism_is_stored(mechanism: Mechanism, form: str) -> None:
    """A server that repeats a digest, a proof or a token, in whatever form, in its refusal: nothing of it is stored."""
    password = TOKEN if mechanism is Mechanism.XOAUTH2 else PASSWORD
    text, heard, result = played(EXCHANGES[mechanism] + f"echo 535 5.7.8 no: {form} sorry", mechanism, password)
    assert (result.outcome, result.auth.refused) == (Outcome.FAILED, True)
    shown = [name for name, secret in secrets_of(mechanism, heard, password).items() if secret.lower() in text.lower()]
    assert shown == []
    assert Note.CREDENTIAL_ECHOED in result.notes


def played(script: str, mechanism: Mechanism, password: str) -> tuple[str, list[str], ProbeResult]:
    """Return all that may be stored or printed of a session, what the server was told, and the result."""
    printed: list[str] = []
    with Hostile([script], "plain") as server:
        made = msgspec.structs.replace(request(server.port), mechanism=mechanism)
        result = asyncio.run(
            probe(
                made,
                Credentials(USER, password),
                on_stage=lambda entry: printed.append(codec.ascii_json(entry).decode()),
                on_line=lambda line: printed.append(line.text),
            )
        )
        heard = list(server.heard[0].lines)
    stored = [codec.encode_result(result, None).decode(), codec.encode_result(result).decode(), repr(result)]
    return "\n".join([*stored, *printed]), heard, result
