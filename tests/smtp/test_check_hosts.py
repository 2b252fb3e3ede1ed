"""`smtpprobe check --hosts FILE` against servers on loopback: order, bounds, what it never does."""

import contextlib
import json
import signal
import socket
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest
from programs import BIN, run

COMMAND = ("check", "--mode", "plain", "--helo", "shop.example.com")


class Desk:
    """A server on all of 127.0.0.0/8 that greets a client once ``together`` are there, and counts who is there."""

    def __init__(self, together: int = 1) -> None:
        self._together = together
        self._listener = socket.create_server(("0.0.0.0", 0))
        self.port: int = self._listener.getsockname()[1]
        self._change = threading.Condition()
        self._open: Counter[str] = Counter()
        self._stopping = False
        self.most: Counter[str] = Counter()
        self.commands: list[str] = []

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._change:
            self._stopping = True
            self._change.notify_all()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        host = sock.getsockname()[0]
        with self._change:
            self._open[host] += 1
            self.most[host] = max(self.most[host], self._open[host])
            self._change.notify_all()
            self._change.wait_for(lambda: self._stopping or len(self.most) >= self._together, timeout=60)
        with sock, contextlib.suppress(OSError):
            sock.sendall(b"220 desk.example.com ESMTP\r\n")
            for line in sock.makefile("rb"):
                self.commands.append(line.split()[0].decode())
                sock.sendall(b"221 2.0.0 bye\r\n" if line.startswith(b"QUIT") else b"250 desk.example.com\r\n")
                if line.startswith(b"QUIT"):
                    break
        with self._change:
            self._open[host] -= 1


@pytest.fixture
def closed() -> Iterator[int]:
    """A port where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def hosts(tmp_path: Path, *lines: str) -> str:
    (tmp_path / "hosts").write_text("\n".join(lines))
    return str(tmp_path / "hosts")


def test_each_line_has_its_answer(closed: int, tmp_path: Path) -> None:
    """Every line that names a host has one JSON object, in the order of the lines, a wrong one too; the worst decides the exit."""
    with Desk() as desk:
        lines = (f"127.0.0.1:{closed}", "# all of ours", "", f"127.0.0.2:{desk.port}  # the relay", "host:port", "a b")
        done = run("smtpprobe", *COMMAND, "--hosts", hosts(tmp_path, *lines), "--output", "json")
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    shown = [(answer["line"], answer["target"], answer["outcome"], answer["reason"]) for answer in answers]
    assert shown == [
        (1, f"127.0.0.1:{closed}", "Failed", "ConnectRefused"),
        (4, f"127.0.0.2:{desk.port}", "Passed", "Succeeded"),
        (5, "host:port", "Error", "SpecInvalid"),
        (6, "a b", "Error", "SpecInvalid"),
    ]
    assert [answer.get("error", "")[:7] for answer in answers] == ["", "", "line 5:", "line 6:"]
    assert done.returncode == 3
    assert done.stderr == "smtpprobe check: 2 Error, 1 Failed, 1 Passed\n"


@pytest.mark.parametrize(("lines", "code"), [(1, 0), (2, 2)])
def test_text_is_a_line_a_host(closed: int, lines: int, code: int) -> None:
    """Standard input works as the file, text has one line a host, and a failed host makes the exit code 2."""
    with Desk() as desk:
        wanted = (f"127.0.0.1:{desk.port}", f"127.0.0.1:{closed}")[:lines]
        done = run("smtpprobe", *COMMAND, "--hosts", "-", stdin="\n".join(wanted).encode())
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [[wanted[0], "Passed"], [wanted[-1], "Failed"]][
        :lines
    ]
    assert done.returncode == code


def test_hosts_are_checked_at_the_same_time(tmp_path: Path) -> None:
    """With --parallel 4 four hosts are spoken to at once: a server that greets none before all four came greets them all."""
    with Desk(together=4) as desk:
        wanted = [f"127.0.0.{number}:{desk.port}" for number in range(2, 10)]
        done = run("smtpprobe", *COMMAND, "--hosts", hosts(tmp_path, *wanted), "--parallel", "4")
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 8), done.stdout


def test_one_host_is_never_crowded(tmp_path: Path) -> None:
    """A host that stands on many lines has at most two connections at a time."""
    with Desk() as desk:
        wanted = [f"127.0.0.1:{desk.port}"] * 12
        done = run("smtpprobe", *COMMAND, "--hosts", hosts(tmp_path, *wanted), "--parallel", "12")
    assert done.returncode == 0
    assert 1 <= desk.most["127.0.0.1"] <= 2


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--username", "sender"), "sends no login"),
        (("--password-file", "-"), "sends no login"),
        (("--depth", "message", "--from", "a@shop.example.com", "--to", "b@example.org"), "sends no message"),
        (("--parallel", "0"), "from 1 to 256"),
        (("--settings",), "for one HOST"),
        (("--min-tls", "1.3", "--depth", "auth"), "depth auth logs in"),
        (("127.0.0.1",), "name one HOST"),
    ],
)
def test_what_it_refuses(words: tuple[str, ...], sentence: str, tmp_path: Path) -> None:
    """A login, a message, and flags that fit no line are refused before any host is spoken to, once."""
    with Desk() as desk:
        done = run("smtpprobe", *COMMAND, "--hosts", hosts(tmp_path, f"127.0.0.1:{desk.port}", "127.0.0.3:1"), *words)
    assert (done.returncode, done.stdout, desk.commands) == (3, "", [])
    assert sentence in done.stderr
    assert done.stderr.count(sentence) == 1, done.stderr


def test_an_empty_file_is_wrong_usage(tmp_path: Path) -> None:
    """A file without a host is no success."""
    done = run("smtpprobe", *COMMAND, "--hosts", hosts(tmp_path, "# nothing yet"))
    assert (done.returncode, done.stdout) == (3, "")
    assert "names no host" in done.stderr


def test_an_interrupt_loses_nothing(tmp_path: Path) -> None:
    """Ctrl-C: what is known is printed, every other line says that it was not checked, exit 3."""
    with Desk(together=3) as desk:
        wanted = [f"127.0.0.2:{desk.port}", f"127.0.0.3:{desk.port}", "127.0.0.4:1"]
        argv = [BIN / "smtpprobe", *COMMAND, "--hosts", hosts(tmp_path, *wanted), "--output", "json"]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            with desk._change:
                assert desk._change.wait_for(lambda: len(desk.most) == 2, timeout=60)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
    answers = [json.loads(line) for line in out.splitlines()]
    assert [answer["line"] for answer in answers] == [1, 2, 3]
    assert ["not checked" in answer["message"] for answer in answers[:2]] == [True, True]
    assert (process.returncode, "Traceback" in err) == (3, False), err
