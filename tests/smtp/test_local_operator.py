"""`smtpprobe-operator local FOLDER` as it runs on a machine without Kubernetes."""

import contextlib
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
import yaml
from certificates import pki
from hostile import Hostile
from programs import BIN, authority, eventually, login, manifest, ready, run, write
from stock import stock_server

USER = "sender@shop.example.com"
PASSWORD = "correct-horse-9"
TLS = {"tls": {"caRef": {"kind": "ConfigMap", "name": "ca"}}}


class Local:
    """A running local operator: what it printed, where its metrics are."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [BIN / "smtpprobe-operator", "local", folder], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.out: list[str] = []
        self.err: list[str] = []
        self._threads = [
            threading.Thread(target=lambda s=stream, t=told: t.extend(iter(s.readline, "")), daemon=True)  # type: ignore[misc]
            for stream, told in ((self.process.stdout, self.out), (self.process.stderr, self.err))
        ]
        for thread in self._threads:
            thread.start()

    def metrics(self) -> dict[str, float]:
        """Every sample by its name and labels."""
        line = eventually("metrics line", lambda: next((x for x in self.err if x.startswith("metrics: ")), None))
        with urlopen(line.split()[1], timeout=10) as reply:
            text = reply.read().decode()
        rows = (row.rpartition(" ") for row in text.splitlines() if not row.startswith("#"))
        return {row[0]: float(row[2]) for row in rows}

    def end(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            if number != signal.SIGKILL:  # before this line it does not listen to signals yet
                eventually("metrics line", lambda: any(x.startswith("metrics: ") for x in self.err))
            self.process.send_signal(number)
        code = self.process.wait(60)
        for thread in self._threads:
            thread.join(10)
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()
        return code


Start = Callable[[], Local]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start operators over the folder of the test; they end with it."""
    begun: list[Local] = []

    def begin() -> Local:
        begun.append(Local(tmp_path))
        return begun[-1]

    yield begin
    for local in begun:
        local.end(signal.SIGKILL)


def status(folder: Path, name: str) -> dict[str, Any] | None:
    with contextlib.suppress(FileNotFoundError):
        return dict(yaml.safe_load((folder / f"{name}.status.yaml").read_text()))
    return None


def verdict(folder: Path, name: str, reason: str, generation: int = 1) -> dict[str, Any]:
    """Wait for a status with this reason and generation."""

    def reached() -> dict[str, Any] | None:
        found = status(folder, name)
        if found and found["status"]["observedGeneration"] == generation and ready(found) == reason:
            return found
        return None

    return eventually(f"{name}: {reason}, now {status(folder, name)}", reached)


def test_runs_what_is_due_and_serves_what_it_wrote(tmp_path: Path, start: Start) -> None:
    """Each probe runs once and its status is beside its manifest; the metrics say what the statuses say; a signal
    ends it with 0."""
    with Hostile(["@hello"], "plain") as server:
        write(tmp_path / "probes.yaml", manifest("good", server.port), manifest("refused", 1))
        local = start()
        good, refused = verdict(tmp_path, "good", "Succeeded"), verdict(tmp_path, "refused", "ConnectRefused")
        values = local.metrics()
        for found, success in ((good, 1), (refused, 0)):
            me = f'name="{found["metadata"]["name"]}",namespace="shop"'
            assert values[f'smtpprobe_success{{location="default",{me}}}'] == success
            assert values[f"smtpprobe_consecutive_failures{{{me}}}"] == found["status"].get("consecutiveFailures", 0)
            outcome = "Passed" if success else "Failed"
            assert values[f'smtpprobe_runs_total{{{me},outcome="{outcome}"}}'] == 1
        assert values['smtpprobe_failure_reason{name="refused",namespace="shop",reason="ConnectRefused"}'] == 1
        assert local.end() == 0
    assert len(server.heard) == 1
    assert not list(tmp_path.glob(".*")), "a draft was left"
    assert any("ConnectRefused" in line for line in local.out)


def test_a_restart_repeats_nothing(tmp_path: Path, start: Start) -> None:
    """Statuses are read back: after a restart no probe runs before its time."""
    with Hostile(["@hello"], "plain") as server:
        write(tmp_path / "probes.yaml", manifest("good", server.port))
        local = start()
        before = verdict(tmp_path, "good", "Succeeded")
        local.end()
        again = start()
        assert again.metrics()['smtpprobe_success{location="default",name="good",namespace="shop"}'] == 1
        eventually("the table", lambda: [line for line in again.out if line.startswith("good")])
        assert again.end() == 0
        assert (status(tmp_path, "good"), len(server.heard)) == (before, 1)


