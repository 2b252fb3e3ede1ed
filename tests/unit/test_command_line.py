"""The command line as far as no server is needed: arguments, refusals, forms of output, exit codes."""

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from smtpprobe.arguments import build_request
from smtpprobe.cli import UsageError, main, parser, program
from smtpprobe.model import ProbeRequest, ProbeResult, Reply, StageResult, Verdict
from smtpprobe.output import EXIT_CODES, FORMATS, Output, Report, as_object
from smtpprobe.resource import Advice
from smtpprobe.usage import split_target
from smtpprobe.vocabulary import Depth, Mode, Outcome, Reason, Stage, StageOutcome

KEYS = {
    *(
        "schemaVersion",
        "host",
        "port",
        "mode",
        "heloName",
        "envelope",
        "outcome",
        "reason",
        "confidence",
        "rule",
        "stage",
    ),
    *("alternatives", "discovery"),
    *("message", "stages", "addresses", "serverIp", "localPort", "features", "tls", "auth", "egress", "experiments"),
    *("notes", "advice", "transcript", "startedAt", "finishedAt"),
}
START = datetime(2026, 11, 22, 14, 3, 22, tzinfo=UTC)


def report(outcome: Outcome, reason: Reason | None = None, message: str = "said", host: str = "h.example") -> Report:
    failed = StageResult(
        stage=Stage.RCPT,
        outcome=StageOutcome.FAILED,
        elapsed_ms=12,
        recipient="a&b\x0b@example.org",
        reply=Reply(code=554, enhanced="5.7.1", lines=("5.7.1 no",)),
    )
    passed = StageResult(stage=Stage.DNS, outcome=StageOutcome.PASSED, elapsed_ms=3)
    return Report(
        request=ProbeRequest(host=host, port=587, mode=Mode.STARTTLS, depth=Depth.ENVELOPE),
        result=ProbeResult(
            outcome=outcome,
            started_at=START,
            finished_at=START + timedelta(milliseconds=1500),
            verdict=Verdict(reason=reason) if reason else None,
            stage=Stage.RCPT if reason else None,
            message=message,
            stages=(passed, failed) if outcome is Outcome.FAILED else (passed,),
        ),
        advice=Advice(owner="mail admin", text="allow 203.0.113.7") if reason else None,
    )


FAILED = report(Outcome.FAILED, Reason.RELAY_DENIED)
PASSED = report(Outcome.PASSED)
ERROR = report(Outcome.ERROR, Reason.SECRET_NOT_FOUND, "Secret order-mail is not there")


@pytest.mark.parametrize(
    ("given", "host", "port"),
    [
        ("smtp.example.com", "smtp.example.com", None),
        ("smtp.example.com:465", "smtp.example.com", 465),
        ("192.0.2.25:25", "192.0.2.25", 25),
        ("[2001:db8::1]:587", "2001:db8::1", 587),
        ("[2001:db8::1]", "2001:db8::1", None),
        ("2001:db8::1", "2001:db8::1", None),
    ],
)
def test_host_and_port(given: str, host: str, port: int | None) -> None:
    """HOST, HOST:PORT, an IPv6 address bare or in brackets, with and without port, are read as they look."""
    assert split_target(given) == (host, port)


@pytest.mark.parametrize("port", ["", "0", "65536", "smtp", "-1", "２５", "25 ", "1e3"])
def test_no_port(port: str) -> None:
    """A port that is no number from 1 to 65535 is refused with what to write."""
    with pytest.raises(UsageError, match="write a number from 1 to 65535"):
        split_target(f"smtp.example.com:{port}")


@pytest.mark.parametrize(
    ("words", "mode", "port"),
    [
        (["h.example"], Mode.AUTO, 0),
        (["h.example:25"], Mode.AUTO, 25),
        (["h.example", "--mode", "starttls"], Mode.STARTTLS, 587),
        (["h.example", "--mode", "smtps"], Mode.SMTPS, 465),
        (["h.example", "--mode", "plain"], Mode.PLAIN, 25),
        (["h.example:465", "--mode", "starttls"], Mode.STARTTLS, 465),
    ],
)
def test_mode_and_port_go_together(words: list[str], mode: Mode, port: int) -> None:
    """A mode without a port takes the mode's port, a port without a mode has its mode found out; both given stand."""
    request = build_request(parser().parse_args(["check", *words]))
    assert (request.mode, request.port) == (mode, port)


