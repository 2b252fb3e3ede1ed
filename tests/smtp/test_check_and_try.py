"""`smtpprobe check` and `smtpprobe try` as people and scripts run them, against servers on loopback."""

import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from certificates import pki
from hostile import Hostile
from programs import BIN, authority, eventually, login, manifest, ready, run, write
from stock import Stock, stock_server

PASSWORD = "correct-horse-9"
USER = "sender@shop.example.com"
SILENT = "@raw"


@pytest.fixture(scope="module")
def server() -> Iterator[Stock]:
    """A server with STARTTLS and logins."""
    with stock_server("starttls", pki().contexts["good"], PASSWORD) as stock:
        yield stock


def check(server: Stock, *words: str, stdin: bytes = b"") -> "subprocess.CompletedProcess[str]":
    words = ("check", f"localhost:{server.port}", "--mode", "starttls", "--ca", pki().ca_file, *words)
    return run("smtpprobe", *words, stdin=stdin)


def test_passed_is_0_and_failed_is_2(server: Stock) -> None:
    """Exit 0 where the session passed, 2 where the server or the network said no; JSON is one object both times."""
    good = check(server, "--output", "json")
    assert (good.returncode, json.loads(good.stdout)["outcome"], good.stderr) == (0, "Passed", "")
    bad = check(server, "--username", USER, "--password-file", "-", "--output", "json", stdin=b"wrong")
    answer = json.loads(bad.stdout)
    assert (bad.returncode, answer["outcome"], answer["reason"]) == (2, "Failed", "BadCredentials")
    assert answer["transcript"]
    assert "wrong" not in bad.stdout


@pytest.mark.parametrize("ending", [b"", b"\n", b"\r\n"])
@pytest.mark.parametrize("source", ["file", "stdin"])
def test_password_from_file_or_stdin(server: Stock, tmp_path: Path, ending: bytes, source: str) -> None:
    """The password comes from a file or standard input, and one trailing newline is no part of it."""
    file = tmp_path / "password"
    file.write_bytes(PASSWORD.encode() + ending)
    where = str(file) if source == "file" else "-"
    before = len(server.logins)
    done = check(server, "--username", USER, "--password-file", where, stdin=PASSWORD.encode() + ending)
    assert (done.returncode, server.logins[before:]) == (0, [(USER.encode(), PASSWORD.encode())]), done.stdout
    assert PASSWORD not in done.stdout + done.stderr


def test_only_one_newline_is_dropped(server: Stock, tmp_path: Path) -> None:
    """A second newline is a part of the password, as somebody may have put it there."""
    file = tmp_path / "password"
    file.write_bytes(PASSWORD.encode() + b"\n\n")
    before = len(server.logins)
    assert check(server, "--username", USER, "--password-file", str(file)).returncode == 2
    assert server.logins[before:] == [(USER.encode(), PASSWORD.encode() + b"\n")]


def test_no_terminal_to_ask(server: Stock) -> None:
    """Without a terminal and without a file the password cannot be asked for: exit 3, and the flag is named."""
    done = check(server, "--username", USER)
    assert (done.returncode, "--password-file" in done.stderr) == (3, True)