def test_a_changed_manifest_is_a_new_generation(tmp_path: Path, start: Start) -> None:
    """A changed spec runs at once as the next generation; run-now runs once; an invalid spec says what is wrong."""
    with Hostile(["@hello"], "plain") as server:
        file = write(tmp_path / "probe.yaml", manifest("order", 1))
        local = start()
        verdict(tmp_path, "order", "ConnectRefused")
        write(file, manifest("order", server.port))
        verdict(tmp_path, "order", "Succeeded", generation=2)
        asked = manifest("order", server.port)
        asked["metadata"]["annotations"] = {"smtpprobe.dev/run-now": 1}
        write(file, asked)
        eventually("run-now", lambda: (status(tmp_path, "order") or {})["status"].get("lastHandledRunNow") == "1")
        assert len(server.heard) == 2
        write(file, manifest("order", server.port, depth="message"))
        found = verdict(tmp_path, "order", "SpecInvalid", generation=3)
        assert "spec.depth" in found["status"]["advice"]["text"]
        write(file, manifest("order", server.port, suspend=True))
        verdict(tmp_path, "order", "Suspended", generation=4)
        assert local.end() == 0
        assert len(server.heard) == 2


def test_a_removed_manifest_is_dropped(tmp_path: Path, start: Start) -> None:
    """A manifest that is gone leaves the metrics and the table."""
    file = write(tmp_path / "gone.yaml", manifest("gone", 1))
    write(tmp_path / "stays.yaml", manifest("stays", 1))
    local = start()
    verdict(tmp_path, "gone", "ConnectRefused")
    file.unlink()
    eventually("gone from metrics", lambda: not [key for key in local.metrics() if 'name="gone"' in key])
    assert [key for key in local.metrics() if 'name="stays"' in key]


def test_a_bad_file_stops_no_other(tmp_path: Path, start: Start) -> None:
    """A file that is no YAML is named once; the others run, and what the file held before stays until it is mended."""
    bad = tmp_path / "a-bad.yaml"
    bad.write_text("kind: [")
    write(tmp_path / "good.yaml", manifest("good", 1))
    half = write(tmp_path / "half.yaml", manifest("half", 1))
    local = start()
    verdict(tmp_path, "good", "ConnectRefused")
    verdict(tmp_path, "half", "ConnectRefused")
    half.write_text("apiVersion: [half written")
    eventually("half is named", lambda: [x for x in local.err if "half.yaml" in x and "as it was before" in x])
    assert [key for key in local.metrics() if 'name="half"' in key]
    write(bad, manifest("mended", 1))
    verdict(tmp_path, "mended", "ConnectRefused")
    assert len([line for line in local.err if "a-bad.yaml" in line]) == 1
    assert local.end() == 0


