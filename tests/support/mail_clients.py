"""Real mail clients that send with settings exactly as ``smtpprobe settings`` prints them: one driver a client.

A driver takes the cases of its client, writes each snippet to the file that it names, sends one message with each, and
returns what became of them: "sent" or the client's own error, by the name of the case. Most run a program of
``drivers/`` once for all cases, in the root of ``clients.py``, with the password in SMTP_PASSWORD.
"""

import asyncio
import contextlib
import json
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Final, NamedTuple

import gobuild
import pytest
from cluster_facts import Clients

from smtpprobe.settings import Snippet

DRIVERS: Final = Path(__file__).with_name("drivers")
SENDER: Final = "noreply@shop.example.com"
PLACES: Final = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "HOME": "/root"}
TRUST: Final = re.compile(r"^# Trust, [^:]*: (.*)$", re.MULTILINE)
JAVA_TRUST: Final = re.compile(r"^# then start Java with: (.*)$", re.MULTILINE)
SECONDS: Final = 120


class Case(NamedTuple):
    """One message to send; ``own_ca`` tells that the snippet names a CA file."""

    name: str
    to: str
    snippet: Snippet
    own_ca: bool


class Place(NamedTuple):
    """Where the clients are, and the folder that the cases of one client have to themselves."""

    clients: Clients
    folder: Path

    def write(self, case: Case) -> Path:
        """Write a snippet to the file that it names, in a folder of the case."""
        file = self.folder / case.name / Path(case.snippet.file).name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(case.snippet.text, "utf-8")
        return file

    def environment(self) -> dict[str, str]:
        """What a client finds in its environment, inside the root or outside."""
        return {"SMTP_PASSWORD": self.clients.password, "MAIL_FROM": SENDER}

    def run(self, argv: list[str], stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run a program of the root, in the client's folder."""
        chroot = ["chroot", self.clients.root, "env", f"--chdir={self.folder}", *argv]
        return _run(chroot, PLACES | self.environment(), stdin)


Outcomes = dict[str, str]
Driver = Callable[[Place, list[Case]], Outcomes]


def _run(
    argv: list[str], env: dict[str, str], stdin: str = "", cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv, input=stdin, env=env, cwd=cwd, capture_output=True, encoding="utf-8", check=False, timeout=SECONDS
    )


def _results(ran: subprocess.CompletedProcess[str]) -> Outcomes:
    found = [line.split("\t", 2)[1:] for line in ran.stdout.splitlines() if line.startswith("RESULT\t")]
    assert ran.returncode == 0, f"{ran.args} ended with {ran.returncode}:\n{ran.stdout[-2000:]}\n{ran.stderr[-4000:]}"
    return {name: outcome for name, outcome in found}  # noqa: C416 - two words each


def _lines(place: Place, cases: list[Case]) -> str:
    return "".join(f"{case.name}\t{place.write(case)}\t{case.to}\n" for case in cases)


def _by_trust(cases: list[Case]) -> list[tuple[bool, list[Case]]]:
    parts = [(own_ca, [case for case in cases if case.own_ca is own_ca]) for own_ca in (False, True)]
    return [(own_ca, part) for own_ca, part in parts if part]


def _driver(place: Place, name: str) -> str:
    (place.folder / name).write_bytes((DRIVERS / name).read_bytes())
    return str(place.folder / name)


def python(place: Place, cases: list[Case]) -> Outcomes:
    """Call the printed function ``send``, of smtplib or aiosmtplib."""
    outcomes = {}
    for case in cases:
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = SENDER, case.to, "hi"
        message.set_content("hi\n")
        scope: dict[str, object] = {}
        exec(compile(case.snippet.text, str(place.write(case)), "exec"), scope)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SMTP_PASSWORD", place.clients.password)
            try:
                sent = scope["send"](message)  # type: ignore[operator]
                if asyncio.iscoroutine(sent):
                    asyncio.run(sent)
                outcomes[case.name] = "sent"
            except Exception as error:
                outcomes[case.name] = repr(error)
    return outcomes


def django(place: Place, cases: list[Case]) -> Outcomes:
    """Run Django with the printed command for trust, and without: the variable counts for a whole process."""
    outcomes = {}
    for own_ca, part in _by_trust(cases):
        trust = TRUST.search(part[0].snippet.text)
        assert bool(trust) is own_ca
        environment = PLACES | place.environment() | {"PYTHONPATH": place.clients.django}
        script = f'{trust[1] if trust else ":"}; exec "$@"'
        argv = ["sh", "-c", script, "sh", sys.executable, str(DRIVERS / "django_mail.py")]
        outcomes |= _results(_run(argv, environment, _lines(place, part)))
    return outcomes


def _java(program: str) -> Driver:
    def send(place: Place, cases: list[Case]) -> Outcomes:
        """Start Java once with the printed commands for trust, once without."""
        outcomes = {}
        for own_ca, part in _by_trust(cases):
            options: list[str] = []
            if own_ca:
                text = next(case.snippet.text for case in part if "Trust" in case.snippet.text)
                command, flags = TRUST.search(text), JAVA_TRUST.search(text)
                assert command
                assert flags
                made = place.run(["sh", "-c", command[1]])
                assert made.returncode == 0, made.stdout + made.stderr
                options = flags[1].split()
            quick = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]
            argv = ["java", *quick, *options, "-cp", "/opt/clients/jars/*", _driver(place, program)]
            outcomes |= _results(place.run(argv, _lines(place, part)))
        return outcomes

    return send


