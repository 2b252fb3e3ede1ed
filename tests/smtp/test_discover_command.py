"""`smtpprobe discover`, `check` without a port or mode, `try` and the local operator with mode auto, as people run them."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from certificates import pki
from manyports import ports
from programs import authority, eventually, login, run, write

from smtpprobe import spec as specs

USER, PASSWORD = "sender@shop.example.com", "correct-horse-9"
SUBMISSION = {
    465: ("smtps", "@hello AUTH PLAIN LOGIN"),
    587: ("starttls", "@hello AUTH PLAIN LOGIN"),
    25: ("plain", "@hello SIZE 1000"),
}
TRUST = ("--ca", pki().ca_file, "--server-name", "localhost", "--timeout", "20")
LOGIN = ("--username", USER, "--password-file", "-")
STRIPPED = "> 220 mx\n< EHLO\n> 250-mx\n> 250 HELP"


def resource(host: str, generation_mark: str = "shop.example.com", **spec: Any) -> dict[str, Any]:
    tls = {"caRef": {"kind": "ConfigMap", "name": "ca"}, "serverName": "localhost"}
    return {
        "apiVersion": "smtpprobe.dev/v1alpha1",
        "kind": "SmtpProbe",
        "metadata": {"name": "order", "namespace": "shop"},
        "spec": {"host": host, "mode": "auto", "tls": tls, "heloName": generation_mark, "timeoutSeconds": 20} | spec,
    }


def test_discover_prints_the_ports_and_a_manifest_to_apply() -> None:
    """A table of the ports, the choice with its reason, a login that passed, and a SmtpProbe that the checks accept."""
    with ports(SUBMISSION) as there:
        done = run("smtpprobe", "discover", there.host, *TRUST, *LOGIN, stdin=PASSWORD.encode())
        assert done.returncode == 0, done.stdout + done.stderr
        assert there.logins == 1
    assert f"USE: {there.host} port 465, smtps" in done.stdout
    assert "2525  -         -        -     ConnectRefused" in done.stdout
    assert "after TLS: AUTH PLAIN LOGIN" in done.stdout
    assert "RFC 8314" in done.stdout
    assert PASSWORD not in done.stdout + done.stderr
    made = yaml.safe_load(done.stdout[done.stdout.index("# Its login") :])
    parsed = specs.parse(made["spec"])
    assert parsed.problems == ()
    assert (made["spec"]["port"], made["spec"]["mode"]) == (465, "smtps")
    assert made["spec"]["credentialsSecretRef"]["name"] in done.stdout.split("kubectl create secret generic ")[1]
    assert max(map(len, done.stdout.splitlines())) <= 200


def test_discover_names_the_port_also_where_its_login_was_refused() -> None:
    """A wrong password makes no port useless: the choice and the manifest stand, and below them who must act."""
    refusing = "@hello AUTH PLAIN LOGIN\n< AUTH\n> 535 5.7.8 Error: authentication failed"
    with ports({465: ("smtps", refusing)}) as there:
        done = run("smtpprobe", "discover", there.host, *TRUST, *LOGIN, stdin=PASSWORD.encode())
        assert done.returncode == 2, done.stdout + done.stderr
        assert there.logins == 1
    assert f"USE: {there.host} port 465, smtps" in done.stdout
    assert "--from-file=ca.crt=" in done.stdout
    assert "port: 465" in done.stdout
    assert "BadCredentials" in done.stdout


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_discover_for_programs(form: str) -> None:
    """One object with every key of check, the ports in full, and the manifest; all else is on stderr."""
    with ports(SUBMISSION) as there:
        done = run("smtpprobe", "discover", there.host, *TRUST, "--output", form)
    answer = json.loads(done.stdout) if form == "json" else yaml.safe_load(done.stdout)
    assert (done.returncode, answer["outcome"], answer["port"], answer["mode"]) == (0, "Passed", 465, "smtps")
    assert answer["manifest"]["spec"]["port"] == 465
    found = {port["port"]: port for port in answer["discovery"]["ports"]}
    assert sorted(found) == [25, 465, 587, 2465, 2525, 2587]
    assert found[587]["features"]["beforeTls"] == ["STARTTLS"]
    assert found[465]["tls"]["chain"][0]["sans"]
    assert found[2525]["reason"] == "ConnectRefused"
    assert "transcript" in answer


@pytest.mark.parametrize("lang", ["en", "ko"])
def test_discover_that_finds_nothing_says_who_must_act(lang: str) -> None:
    """Exit 2, each port with its reason word, and the diagnosis of the one that came farthest, in either language."""
    with ports({25: ("plain", "@hello")}) as there:
        done = run("smtpprobe", "discover", there.host, *TRUST, *LOGIN, "--lang", lang, stdin=PASSWORD.encode())
        assert (done.returncode, there.logins) == (2, 0)
    assert "TlsNotOffered" in done.stdout
    assert done.stdout.count("ConnectRefused") >= 5
    assert ("WHO MUST ACT" if lang == "en" else "조치할 사람") in done.stdout
    assert "kind: SmtpProbe" not in done.stdout


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "HOST"),
        (("h.example", "--min-tls", "1.0"), "--min-tls"),
        (("h.example", "--lang", "de"), "--lang"),
        (("h.example", "--password-file", "x"), "--username"),
        (("h.example:0",), "65535"),
    ],
)
def test_discover_wrong_usage_is_3(words: tuple[str, ...], says: str) -> None:
    """Wrong usage leaves with 3 and names the argument."""
    done = run("smtpprobe", "discover", *words)
    assert (done.returncode, done.stdout, says in done.stderr) == (3, "", True), done.stderr


def test_check_without_a_port_finds_it_and_logs_in_once() -> None:
    """One object as ever, with the port and mode that were found and all ports in `discovery`; one login in all."""
    with ports(SUBMISSION) as there:
        done = run("smtpprobe", "check", there.host, *TRUST, *LOGIN, "-o", "json", stdin=PASSWORD.encode())
        assert there.logins == 1
        assert there.connections() == {465: 2, 587: 1, 25: 1}
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["port"], answer["mode"]) == (0, 465, "smtps")
    assert answer["auth"]["succeeded"]
    assert len(answer["discovery"]["ports"]) == 6
    assert "found smtps on port 465" in done.stderr


def test_check_with_a_port_finds_its_mode() -> None:
    """HOST:PORT without --mode: the one connection that finds the mode is the session; --mode asks for just that one."""
    with ports(SUBMISSION) as there:
        for port, mode in ((587, "starttls"), (465, "smtps"), (25, "plain")):
            done = run("smtpprobe", "check", f"{there.host}:{port}", *TRUST, "-o", "json")
            answer = json.loads(done.stdout)
            assert (done.returncode, answer["mode"], answer["port"]) == (0, mode, port), done.stdout
            assert there.connections()[port] == 1
        done = run("smtpprobe", "check", f"{there.host}:25", "--mode", "starttls", *TRUST, "-o", "json")
        answer = json.loads(done.stdout)
        assert (done.returncode, answer["reason"], answer["discovery"]) == (2, "TlsNotOffered", None)


def test_settings_follow_what_was_found() -> None:
    """check --settings writes the clients' configuration for the port and mode that were found."""
    with ports(SUBMISSION) as there:
        done = run("smtpprobe", "check", there.host, *TRUST, *LOGIN, "--settings", stdin=PASSWORD.encode())
    assert done.returncode == 0
    assert f"smarthost: {there.host}:465" in done.stdout.replace("'", "").replace('"', "")