def test_namesakes_have_files_of_their_own(tmp_path: Path, start: Start) -> None:
    """Two probes of one name in two namespaces share no status, also after a restart; a doubled one is named."""
    with Hostile(["@hello"], "plain") as server:
        write(tmp_path / "a.yaml", manifest("order", server.port))
        write(tmp_path / "b.yaml", manifest("order", 1, namespace="bank"))
        write(tmp_path / "c.yaml", manifest("order", 2, namespace="bank"))
        for _ in range(2):
            local = start()
            shop = verdict(tmp_path, "order", "Succeeded")
            bank = verdict(tmp_path, "bank_order", "ConnectRefused")
            assert (shop["metadata"]["namespace"], bank["metadata"]["namespace"]) == ("shop", "bank")
            assert local.end() == 0
            assert [line for line in local.err if "b.yaml and" in line]
        assert len(server.heard) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_two_wrong_passwords_are_two_logins(tmp_path: Path, start: Start, number: int) -> None:
    """Two wrong logins with one Secret and no third, whatever restarts, asks or changes; a new Secret is tried."""
    with stock_server("starttls", pki().contexts["good"], PASSWORD) as server:
        ca, secret = authority("ca", pki().ca_file), {"credentialsSecretRef": {"name": "smtp"}}
        write(tmp_path / "secret.yaml", ca, login("smtp", USER, "wrong"))
        file = write(tmp_path / "probe.yaml", manifest("one", server.port, "starttls", **secret, **TLS))
        local = start()
        verdict(tmp_path, "one", "BadCredentials")
        assert local.end(number) == 0
        asked = manifest("one", server.port, "starttls", **secret, **TLS)
        asked["metadata"]["annotations"] = {"smtpprobe.dev/run-now": "again"}
        write(file, asked)
        local = start()
        eventually("the second", lambda: len(server.logins) == 2)
        eventually("paused", lambda: status(tmp_path, "one")["status"]["auth"].get("paused"))  # type: ignore[index]
        local.end(number)
        write(file, manifest("one", server.port, "starttls", **secret, **TLS, timeoutSeconds=30))
        write(tmp_path / "two.yaml", manifest("two", server.port, "starttls", **secret, **TLS))
        local = start()
        verdict(tmp_path, "one", "BadCredentials", generation=2)
        verdict(tmp_path, "two", "BadCredentials")
        assert len(server.logins) == 2
        assert local.metrics()['smtpprobe_auth_paused{name="one",namespace="shop"}'] == 1
        write(tmp_path / "secret.yaml", ca, login("smtp", USER, PASSWORD))
        write(file, manifest("one", server.port, "starttls", **secret, **TLS, timeoutSeconds=40))
        verdict(tmp_path, "one", "Succeeded", generation=3)
        assert len(server.logins) == 3
        assert PASSWORD not in "".join(path.read_text() for path in tmp_path.glob("*.status.yaml"))


def test_a_login_under_way_counts_when_the_operator_ends(tmp_path: Path, start: Start) -> None:
    """Ended while the server thinks about a login, the operator writes that it was sent; no process is left."""
    silent = "> 220 mx.example.net ESMTP\n< EHLO\n> 250-mx.example.net\n> 250 AUTH PLAIN\n< AUTH"
    with Hostile([silent], "plain") as server:
        write(tmp_path / "s.yaml", login("smtp", USER, "wrong"))
        fields = {"credentialsSecretRef": {"name": "smtp"}, "allowPlaintextAuth": True}
        write(tmp_path / "p.yaml", manifest("one", server.port, **fields))
        local = start()
        eventually("AUTH", lambda: server.logins == 1)
        assert local.end(signal.SIGINT) == 0
        found = status(tmp_path, "one")
        assert found is not None
        assert found["status"]["auth"]["refused"] == 1
        assert "Traceback" not in "".join(local.err)


def test_once_stops_when_each_has_run(tmp_path: Path) -> None:
    """--once runs each probe, prints the table once, writes the metrics file and stops; a bad file makes it exit 3."""
    write(tmp_path / "p.yaml", manifest("one", 1), manifest("two", 2))
    metrics = tmp_path / "out.prom"
    done = run("smtpprobe-operator", "local", str(tmp_path), "--once", "--metrics-file", str(metrics))
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["NAME", "one", "two"]
    assert 'smtpprobe_failure_reason{name="two",namespace="shop",reason="ConnectRefused"} 1.0' in metrics.read_text()
    (tmp_path / "bad.yaml").write_text("[")
    done = run("smtpprobe-operator", "local", str(tmp_path), "--once")
    assert (done.returncode, "bad.yaml" in done.stderr, "two" in done.stdout) == (3, True, True)


def test_no_folder(tmp_path: Path) -> None:
    """A folder that is none, and a status that is not ours, are named in one line."""
    done = run("smtpprobe-operator", "local", str(tmp_path / "none"))
    assert (done.returncode, len(done.stderr.splitlines())) == (3, 1)
    write(tmp_path / "p.yaml", manifest("one", 1))
    (tmp_path / "one.status.yaml").write_text("something else")
    done = run("smtpprobe-operator", "local", str(tmp_path), "--once")
    assert (done.returncode, "one.status.yaml" in done.stderr) == (3, True)
    assert (tmp_path / "one.status.yaml").read_text() == "something else"


@pytest.mark.parametrize("words, named", [(["nonsense"], "'nonsense'"), (["local"], "FOLDER"), (["run", "-x"], "-x")])
def test_wrong_usage(words: list[str], named: str) -> None:
    """Wrong usage leaves with 3, as everywhere here, and with the usage line and one that names what is wrong."""
    done = run("smtpprobe-operator", *words)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("usage: smtpprobe-operator")
    assert named in done.stderr.splitlines()[-1]
