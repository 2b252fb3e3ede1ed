"""What a person at kubectl meets: documentation, columns, waiting, and changing one's mind."""

import itertools
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from k8s import PROBES, Api, eventually, probes

from smtpprobe import spec as specs
from smtpprobe.resource import (
    Advice,
    AuthPause,
    Condition,
    EgressStatus,
    HistoryEntry,
    LastRun,
    LocationStatus,
    Outage,
    SeenAddress,
    StageStatus,
    Status,
    decode_status,
    encode_status,
)
from smtpprobe.vocabulary import ConditionStatus, ConditionType, EgressVerdict, Outcome, StageOutcome

pytestmark = pytest.mark.usefixtures("crd")
EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "examples").glob("*.yaml"))
THEN = datetime(2026, 11, 22, 14, 3, 22, tzinfo=UTC)
SERVER = {"host": "smtp.example.com", "port": 587, "mode": "starttls"}


def manifest(name: str, **fields: Any) -> dict[str, Any]:
    return {
        "apiVersion": "smtpprobe.dev/v1alpha1",
        "kind": "SmtpProbe",
        "metadata": {"name": name},
        "spec": SERVER | fields,
    }


def condition(kind: ConditionType, status: ConditionStatus, reason: str, generation: int) -> Condition:
    return Condition(
        type=kind,
        status=status,
        reason=reason,
        message=f"{reason}.",
        last_transition_time=THEN,
        observed_generation=generation,
    )


FULL = Status(
    observed_generation=1,
    conditions=(
        condition(ConditionType.READY, ConditionStatus.FALSE, "BadCredentials", 1),
        condition(ConditionType.AUTHENTICATED, ConditionStatus.FALSE, "BadCredentials", 1),
    ),
    summary="0/1",
    last_run_time=THEN,
    next_run_time=datetime(2027, 1, 1, tzinfo=UTC),
    consecutive_failures=2,
    failed_stage="auth",
    reply_code=535,
    advice=Advice(owner="app developer", text="Write the whole address."),
    last_run=LastRun(
        trigger="slot:1795356202",
        generation=1,
        slot=1795356202,
        outcome=Outcome.FAILED,
        started_at=THEN,
        finished_at=THEN,
        spec_digest="ab",
        equal_failures=2,
        error_since=THEN,
        attempt=1,
    ),
    last_handled_run_now="1",
    auth=AuthPause(
        paused=True,
        since=THEN,
        refused=2,
        reason="BadCredentials",
        message="535",
        last_attempt=THEN,
        salt="00",
        fingerprint="abcd",
        target="s@h",
        last_success=THEN,
    ),
    egress=EgressStatus(
        verdict=EgressVerdict.AUTHORIZED,
        addresses=(
            SeenAddress(
                ip="203.0.113.7",
                family=4,
                rank="A1",
                method="EhloReply",
                first_seen=THEN,
                last_seen=THEN,
                count=3,
                node="a",
                zone="z",
            ),
        ),
    ),
    locations=(
        LocationStatus(
            name="default",
            outcome=Outcome.FAILED,
            finished_at=THEN,
            node="a",
            zone="z",
            reason="BadCredentials",
            stages=(
                StageStatus(
                    stage="rcpt",
                    outcome=StageOutcome.FAILED,
                    after_tls=True,
                    elapsed_ms=5,
                    code=535,
                    enhanced="5.7.8",
                    text="no",
                    recipient="a@b.test",
                    detail="x",
                ),
            ),
            tls={"protocol": "TLSv1.3", "chain": [{"subject": "x"}]},
            evidence={"any": {"thing": [1, "two"]}},
        ),
    ),
    history=(
        HistoryEntry(
            at=THEN, outcome=Outcome.FAILED, reason="BadCredentials", trigger="once", stage="auth", code=535, ms=12
        ),
    ),
    outages=(Outage(since=THEN, until=THEN, reason="BadCredentials", runs=2, evidence={"a": 1}),),
    truncated=True,
)


def write_status(api: Api, namespace: str, name: str, status: Status) -> dict[str, Any]:
    raw = api.get(probes(namespace, name)).ok()
    return api.call("PUT", probes(namespace, name, "status"), raw | {"status": encode_status(status)}).ok()["status"]