def on_a_terminal(answer: bytes, *words: str, **environment: str) -> tuple[int, str]:
    """Run a program with a terminal for all three streams; ``answer`` is typed once it asks for a password."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update({"TERM": "xterm", "COLUMNS": "100"} | environment)
        os.execv(BIN / words[0], list(words))
    seen, typed, end = b"", False, time.monotonic() + 60
    while time.monotonic() < end:
        if select.select([terminal], [], [], 1)[0]:
            try:
                seen += os.read(terminal, 65536)
            except OSError:
                break
        if answer and not typed and b"Password of" in seen:
            os.write(terminal, answer)
            typed = True
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), seen.decode()


def test_an_interrupt_at_the_password(server: Stock) -> None:
    """Ctrl-C where the password is asked for ends the command at once, in one line, and nothing was sent."""
    before = len(server.logins)
    target = ("check", f"localhost:{server.port}", "--mode", "starttls", "--ca", pki().ca_file)
    code, seen = on_a_terminal(b"half\x03", "smtpprobe", *target, "--username", USER)
    assert (code, seen) == (3, f"Password of {USER}: smtpprobe: interrupted\r\n")
    assert len(server.logins) == before


def test_a_terminal_is_asked_and_told(server: Stock) -> None:
    """On a terminal the password is asked for and not shown, the stages appear as they end, and words are coloured."""
    before = len(server.logins)
    target = ("check", f"localhost:{server.port}", "--mode", "starttls", "--ca", pki().ca_file)
    code, seen = on_a_terminal(PASSWORD.encode() + b"\n", "smtpprobe", *target, "--username", USER)
    assert (code, server.logins[before:]) == (0, [(USER.encode(), PASSWORD.encode())]), seen
    assert PASSWORD not in seen
    progress = seen.split("STAGES")[0]
    assert all(word in progress for word in ("dns ", "connect ", "ehlo after TLS", "auth ", "quit "))
    assert "\x1b[" in seen


@pytest.mark.parametrize(("columns", "most"), [("70", 70), ("20", 60), ("400", 100)])
def test_the_report_fits_the_terminal(columns: str, most: int) -> None:
    """No line of progress or report is wider than the terminal, from 60 to 100 columns."""
    refusal = "> 554 5.7.1 " + "a long refusal in many words " * 9
    with Hostile([f"@hello\n< MAIL\n> 250 ok\n< RCPT\n{refusal}"], "plain") as server:
        words = ("--mode", "plain", "--from", "", "--to", "orders@partner.example", "--helo", "shop.example.com")
        code, seen = on_a_terminal(b"", "smtpprobe", "check", f"localhost:{server.port}", *words, COLUMNS=columns)
    lines = [re.sub(r"\x1b\[\d*m", "", line).rstrip("\r") for line in seen.split("\n")]
    assert (code, max(map(len, lines)) <= most) == (2, True), seen
    assert max(map(len, lines)) > most - 30


def test_no_color_and_no_progress(server: Stock) -> None:
    """NO_COLOR takes the colours away, --no-progress the stages."""
    target = ("check", f"localhost:{server.port}", "--mode", "starttls", "--ca", pki().ca_file, "--no-progress")
    code, seen = on_a_terminal(b"", "smtpprobe", *target, NO_COLOR="1")
    assert (code, "\x1b[" in seen, "dns " in seen.split("STAGES")[0]) == (0, False, False)


def test_no_progress_without_a_terminal(server: Stock) -> None:
    """A script gets no progress lines and no colours."""
    done = check(server)
    assert (done.returncode, done.stderr, "\x1b[" in done.stdout) == (0, "", False)


def test_the_mode_that_was_found_is_told(server: Stock) -> None:
    """Without --mode stderr says which one was found."""
    done = run("smtpprobe", "check", f"localhost:{server.port}", "--ca", pki().ca_file, "--output", "json")
    assert (done.returncode, json.loads(done.stdout)["mode"]) == (0, "starttls")
    assert done.stderr == f"smtpprobe: found starttls on port {server.port}; --mode names another\n"


def test_flags_of_tls_have_effect(server: Stock) -> None:
    """--min-tls, --server-name, --ca and --insecure change what the session demands."""
    with Hostile(["@hello AUTH PLAIN"], "starttls", pki().contexts | {"good": pki().contexts["tls12"]}) as old:
        target = ("check", f"localhost:{old.port}", "--mode", "starttls", "--output", "json")
        trusting = (*target, "--ca", pki().ca_file)
        assert run("smtpprobe", *trusting).returncode == 0
        strict = run("smtpprobe", *trusting, "--min-tls", "1.3")
        assert (strict.returncode, json.loads(strict.stdout)["reason"]) == (2, "TlsProtocolUnsupported")
    named = check(server, "--server-name", "mail.example.net", "--output", "json")
    assert json.loads(named.stdout)["reason"] == "CertificateHostnameMismatch"
    target = ("check", f"localhost:{server.port}", "--mode", "starttls", "--output", "json")
    assert json.loads(run("smtpprobe", *target).stdout)["reason"] == "CertificateInvalid"
    assert run("smtpprobe", *target, "--insecure").returncode == 0


def test_the_timeout_is_for_the_whole_check() -> None:
    """A silent server costs the seconds of --timeout, not more."""
    with Hostile([SILENT], "plain") as silent:
        start = time.monotonic()
        done = run("smtpprobe", "check", f"127.0.0.1:{silent.port}", "--mode", "plain", "--timeout", "3", "-o", "json")
        assert time.monotonic() - start < 3 + 4
    assert (done.returncode, json.loads(done.stdout)["reason"]) == (2, "BannerTimeout")


def test_ipv6_with_a_port() -> None:
    """[::1]:PORT is an address and a port."""
    with Hostile(["@hello"], "plain", host="::1") as server:
        done = run("smtpprobe", "check", f"[::1]:{server.port}", "--mode", "plain", "--output", "nagios")
    assert (done.returncode, done.stdout.split(":")[0]) == (0, "SMTP OK - Succeeded")


# --------------------------------------------------------------------------------------------------------------- try

TLS = {"tls": {"caRef": {"kind": "ConfigMap", "name": "ca"}}}


def test_try_prints_the_status_of_the_cluster(server: Stock, tmp_path: Path) -> None:
    """`try -f` with Secret and CA beside it prints the status: conditions, stages, the run; what explain then reads."""
    probe = manifest("order-mail", server.port, "starttls", credentialsSecretRef={"name": "smtp"}, **TLS)
    secret, ca = write(tmp_path / "secret.yaml", login("smtp", USER, PASSWORD)), authority("ca", pki().ca_file)
    file = write(tmp_path / "probe.yaml", ca, probe)
    done = run("smtpprobe", "try", "-f", str(file), "-f", str(secret), "--output", "json")
    answer = json.loads(done.stdout)
    assert (done.returncode, ready(answer), answer["metadata"]) == (0, "Succeeded", probe["metadata"])
    conditions = {c["type"]: c["status"] for c in answer["status"]["conditions"]}
    assert (conditions["Authenticated"], conditions["Secure"], conditions["Stalled"]) == ("True", "True", "False")
    printed = run("smtpprobe", "try", "-f", str(file), "-f", str(secret), "--output", "yaml")
    status = tmp_path / "order-mail.status.yaml"
    status.write_text(printed.stdout)
    assert {c["type"]: c["status"] for c in yaml.safe_load(printed.stdout)["status"]["conditions"]} == conditions
    told = run("smtpprobe", "explain", str(status))
    assert (told.returncode, "Ready=True" in told.stdout, PASSWORD in done.stdout + printed.stdout) == (0, True, False)


def test_try_without_the_secret(server: Stock, tmp_path: Path) -> None:
    """A Secret that is in no file is SecretNotFound, as in the cluster: exit 3, and the server hears nothing."""
    before = len(server.logins)
    probe = manifest("order-mail", server.port, "starttls", credentialsSecretRef={"name": "smtp"}, **TLS)
    file = write(tmp_path / "probe.yaml", authority("ca", pki().ca_file), probe)
    done = run("smtpprobe", "try", "-f", str(file), "-o", "json")
    assert (done.returncode, ready(json.loads(done.stdout))) == (3, "SecretNotFound")
    assert len(server.logins) == before


def test_try_several(server: Stock, tmp_path: Path) -> None:
    """Several probes are one JSON object, one JUnit document, one YAML document each; the worst exit code counts."""
    good = manifest("good", server.port, "starttls", **TLS)
    refused = manifest("refused", 1)
    broken = manifest("broken", server.port, "starttls", depth="message")
    file = write(tmp_path / "probes.yaml", authority("ca", pki().ca_file), good, refused)
    done = run("smtpprobe", "try", "-f", str(file), "-o", "json")
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["kind"]) == (2, "List")
    assert [ready(item) for item in answer["items"]] == ["Succeeded", "ConnectRefused"]
    write(file, authority("ca", pki().ca_file), good, refused, broken)
    done = run("smtpprobe", "try", "-f", str(file), "-o", "yaml")
    assert (done.returncode, len(list(yaml.safe_load_all(done.stdout)))) == (3, 3)
    assert "spec.depth" in done.stderr
    assert run("smtpprobe", "try", "-f", str(file), "-o", "junit").stdout.count("<testsuite ") == 3
    assert run("smtpprobe", "try", "-f", str(file), "-o", "nagios").stdout.startswith("SMTP UNKNOWN - SpecInvalid")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("a: [", "not YAML"),
        ("just words", "no mapping"),
        ("kind: SmtpProbe\nmetadata: {}", "metadata.name"),
        ("apiVersion: v1\nkind: SmtpProbe\nmetadata: {name: x}", "smtpprobe.dev/v1alpha1"),
        ("apiVersion: smtpprobe.dev/v1alpha1\nkind: SmtpProbe\nmetadata: {name: ../x}", "no name"),
        ("apiVersion: v1\nkind: Secret\nmetadata: {name: x}\ndata: {a: '%'}", "base64"),
        ("apiVersion: v1\nkind: Secret\nmetadata: {name: x}\ndata: words", "no mapping"),
        ("", "no SmtpProbe"),
    ],
)
def test_try_says_what_is_wrong_with_a_file(content: str, says: str, tmp_path: Path) -> None:
    """A file that cannot be used is named with what to write, in one line; exit 3."""
    file = tmp_path / "x.yaml"
    file.write_text(content)
    done = run("smtpprobe", "try", "-f", str(file))
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (3, "", 1), done.stderr
    assert says in done.stderr
    assert str(file) in done.stderr


@pytest.mark.parametrize("command", ["check --mode plain", "discover"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_what_is_told_to_end_still_gives_its_object(number: int, command: str) -> None:
    """`timeout`, a closed terminal and Ctrl-C end check and discover with the stages that they have: Error, exit 3."""
    with Hostile(["> 220 mx.example.net\n< EHLO\nhang"], "plain") as there:
        words = (*command.split(), f"localhost:{there.port}", "--timeout", "60", "--output", "json")
        # Whoever runs the tests (nohup, a shell's &) may have told them to ignore these signals.
        argv = ["env", "--default-signal", BIN / "smtpprobe", *words]
        with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
            eventually("the server hears EHLO", lambda: there.heard and there.heard[0].lines)
            process.send_signal(number)
            out, _ = process.communicate(timeout=30)
    answer = json.loads(out)
    assert (process.returncode, answer["outcome"], answer["reason"]) == (3, "Error", "DeadlineExceeded")
    assert "told to end in stage ehlo" in answer["message"]
    assert "told to end" in answer["advice"]["text"]
    assert [one["stage"] for one in answer["stages"] if one["outcome"] == "Passed"] == ["dns", "connect", "greeting"]


@pytest.mark.parametrize("name", ["INT", "HUP"])
def test_a_signal_that_is_to_be_ignored_ends_no_check(name: str) -> None:
    """Behind `nohup` or a shell's `&` a check goes on: the signal that they have ignored does not end it."""
    with Hostile(["> 220 mx.example.net\n< EHLO\nhang"], "plain") as there:
        words = f"check localhost:{there.port} --mode plain --timeout 60 --output json"
        script = f"trap '' {name}; exec {BIN / 'smtpprobe'} {words}"
        process = subprocess.Popen(["/bin/sh", "-c", script], stdout=subprocess.PIPE)
        eventually("the server hears EHLO", lambda: there.heard and there.heard[0].lines)
        number = getattr(signal, f"SIG{name}")
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
        ignored = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigIgn:"))
        process.send_signal(number)
    with process:  # the server has gone: only now the session ends, by itself
        out, _ = process.communicate(timeout=30)
    assert ignored >> (number - 1) & 1
    assert (process.returncode, json.loads(out)["reason"]) == (2, "ConnectionClosed")