def test_flags_reach_the_request(tmp_path: Path) -> None:
    """Every flag of the session is in the request that the session obeys."""
    words = ["check", "h.example:587", "--from", "", "--to", "a@example.org", "--to", "b@example.org"]
    words += ["--helo", "me.example", "--depth", "tls", "--server-name", "x.example", "--min-tls", "1.3"]
    request = build_request(parser().parse_args([*words, "--insecure", "--timeout", "12.5"]))
    assert request.envelope is not None
    assert (request.envelope.mail_from, request.envelope.rcpt_to) == ("", ("a@example.org", "b@example.org"))
    assert (request.helo_name, request.depth, request.timeout_seconds) == ("me.example", Depth.TLS, 12.5)
    tls = request.tls
    assert (tls.server_name, tls.min_version, tls.insecure_skip_verify) == ("x.example", "1.3", True)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "COMMAND"),
        (["nonsense"], "nonsense"),
        (["check"], "HOST"),
        (["check", "h.example", "--nonsense"], "--nonsense"),
        (["check", "h.example", "--mode", "ssl"], "--mode"),
        (["check", "h.example:99999"], "65535"),
        (["check", "h.example", "--timeout", "0"], "--timeout"),
        (["check", "h.example", "--timeout", "nan"], "--timeout"),
        (["check", "h.example", "--depth", "auth"], "--depth"),
        (["check", "h.example", "--from", "no address"], "--from"),
        (["check", "h.example", "--ca", "/nonexistent"], "--ca"),
        (["check", "h.example", "--password-file", "x"], "--username"),
        (["check", "h.example", "--username", "me", "--password-file", "/nonexistent"], "--password-file"),
        (["check", "h.example", "--username", "me", "--password-file", os.devnull], "the password is empty"),
        (["check", "h.example", "--username", "", "--password-file", os.devnull], "--username is empty"),
        (["check", "h.example", "--from", "", "--to", "a b@c.example"], "--to: "),
        (["check", "h.example", "--depth", "auth"], "add --username"),
        (["check", "h.example", "--mode", "bogus"], "'plain', 'starttls', 'smtps', 'auto'"),
        (["check", "h.example", "--min-tls", "1.0"], "'1.2', '1.3'"),
        (["check", "h.example", "--username", "me", "--insecure", "--password-file", os.devnull], "--insecure"),
        (["try", "-f", "/nonexistent.yaml"], "/nonexistent.yaml"),
        (["explain"], "nothing to explain"),
        (["explain", "--batch", "/nonexistent"], "/nonexistent"),
        (["explain", "x", "--stage", "nowhere"], "nowhere"),
    ],
)
def test_wrong_usage_is_3(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Wrong usage leaves with 3 and names the argument on stderr; stdout stays empty."""
    assert main(words) == 3
    out, err = capsys.readouterr()
    assert (out, says in err) == ("", True), err


@pytest.mark.parametrize("option", [["--output", "json"], ["-o", "json"], ["--output=json"], ["-ojson"]])
@pytest.mark.parametrize("words", [["check"], ["check", "h.example:0"], ["check", "h.example", "--nonsense"]])
def test_json_is_there_for_wrong_usage_too(
    words: list[str], option: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """With JSON wanted, stdout is one object with all keys even where the arguments were wrong."""
    assert main([*words, *option]) == 3
    answer = json.loads(capsys.readouterr().out)
    assert set(answer) == KEYS
    assert (answer["outcome"], answer["reason"], answer["stages"]) == ("Error", "SpecInvalid", [])


def test_our_own_fault_is_3(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of our own leaves with 3, not with Python's 1: it is on stderr, and the object says Error."""
    monkeypatch.setattr("smtpprobe.check.build_request", lambda _: 1 // 0)
    assert main(["check", "h.example", "--output", "json"]) == 3
    out, err = capsys.readouterr()
    assert json.loads(out)["outcome"] == "Error"
    assert "ZeroDivisionError" in err


@pytest.mark.parametrize("asked", [["--help"], ["check", "--help"], ["--version"]])
def test_help_is_no_fault(asked: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Help and version leave with 0 and print on stdout."""
    with pytest.raises(SystemExit) as left:
        main(asked)
    assert left.value.code in (0, None)
    assert "smtpprobe" in capsys.readouterr().out


def test_the_plugin_names_itself_as_kubectl_runs_it(tmp_path: Path) -> None:
    """As kubectl-smtpprobe the usage lines read as one types them: kubectl smtpprobe."""
    assert program("/usr/local/bin/kubectl-smtpprobe") == "kubectl smtpprobe"
    assert program("/usr/local/bin/smtpprobe") == program("/x/smtpprobe/__main__.py") == "smtpprobe"
    plugin = Path(sys.executable).with_name("kubectl-smtpprobe")
    done = subprocess.run([plugin, "check"], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr.splitlines()[0].split("[")[0]) == (3, "usage: kubectl smtpprobe check ")


def test_keys_of_the_object() -> None:
    """The object of --output json has exactly its keys, passed, failed or error; each stage and reply too."""
    assert [set(as_object(one)) for one in (PASSED, FAILED, ERROR)] == [KEYS] * 3
    rcpt = as_object(FAILED)["stages"][1]
    assert set(rcpt) == {"stage", "afterTls", "outcome", "elapsedMs", "recipient", "detail", "reply"}
    assert rcpt["reply"] == {"code": 554, "enhanced": "5.7.1", "lines": ["5.7.1 no"]}
    assert as_object(FAILED)["stages"][0]["reply"] is None
    assert as_object(FAILED)["advice"] == {"owner": "mail admin", "text": "allow 203.0.113.7", "lang": "en"}
    assert (as_object(PASSED)["reason"], as_object(PASSED)["confidence"]) == ("Succeeded", 1.0)


@pytest.mark.parametrize("reports", [(FAILED,), (PASSED, FAILED, ERROR)])
def test_json_and_yaml_say_the_same(reports: tuple[Report, ...]) -> None:
    """One result is one object, several are one object with results; YAML holds what JSON holds."""
    answer = json.loads(FORMATS[Output.JSON](reports))
    assert answer == yaml.safe_load(FORMATS[Output.YAML](reports))
    assert (answer if len(reports) == 1 else answer["results"][1])["reason"] == "RelayDenied"


def test_exit_codes() -> None:
    """0 Passed, 2 Failed, 3 Error, as monitoring plugins expect."""
    assert EXIT_CODES == {Outcome.PASSED: 0, Outcome.FAILED: 2, Outcome.ERROR: 3}


@pytest.mark.parametrize("text", ["plain", 'a<b>&"c"', "\x00\x0b\x1f\ufffe\ud800 odd", "메일 거부", "]]>"])
def test_junit_is_xml_whatever_was_said(text: str) -> None:
    """JUnit output is well-formed with any text in it, and counts what CI systems count."""
    shown = FORMATS[Output.JUNIT]((report(Outcome.FAILED, Reason.RELAY_DENIED, text),))
    suite = ET.fromstring(shown)
    assert suite.tag == "testsuite"
    assert {key: suite.get(key) for key in ("tests", "failures", "errors", "skipped")} == {
        "tests": "2",
        "failures": "1",
        "errors": "0",
        "skipped": "0",
    }
    failure = suite.find("testcase/failure")
    assert failure is not None
    assert failure.get("type") == "RelayDenied"


def test_junit_of_several() -> None:
    """Several probes are one document with a suite each; a run that did not come about is an error in it."""
    root = ET.fromstring(FORMATS[Output.JUNIT]((PASSED, FAILED, ERROR)))
    assert (root.tag, [suite.get("errors") for suite in root]) == ("testsuites", ["0", "0", "1"])


def test_nagios() -> None:
    """The plugin line has the state, the reason, the message without a pipe or a line break, and the time."""
    line = FORMATS[Output.NAGIOS]((report(Outcome.FAILED, Reason.RELAY_DENIED, "a|b\nc"),))
    assert line == "SMTP CRITICAL - RelayDenied: a/b c | time=1.500s;;;0"
    several = FORMATS[Output.NAGIOS]((PASSED, ERROR, FAILED)).splitlines()
    assert [row.split(" - ")[0] for row in several] == ["SMTP UNKNOWN", "SMTP CRITICAL", "SMTP OK"]
    assert [row.count(" | ") for row in several] == [1, 0, 0]


def test_the_operator_without_its_extra() -> None:
    """smtpprobe-operator without the packages of its extra says in one line what to install and leaves with 3."""
    hidden = "import sys; sys.modules['kopf'] = None; from smtpprobe_operator.__main__ import main; sys.exit(main([]))"
    done = subprocess.run([sys.executable, "-c", hidden], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 3
    assert done.stderr == "smtpprobe-operator needs kopf: pip install 'smtpprobe[operator]'\n"


# ----------------------------------------------------------------------------------------------------------- explain


def explained(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, object]:
    assert main(["explain", *words, "--output", "json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert set(answer) == {"reason", "confidence", "alternatives", "rule", "owner", "advice"}
    return dict(answer)


def test_explain_by_reason_reply_and_result(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A reason, a reply, a result as argument or as a file are explained, as text and with the same keys as JSON."""
    assert explained(capsys, "RelayDenied")["reason"] == "RelayDenied"
    reply = "535 5.7.8 Error: authentication failed"
    assert explained(capsys, reply)["reason"] == "BadCredentials"
    result = tmp_path / "result.json"
    result.write_text(FORMATS[Output.JSON]((FAILED,)))
    assert explained(capsys, str(result))["reason"] == "RelayDenied"
    assert explained(capsys, result.read_text())["owner"] == explained(capsys, "RelayDenied")["owner"]
    passed = tmp_path / "passed.json"
    passed.write_text(FORMATS[Output.JSON]((PASSED,)))
    assert explained(capsys, str(passed))["reason"] == "Succeeded"
    for word in ("RelayDenied", reply, str(result)):
        assert main(["explain", word]) == 0
        assert "who must act" in capsys.readouterr().out.lower()


def test_explain_a_long_or_odd_reply(capsys: pytest.CaptureFixture[str]) -> None:
    """A reply that no file could be called is a reply."""
    for text in ("550 " + "x" * 5000, "550 a\x00b", "550-one\n550 two"):
        assert main(["explain", text]) == 0
    assert capsys.readouterr().err == ""


def test_explain_takes_what_the_commands_print(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """JSON lines of --hosts and several YAML documents of try are told one after the other."""
    results = [json.loads(FORMATS[Output.JSON]((one,))) for one in (FAILED, PASSED)]
    for name, text in (
        ("lines.json", "\n".join(json.dumps(one) for one in results)),
        ("documents.yaml", "\n---\n".join(yaml.safe_dump(one) for one in results)),
    ):
        (tmp_path / name).write_text(text)
        assert main(["explain", str(tmp_path / name), "--output", "json"]) == 0
        told = json.loads(capsys.readouterr().out)["results"]
        assert [one["reason"] for one in told] == ["RelayDenied", "Succeeded"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("cut.json", '{"outcome": "Failed", "stages": [{"detail": "certificate has exp'),
        ("ca.pem", "-----BEGIN CERTIFICATE-----\nMIIB\n"),
        ("other.yaml", "apiVersion: v1\nkind: Secret\ndata: {password: c2VjcmV0}\n"),
        ("report.txt", "mx.example.net:587 starttls  Failed\n\nSTAGES\n  ehlo  Failed  550 helo rejected\n"),
        ("empty.txt", ""),
    ],
)
def test_explain_refuses_a_file_that_is_no_answer_of_a_server(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str, text: str
) -> None:
    """A file that is neither a result nor as short as a reply is refused and not quoted; so is a name of none."""
    file = tmp_path / name
    file.write_text(text)
    assert main(["explain", str(file)]) == 3
    said = capsys.readouterr().err
    assert "neither a reply nor a whole result" in said
    assert "c2VjcmV0" not in said
    assert main(["explain", f"no-{name}"]) == 3
    assert "no such file" in capsys.readouterr().err


def test_explain_says_of_a_success_that_it_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    """A 250 needs no remedy, and an error object of Nodemailer is read for the reply in it."""
    assert main(["explain", "250 2.1.5 Ok"]) == 3
    assert "success" in capsys.readouterr().err
    assert main(["explain", '{"code":"EAUTH","response":"535 5.7.8 authentication failed","responseCode":535}']) == 0
    assert "BadCredentials" in capsys.readouterr().out


BATCH = [
    '{"stage": "auth", "text": "535 5.7.8 Error: authentication failed"}',
    "no JSON",
    '{"stage": "banner", "text": "554 5.7.1 no SMTP service here", "context": {"mailFrom": null, "rcptTo": null}}',
    '{"stage": "auth", "text": "535 5.7.8 Error: authentication failed\u2028\x85 second"}',
]


@pytest.mark.parametrize("source", ["-", "file"])
def test_explain_batch(source: str, tmp_path: Path) -> None:
    """One answer a line in the same order; a bad line gives an error in its place, and 3 at the end."""
    content = "\n".join(BATCH).encode() + b'\n{"text": "\xb5"}\n'
    file = tmp_path / "lines"
    file.write_bytes(content)
    command = [sys.executable, "-m", "smtpprobe", "explain", "--batch", "-" if source == "-" else str(file)]
    done = subprocess.run(command, input=content, capture_output=True, timeout=60, check=False)
    answers = [json.loads(line) for line in done.stdout.split(b"\n") if line]
    assert (done.returncode, [max(answer) for answer in answers]) == (
        3,
        ["rule", "error", "rule", "rule", "error"],
    )
    assert [answers[i]["reason"] for i in (0, 3)] == ["BadCredentials"] * 2


def test_explain_batch_without_a_bad_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A batch that can be read leaves with 0."""
    file = tmp_path / "lines"
    file.write_text(BATCH[0])
    assert main(["explain", "--batch", str(file)]) == 0
    assert json.loads(capsys.readouterr().out)["owner"] == "app developer"


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="argparse writes options with a short form otherwise there")
def test_readme_shows_the_help() -> None:
    """README.md shows the flags of `smtpprobe check` as the program itself prints them."""
    tool = [sys.executable, Path(__file__).parents[2] / "tools/readme_help.py", "--check"]
    done = subprocess.run(tool, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
