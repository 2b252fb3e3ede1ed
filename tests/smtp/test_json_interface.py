"""``smtpprobe check`` for programs: one object on stdout whatever the exit code, with every key, everything else on stderr."""

import json
import socket
import xml.etree.ElementTree as ET
from typing import Any

import pytest
import yaml
from certificates import pki
from hostile import Hostile
from programs import run

# The interface that scripts rely on; more keys may stand beside these, none of these may go.
KEYS = {
    *("outcome", "reason", "confidence", "alternatives", "stage", "stages", "features", "tls", "egress"),
    *("experiments", "notes", "advice", "transcript"),
}
STAGE_KEYS = {"stage", "afterTls", "outcome", "elapsedMs", "reply"}
REPLY_KEYS = {"code", "enhanced", "lines"}
TLS_KEYS = {"protocol", "cipher", "verified", "chain", "errors"}
LEAF_KEYS = {"subject", "issuer", "notBefore", "notAfter", "sans", "key", "sha256", "daysLeft"}
OUTCOMES = {"Passed", "Failed", "Skipped", "NotReached"}
EHLO = "> 220 mx\n< EHLO\n> 250-mx\n> 250 STARTTLS\n"
PASSWORD = "correct-horse-9"
# What the server does, the mode, more arguments; the stage and the reason that must come of it.
STORIES: dict[str, tuple[str, str, list[str], str | None, str]] = {
    "passed": ("@hello AUTH PLAIN", "starttls", ["--from", "", "--to", "a@example.org"], None, "Succeeded"),
    "passed with a login": ("@hello AUTH PLAIN", "smtps", ["LOGIN"], None, "Succeeded"),
    "greeting": ("> 554 no", "plain", [], "greeting", "GreetingRejected"),
    "ehlo": ("> 220 mx\n< EHLO\n> 550 who?", "plain", [], "ehlo", "HeloRejected"),
    "starttls": ("> 220 mx\n< EHLO\n> 250 mx", "starttls", [], "starttls", "TlsNotOffered"),
    "tls": (EHLO + "< STARTTLS\n> 220 go\ntls expired", "starttls", [], "tls", "CertificateExpired"),
    "ehlo after TLS": (EHLO + "< STARTTLS\n> 220 go\ntls\n< EHLO\n> 503 no", "starttls", [], "ehlo", "ProtocolError"),
    "auth": ("@hello AUTH PLAIN\n< AUTH\n> 535 5.7.8 no", "smtps", ["LOGIN"], "auth", "BadCredentials"),
    "mail": ("@hello\n< MAIL\n> 550 5.1.8 bad sender domain", "plain", ["--from", "a@example.org"], "mail", "any"),
    "rcpt": (
        "@hello\n< MAIL\n> 250 ok\n< RCPT\n> 554 5.7.1 \\x1b]0;|<&>\\xeb\\xa6\\xb4 Relay access denied",
        "plain",
        ["--from", "", "--to", "a@example.org"],
        "rcpt",
        "RelayDenied",
    ),
}


def check(target: str, *words: str, output: str = "json", stdin: bytes = b"") -> tuple[int, str]:
    """Run a check; stderr must be silent, as nobody watches."""
    done = run("smtpprobe", "check", target, "--helo", "probe.example.com", "--output", output, *words, stdin=stdin)
    assert done.stderr == ""
    return done.returncode, done.stdout


def whole(answer: dict[str, Any]) -> None:
    """Every key of the interface is there, with its type, in every part."""
    assert set(answer) >= KEYS
    assert answer["outcome"] in {"Passed", "Failed", "Error"}
    assert 0 <= answer["confidence"] <= 1
    assert all(set(other) == {"reason", "confidence"} for other in answer["alternatives"])
    for stage in answer["stages"]:
        assert set(stage) >= STAGE_KEYS
        assert stage["outcome"] in OUTCOMES
        assert isinstance(stage["afterTls"], bool)
        assert isinstance(stage["elapsedMs"], int)
        assert stage["reply"] is None or (set(stage["reply"]) == REPLY_KEYS and stage["reply"]["lines"] is not None)
    assert set(answer["features"]) == {"beforeTls", "afterTls"}
    assert answer["tls"] is None or set(answer["tls"]) == TLS_KEYS
    assert all(set(known) == LEAF_KEYS for known in (answer["tls"] or {}).get("chain", []))
    assert set(answer["egress"]) >= {"status", "reason", "addresses"}
    assert all(set(made) >= {"name", "showed", "decided"} for made in answer["experiments"])
    assert all(isinstance(note, str) for note in answer["notes"])
    assert all(set(line) == {"who", "atMs", "text"} for line in answer["transcript"])
    passed = answer["outcome"] == "Passed"
    assert (answer["advice"] is None) is (passed or answer["stages"] == [])
    if answer["advice"] is not None:
        assert set(answer["advice"]) == {"owner", "text", "lang"}
    assert (answer["stage"] is None) is (answer["outcome"] != "Failed")
    assert (answer["reason"] == "Succeeded") is passed


