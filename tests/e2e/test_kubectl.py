"""What a person sees and waits for with kubectl alone."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable

import pytest
from conftest import condition
from k8s import eventually
from shop import Shop

COLUMNS = ["NAME", "READY", "REASON", "HOST", "PORT", "MODE", "EGRESS", "LAST", "AGE"]
WIDE = ["AUTH", "STAGE", "CODE", "EGRESS-IP", "NEXT", "MESSAGE"]
RELAYING = {
    "envelope": {"from": "app@corp.test", "to": ["postmaster@outside.test"]},
    "location": {"nodeSelector": {"kubernetes.io/hostname": "node-a"}},
}
Run = Callable[..., str]


@pytest.fixture(scope="module")
def seen(make_shop: Callable[[], Shop]) -> Shop:
    """One probe that passes, one whose login is refused, one through a relay that says what it sees."""
    shop = make_shop()
    shop.secret("wrong", "user10@corp.test", "not-the-password")
    shop.probe("passes", "submissions", "smtps", credentialsSecretRef={"name": shop.login("user09@corp.test")})
    shop.probe("fails", "submission", "starttls", credentialsSecretRef={"name": "wrong"})
    shop.probe("relays", "exim", "plain", **RELAYING)
    for name in ("passes", "fails", "relays"):
        shop.judged(name)
    return shop


def rows(printed: str) -> tuple[list[str], dict[str, list[str]]]:
    """The header and the rows by name of what kubectl printed."""
    header, *lines = (line.split() for line in printed.splitlines())
    return header, {line[0]: line for line in lines}


@pytest.mark.parametrize("word", ["smtpprobes", "smtpp", "smtpprobe"])
def test_get_prints_what_matters(run: Run, seen: Shop, word: str) -> None:
    """`kubectl get` by plural, short name and category prints whether it works, why not, where to, and from where."""
    header, printed = rows(run("kubectl", "get", word, "-n", seen.namespace))
    assert header == COLUMNS
    assert printed["passes"][1:7] == ["True", "Succeeded", "postfix.test", "465", "smtps", "Unknown"]
    assert printed["fails"][1:7] == ["False", "BadCredentials", "postfix.test", "587", "starttls", "Unknown"]
    assert printed["relays"][1:7] == ["True", "Succeeded", "exim.test", "25", "plain", "Authorized"]
    assert all(len(line) == len(COLUMNS) for line in printed.values())


def test_wide_prints_stage_code_and_address(run: Run, seen: Shop) -> None:
    """`-o wide` adds the login, the stage and code of the refusal, the address that the server saw and one sentence."""
    header, printed = rows(run("kubectl", "get", "smtpprobes", "-n", seen.namespace, "-o", "wide"))
    assert header == COLUMNS + WIDE
    assert printed["fails"][9:12] == ["False", "auth", "535"]
    assert printed["passes"][9] == "True"
    assert "10.200.0.11" in printed["relays"]
    assert len(printed["fails"]) > len(COLUMNS + WIDE) - 3, "no message"


def test_wait_succeeds_on_success(run: Run, make_shop: Callable[[], Shop]) -> None:
    """`kubectl wait --for=condition=Ready` on a probe that was just applied returns when its first session passed."""
    shop = make_shop()
    shop.probe("new", "relay", "plain")
    run("kubectl", "wait", "--for=condition=Ready", "smtpprobe/new", "-n", shop.namespace, "--timeout=60s")
    assert condition(shop.get("new")["status"], "Ready")["reason"] == "Succeeded"


def test_wait_does_not_pass_on_an_old_result(run: Run, make_shop: Callable[[], Shop]) -> None:
    """After a spec change `kubectl wait` does not take the old success for an answer; then comes the new verdict."""
    shop = make_shop()
    shop.probe("changed", "relay", "plain")
    shop.becomes("changed", "Succeeded")
    host = {"spec": {"host": "odd.test", "port": 2501, "timeoutSeconds": 15}}
    run("kubectl", "patch", "smtpprobe/changed", "-n", shop.namespace, "--type=merge", "-p", json.dumps(host))
    waiting = ["kubectl", "wait", "--for=condition=Ready", "smtpprobe/changed", "-n", shop.namespace, "--timeout=5s"]
    done = subprocess.run(waiting, capture_output=True, text=True, check=False)
    assert (done.returncode, "timed out" in done.stderr) == (1, True), done
    assert condition(shop.judged("changed"), "Ready")["reason"] == "BannerTimeout"


def test_explain_reads_as_documentation(run: Run, operator: str) -> None:
    """`kubectl explain` says what a field means, what may be written, and gives an example."""
    assert operator
    said = eventually(lambda: run("kubectl", "explain", "smtpprobe.spec.mode"), within=30)
    assert "FIELD: mode <string>" in said
    assert all(mode in said for mode in ("plain", "starttls", "smtps"))
    assert "Example:" in said


def test_describe_tells_the_story(run: Run, seen: Shop) -> None:
    """`kubectl describe` ends with the event that says what failed and who must act."""
    eventually(lambda: seen.events("fails"))
    said = run("kubectl", "describe", "smtpprobe", "fails", "-n", seen.namespace)
    events = said[said.index("Events:") :]
    assert "ProbeFailed" in events
    assert "app developer must act" in events