@pytest.fixture(scope="module")
def documented(api: Api, crd: None) -> None:
    """The API server publishes the documentation of a new CRD a moment after it serves its objects."""
    eventually(lambda: api.get(f"/openapi/v3{PROBES}").status == 200)


@pytest.mark.usefixtures("documented")
def test_explain_reads_as_documentation(kubectl: Callable[..., str]) -> None:
    """kubectl explain says what each mode is, on which port it is usual and what mail programs call it."""
    text = " ".join(kubectl("explain", "smtpprobe.spec.mode").split())
    for part in (
        "FIELD: mode <string>",
        "plain: no TLS at all",
        "usual on port 587",
        "usual on port 465",
        "SSL/TLS",
        "Example: starttls.",
    ):
        assert part in text
    assert "<string> -required-" in kubectl("explain", "smtpprobe.spec")


@pytest.mark.usefixtures("documented")
def test_every_field_of_the_spec_is_explained(kubectl: Callable[..., str]) -> None:
    """kubectl explain --recursive knows all fields, nested ones and lists as well."""
    text = kubectl("explain", "smtpprobe.spec", "--recursive")
    for field in (
        "insecureSkipVerify",
        "caRef",
        "tolerationSeconds",
        "expectedCIDRs",
        "timeZone",
        "passwordKey",
        "to\t<[]string>",
    ):
        assert field in text


def test_a_new_probe_is_not_current(api: Api, namespace: str) -> None:
    """Right after create the status says observedGeneration -1, whatever status the manifest carried; defaults are
    filled in at the first level only."""
    raw = manifest("new", tls={"caRef": {"kind": "Secret", "name": "ca"}}) | {"status": {"observedGeneration": 1}}
    made = api.post(probes(namespace), raw).ok()
    assert made["status"] == {"observedGeneration": -1}
    assert made["spec"] == raw["spec"] | {
        "allowPlaintextAuth": False,
        "language": "en",
        "mechanism": "auto",
        "suspend": False,
        "timeoutSeconds": 60,
        "tryUsernameVariants": False,
    }
    assert specs.parse(made["spec"]).spec == specs.parse(raw["spec"]).spec


def test_a_full_status_comes_back_whole(api: Api, namespace: str) -> None:
    """No field of a status is pruned or refused: what was written is what a later reader decodes."""
    api.post(probes(namespace), manifest("full")).ok()
    stored = write_status(api, namespace, "full", FULL)
    assert decode_status(stored) == FULL
    assert stored == json.loads(json.dumps(encode_status(FULL)))


def test_columns_show_the_verdict(api: Api, kubectl: Callable[..., str], namespace: str) -> None:
    """kubectl get prints the columns of the design; wide adds the others; a run in the future is no <invalid>."""
    api.post(probes(namespace), manifest("full")).ok()
    write_status(api, namespace, "full", FULL)
    header, line = kubectl("-n", namespace, "get", "smtpprobes").splitlines()
    assert header.split() == ["NAME", "READY", "REASON", "HOST", "PORT", "MODE", "EGRESS", "LAST", "AGE"]
    assert line.split()[:7] == ["full", "False", "BadCredentials", "smtp.example.com", "587", "starttls", "Authorized"]
    header, line = kubectl("-n", namespace, "get", "smtpp", "-o", "wide").splitlines()
    assert header.split()[9:] == ["AUTH", "STAGE", "CODE", "EGRESS-IP", "NEXT", "MESSAGE"]
    assert line.split()[9:] == ["False", "auth", "535", "203.0.113.7", "2027-01-01T00:00:00Z", "BadCredentials."]
    assert "<invalid>" not in line
    assert kubectl("-n", namespace, "get", "smtpprobe", "-o", "name") == "smtpprobe.smtpprobe.dev/full\n"


def test_columns_of_a_probe_without_any_run(api: Api, kubectl: Callable[..., str], namespace: str) -> None:
    """Before the first run the columns are empty, and nothing breaks."""
    api.post(probes(namespace), manifest("fresh")).ok()
    _, line = kubectl("-n", namespace, "get", "smtpprobes", "-o", "wide").splitlines()
    assert line.split()[:4] == ["fresh", "smtp.example.com", "587", "starttls"]