@pytest.mark.parametrize("name", STORIES)
def test_one_object_whatever_the_end(name: str) -> None:
    """Passed and failed at each stage: one object on stdout, exit 0 or 2, nothing on stderr, every key in its place."""
    script, mode, words, stage, reason = STORIES[name]
    login = words == ["LOGIN"]
    arguments = ["--username", "sender", "--password-file", "-"] if login else words
    with Hostile([script], mode, pki().contexts) as server:
        code, out = check(
            f"localhost:{server.port}", "--mode", mode, *(["--ca", pki().ca_file] if mode != "plain" else []),
            *arguments, stdin=PASSWORD.encode() if login else b"",
        )  # fmt: skip
    answer = json.loads(out)
    whole(answer)
    assert (code, answer["outcome"]) == ((0, "Passed") if stage is None else (2, "Failed"))
    assert answer["stage"] == stage
    assert answer["reason"] == reason or reason == "any"
    assert answer["transcript"]
    assert PASSWORD not in out
    if stage is not None:
        (failed,) = [known for known in answer["stages"] if known["outcome"] == "Failed"]
        assert failed["stage"] == stage
        assert failed["reply"] is None or failed["reply"]["code"] >= 400
    if name == "tls":
        leaf = answer["tls"]["chain"][0]
        assert (answer["tls"]["verified"], answer["tls"]["errors"]) == (False, ["CertificateExpired"])
        assert leaf["daysLeft"] == -3
        assert len(leaf["sha256"]) == 64


@pytest.mark.parametrize(
    ("target", "stage"),
    [("nowhere.invalid:25", "dns"), ("127.0.0.1:{closed}", "connect"), ("[::1]:{closed}", "connect")],
)
def test_no_server_at_all_is_an_object_too(target: str, stage: str) -> None:
    """A name that does not resolve and a closed port, of an IPv6 address in brackets too, fail with exit 2."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        closed = sock.getsockname()[1]
    code, out = check(target.format(closed=closed), "--mode", "plain")
    answer = json.loads(out)
    whole(answer)
    assert (code, answer["stage"], answer["transcript"]) == (2, stage, [])
    assert answer["host"] == target.rpartition(":")[0].strip("[]")


@pytest.mark.parametrize("output", ["json", "yaml", "junit", "nagios"])
@pytest.mark.parametrize(
    "words",
    [
        ["check", "h.example:0"],
        ["check", "h.example:587", "--depth", "auth"],
        ["check", "h.example", "--ca", "/nonexistent"],
        ["check", "h.example:587", "--username", "me", "--password-file", "-", "--insecure"],
    ],
)
def test_wrong_usage_is_3_in_every_form(words: list[str], output: str) -> None:
    """Wrong usage leaves with 3, its sentence on stderr, and the form that was asked for on stdout."""
    done = run("smtpprobe", *words, "--output", output, stdin=b"x")
    assert (done.returncode, len(done.stderr.splitlines()) >= 1) == (3, True)
    assert "Traceback" not in done.stderr
    match output:
        case "json" | "yaml":
            answer = yaml.safe_load(done.stdout)
            whole(answer)
            assert (answer["outcome"], answer["reason"], answer["stages"]) == ("Error", "SpecInvalid", [])
        case "junit":
            assert ET.fromstring(done.stdout).get("errors") == "1"
        case "nagios":
            assert done.stdout.startswith("SMTP UNKNOWN - SpecInvalid: ")
            assert len(done.stdout.splitlines()) == 1


def test_hostile_words_break_no_form() -> None:
    """Control bytes, pipes and mark-up from the server leave YAML, XML and the plugin line well formed."""
    script, mode, words, _, _ = STORIES["rcpt"]
    with Hostile([script], mode) as server:
        target = f"localhost:{server.port}"
        answers = {
            form: check(target, "--mode", mode, *words, output=form) for form in ("json", "yaml", "junit", "nagios")
        }
    assert {code for code, _ in answers.values()} == {2}
    assert not any("\x1b" in out for _, out in answers.values())
    answer = yaml.safe_load(answers["yaml"][1])
    whole(answer)
    suite = ET.fromstring(answers["junit"][1])
    (failure,) = suite.findall("testcase/failure")
    assert failure.get("type") == "RelayDenied"
    assert "<&>" in (failure.get("message") or "")
    (line,) = answers["nagios"][1].splitlines()
    told, _, perfdata = line.partition(" | ")
    assert told.startswith("SMTP CRITICAL - RelayDenied: ")
    assert "|" not in told + perfdata
    name, _, value = perfdata.partition("=")
    assert name == "time"
    assert float(value.partition("s;")[0]) >= 0


def test_korean_advice_says_its_language() -> None:
    """With --lang ko advice is Korean and says so; the words of the interface stay."""
    script, mode, words, _, reason = STORIES["rcpt"]
    with Hostile([script], mode) as server:
        _, out = check(f"localhost:{server.port}", "--mode", mode, *words, "--lang", "ko")
    answer = json.loads(out)
    assert (answer["reason"], answer["advice"]["lang"], answer["advice"]["owner"]) == (reason, "ko", "mail admin")
    assert "메일 관리자" in answer["advice"]["text"]