def nodemailer(place: Place, cases: list[Case]) -> Outcomes:
    """Import each printed module; the package is found beside it, as npm installs it."""
    (place.folder / "node_modules").symlink_to("/opt/clients/node_modules")
    return _results(place.run(["node", _driver(place, "nodemailer.mjs")], _lines(place, cases)))


def phpmailer(place: Place, cases: list[Case]) -> Outcomes:
    """Evaluate each printed text and send with its ``$mail``."""
    return _results(place.run(["php", _driver(place, "phpmailer.php")], _lines(place, cases)))


def rails(place: Place, cases: list[Case]) -> Outcomes:
    """Evaluate each printed text with a ``config`` and give that to Action Mailer, as Rails does.

    Ruby keeps the CA file of one connection for all of a process: those without one have their own.
    """
    outcomes = {}
    for _, part in _by_trust(cases):
        outcomes |= _results(place.run(["ruby", _driver(place, "rails.rb")], _lines(place, part)))
    return outcomes


def msmtp(place: Place, cases: list[Case]) -> Outcomes:
    """Run msmtp with each printed file."""
    outcomes = {}
    for case in cases:
        message = f"From: header@shop.example.com\nTo: {case.to}\nSubject: hi\n\nhi\n"
        ran = place.run(["msmtp", "-C", str(place.write(case)), "--", case.to], message)
        outcomes[case.name] = ran.stderr.strip() if ran.returncode else "sent"
    return outcomes


def go(place: Place, cases: list[Case]) -> Outcomes:
    """Build each printed file as a package of its own, all in one program, and call its Send."""
    imports, calls = [], []
    for case in cases:
        word = case.name.replace("-", "_")
        place.write(case)
        imports.append(f'\t{word} "settings/{case.name}"')
        calls.append(f'\t\t{{"{case.name}", "{case.to}", {word}.Send}},')
    text = (DRIVERS / "go_main.txt").read_text("utf-8")
    text = text.replace("@IMPORTS@", "\n".join(imports)).replace("@CASES@", "\n".join(calls))
    (place.folder / "main.go").write_text(text, "utf-8")
    (place.folder / "go.mod").write_text("module settings\n\ngo 1.21\n", "utf-8")
    toolchain = gobuild.toolchain()
    program = str(place.folder / "program")
    built = _run([str(toolchain), "build", "-o", program, "."], gobuild.environment(toolchain), cwd=place.folder)
    assert built.returncode == 0, built.stderr
    return _results(_run([program], PLACES | place.environment()))


def alertmanager(place: Place, cases: list[Case]) -> Outcomes:
    """Run one Alertmanager a case, give it an alert, and read from its metrics what became of the notification."""
    with contextlib.ExitStack() as stack:
        running = {case.name: stack.enter_context(_alertmanager(place, case)) for case in cases}
        return {name: _notified(*one) for name, one in running.items()}


@contextlib.contextmanager
def _alertmanager(place: Place, case: Case) -> Iterator[tuple[str, Path]]:
    file = place.write(case)
    # the two lines that tell the reader to write an address of his own
    file.write_text(case.snippet.text.replace('"you@example.com"', f'"{case.to}"'), "utf-8")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    options = {"config.file": file, "storage.path": file.parent, "web.listen-address": address}
    argv = [f"--{name}={value}" for name, value in options.items()]
    log = file.parent / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            ["chroot", place.clients.root, "prometheus-alertmanager", *argv, "--cluster.listen-address="],
            env=PLACES,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )
    try:
        _until(lambda: bool(_get(f"http://{address}/-/ready")), f"Alertmanager ready ({case.name})", log)
        # an alert that began long ago is notified at once
        alert = [{"labels": {"alertname": "Hi"}, "startsAt": "2020-01-01T00:00:00Z"}]
        request = urllib.request.Request(
            f"http://{address}/api/v2/alerts", json.dumps(alert).encode(), {"Content-Type": "application/json"}
        )
        urllib.request.urlopen(request, timeout=10).close()
        yield address, log
    finally:
        process.terminate()
        process.wait()


def _notified(address: str, log: Path) -> str:
    def count(what: str) -> bool:
        name = rf'^alertmanager_notification_requests_{what}{{.*integration="email".*}} [1-9]'
        return bool(re.search(name, _get(f"http://{address}/metrics"), re.MULTILINE))

    _until(lambda: count("total"), "a notification", log)
    lines = [line for line in log.read_text("utf-8").splitlines() if "Notify attempt failed" in line]
    return lines[0] if count("failed_total") or lines else "sent"


def _get(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""


def _until(ready: Callable[[], bool], what: str, log: Path) -> None:
    deadline = time.monotonic() + SECONDS
    while not ready():
        assert time.monotonic() < deadline, f"not in {SECONDS} s: {what}\n{log.read_text('utf-8')[-3000:]}"
        time.sleep(0.05)


DRIVERS_BY_CLIENT: Final[dict[str, Driver]] = {
    "smtplib": python,
    "aiosmtplib": python,
    "jakarta-mail": _java("JakartaMail.java"),
    "spring-boot": _java("SpringBoot.java"),
    "nodemailer": nodemailer,
    "go": go,
    "django": django,
    "rails": rails,
    "phpmailer": phpmailer,
    "alertmanager": alertmanager,
    "msmtp": msmtp,
}