def test_try_runs_mode_auto_as_the_cluster_would(tmp_path: Path) -> None:
    """The status that try prints has what was found, conditions judged by it, and the message names port and mode."""
    secret = login("order-login", USER, PASSWORD)
    with ports(SUBMISSION) as there:
        file = write(
            tmp_path / "probe.yaml",
            resource(there.host, credentialsSecretRef={"name": "order-login"}),
            secret,
            authority("ca", pki().ca_file),
        )
        done = run("smtpprobe", "try", "-f", str(file), "--output", "json")
        assert (done.returncode, there.logins) == (0, 1), done.stderr
    status = json.loads(done.stdout)["status"]
    assert (status["discovery"]["port"], status["discovery"]["mode"]) == (465, "smtps")
    conditions = {c["type"]: c for c in status["conditions"]}
    assert conditions["Authenticated"]["status"] == "True"
    assert conditions["Ready"]["message"].startswith(f"{there.host}:465 smtps: ")


class Folder:
    """A folder of one local operator that is run with --once, again and again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        write(path / "more.yaml", login("order-login", USER, PASSWORD), authority("ca", pki().ca_file))

    def run(self, probe: dict[str, Any], now: str | None = None) -> dict[str, Any]:
        if now is not None:
            probe = probe | {"metadata": probe["metadata"] | {"annotations": {"smtpprobe.dev/run-now": now}}}
        write(self.path / "probe.yaml", probe)
        done = run("smtpprobe-operator", "local", str(self.path), "--once")
        assert done.returncode == 0, done.stderr
        status = eventually("a status", lambda: yaml.safe_load((self.path / "order.status.yaml").read_text()))
        return dict(status["status"])


def test_the_local_operator_looks_once_a_generation(tmp_path: Path) -> None:
    """The first run looks at the ports, a later one opens one connection where it was found, a new generation looks
    again; each run logs in once."""
    folder = Folder(tmp_path)
    with ports(SUBMISSION) as there:
        probe = resource(there.host, credentialsSecretRef={"name": "order-login"})
        status = folder.run(probe)
        assert (status["discovery"]["port"], there.logins) == (465, 1)
        assert there.connections() == {465: 2, 587: 1, 25: 1}
        status = folder.run(probe, now="1")
        assert (status["discovery"]["generation"], there.logins) == (1, 2)
        assert there.connections() == {465: 3, 587: 1, 25: 1}
        other = resource(there.host, "mail.example.com", credentialsSecretRef={"name": "order-login"})
        status = folder.run(other)
        assert (status["discovery"]["generation"], there.logins) == (2, 3)
        assert there.connections() == {465: 5, 587: 2, 25: 2}
        assert status["tlsSeen"] == [f"{there.host}:465", f"{there.host}:587"]


@pytest.mark.parametrize("declared", [{"mode": "auto"}, {"mode": "starttls", "port": 587}], ids=["auto", "starttls"])
def test_an_offer_of_starttls_that_vanished_is_no_lower_mode(tmp_path: Path, declared: dict[str, Any]) -> None:
    """STARTTLS was there and is gone: TlsNotOffered with the note MiddleboxSuspected, in this generation and in the next
    one; nothing is said in plain after EHLO, and no login is sent."""
    folder, looks = Folder(tmp_path), 1 if declared["mode"] == "auto" else 0
    good = "@hello AUTH PLAIN"
    expanded = f"{good}\n---\n" * (1 + looks) + STRIPPED
    with ports({587: ("starttls", expanded)}) as there:
        secret = {"credentialsSecretRef": {"name": "order-login"}}
        status = folder.run(resource(there.host, **declared, **secret))
        assert status["tlsSeen"] == [f"{there.host}:587"], status["conditions"]
        assert there.logins == 1
        for number, helo in (("1", "shop.example.com"), (None, "mail.example.com")):
            status = folder.run(resource(there.host, helo, **declared, **secret), now=number)
            ready = next(c for c in status["conditions"] if c["type"] == "Ready")
            assert (ready["status"], ready["reason"]) == ("False", "TlsNotOffered"), ready
            assert "MiddleboxSuspected" in status["locations"][0]["evidence"]["notes"]
        assert there.logins == 1
        assert all(heard.lines[-1:] in (["QUIT"], []) for heard in there.servers[587].heard[1 + looks :])