@pytest.mark.parametrize("host", ["localhost:{}", "no host"])
def test_what_cannot_be_written_is_said_in_a_line(host: str, server: Stock) -> None:
    """A full disk is no traceback, under a result or a refusal: the last line on stderr says it, exit 3."""
    words = ("check", host.format(server.port), "--mode", "starttls", "--ca", pki().ca_file, "--output", "json")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [BIN / "smtpprobe", *words], stdout=full, stderr=subprocess.PIPE, timeout=60, check=False, text=True
        )
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
    assert "could not be written" in done.stderr.splitlines()[-1]


def test_a_check_that_ends_while_the_ca_bundle_is_read(tmp_path: Path) -> None:
    """A closed port is told of before a large CA bundle is read: the program ends then, with its code and no crash."""
    bundle = tmp_path / "bundle.pem"
    bundle.write_text(Path(pki().ca_file).read_text("ascii") * 20_000)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        words = ("check", f"127.0.0.1:{nobody.getsockname()[1]}", "--mode", "smtps", "--output", "json")
        environment = {**os.environ, "SSL_CERT_FILE": str(bundle)}
        for _ in range(8):  # a crash needs both to be at it in the same moment
            argv = [BIN / "smtpprobe", *words]
            done = subprocess.run(argv, env=environment, capture_output=True, timeout=60, check=False)
            assert (done.returncode, json.loads(done.stdout)["reason"], done.stderr) == (2, "ConnectRefused", b"")