def test_wait_does_not_pass_on_an_old_result(api: Api, kubectl: Callable[..., str], namespace: str) -> None:
    """kubectl wait --for=condition=Ready passes on a result for this spec, and not on one for the spec before."""
    api.post(probes(namespace), manifest("waited")).ok()
    passed = Status(
        observed_generation=1, conditions=(condition(ConditionType.READY, ConditionStatus.TRUE, "Succeeded", 1),)
    )
    write_status(api, namespace, "waited", passed)
    wait = ("-n", namespace, "wait", "--for=condition=Ready", "smtpprobe/waited")
    assert "condition met" in kubectl(*wait, "--timeout=5s")
    changed = api.patch(probes(namespace, "waited"), {"spec": {"port": 2587}}).ok()
    assert changed["metadata"]["generation"] == 2
    with pytest.raises(AssertionError, match="timed out"):
        kubectl(*wait, "--timeout=1s")


def test_a_status_is_no_way_to_change_a_spec_nor_a_spec_to_change_a_status(api: Api, namespace: str) -> None:
    """Who may write one part does not write the other by it."""
    api.post(probes(namespace), manifest("parts")).ok()
    answer = api.patch(probes(namespace, "parts", "status"), {"spec": {"port": 25}, "status": {"summary": "1/1"}}).ok()
    assert (answer["spec"]["port"], answer["status"]["summary"]) == (587, "1/1")
    answer = api.patch(probes(namespace, "parts"), {"status": {"summary": "9/9"}}).ok()
    assert answer["status"]["summary"] == "1/1"


LOGIN = {"credentialsSecretRef": {"name": "a", "usernameKey": "u"}}
NUMBERS = itertools.count()
CHANGES = [
    ({"schedule": {"interval": "30m"}}, {"schedule": {"cron": "0 * * * *"}}),
    ({"schedule": {"cron": "0 * * * *", "timeZone": "Asia/Seoul"}}, {"schedule": {"once": True}}),
    ({}, {"schedule": {"cron": "0 * * * *"}}),
    (LOGIN, {}),
    (LOGIN | {"mechanism": "LOGIN"}, {}),
    (
        LOGIN | {"tls": {"minVersion": "1.3", "caRef": {"kind": "Secret", "name": "c"}}},
        {"tls": {"insecureSkipVerify": True}},
    ),
    ({"tls": {"serverName": "a.test", "minVersion": "1.2"}}, {"mode": "plain", "port": 25}),
    ({"envelope": {"from": "", "to": ["a@b.test"]}, "depth": "envelope"}, {"depth": "tls"}),
    (
        {"location": {"tolerations": [{"operator": "Exists"}], "nodeSelector": {"a": "b"}}},
        {"location": {"nodeSelector": {"c": "d"}}},
    ),
]


@pytest.mark.parametrize("change", CHANGES, ids=range(len(CHANGES)))
@pytest.mark.parametrize("side", ["false", "true"], ids=["client", "server"])
def test_a_changed_manifest_applies(
    api: Api, kubectl: Callable[..., str], tmp_path: Path, change: tuple[dict, dict], side: str
) -> None:
    """What stood in the old manifest and not in the new one is gone; no leftover default makes the new one refused."""
    file, name = tmp_path / "probe.yaml", f"changed-{next(NUMBERS)}"
    for fields in change:
        file.write_text(json.dumps(manifest(name, **fields)))
        kubectl("apply", f"--server-side={side}", "-f", str(file))
    stored = specs.parse(api.get(probes("default", name)).ok()["spec"]).spec
    api.delete(probes("default", name)).ok()
    assert stored == specs.parse(SERVER | change[1]).spec
    assert stored is not None


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_examples_apply(api: Api, namespace: str, file: Path) -> None:
    """Each document of an example is taken by the API server as it is."""
    paths = {
        "SmtpProbe": probes(namespace),
        "Secret": f"/api/v1/namespaces/{namespace}/secrets",
        "ConfigMap": f"/api/v1/namespaces/{namespace}/configmaps",
    }
    for document in yaml.safe_load_all(file.read_text(encoding="utf-8")):
        document["metadata"].pop("namespace")
        answer = api.post(paths[document["kind"]], document, fieldValidation="Strict")
        assert answer.status == 201, answer.body
        assert answer.warnings == ()
