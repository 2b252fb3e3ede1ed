"""The Job of a run, whole, against golden files; write them anew with: python tests/unit/test_jobs.py"""

from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
import yaml

from smtpprobe.model import RefusedLogin
from smtpprobe.resource import RunRef
from smtpprobe.spec import parse, to_request
from smtpprobe.vocabulary import Reason
from smtpprobe_operator import jobs
from smtpprobe_operator.registry import Probe, from_body
from smtpprobe_operator.settings import Settings

GOLDEN = Path(__file__).parent / "golden"
RUN = RunRef(trigger="slot:1767261600", generation=3, spec_digest="0123456789abcdef")
UID = "6f1d7e0e-4b8f-4d52-9f4c-0c8f4f1f5f11"

SPECS = {
    "plain": {"host": "smtp.example.com", "port": 25, "mode": "plain"},
    "credentials": {
        "host": "smtp.example.com",
        "port": 587,
        "mode": "starttls",
        "credentialsSecretRef": {"name": "order-mail-smtp", "passwordKey": "smtp-password"},
        "envelope": {"from": "noreply@shop.example.com", "to": ["postmaster@shop.example.com"]},
        "heloName": "shop.example.com",
    },
    "location": {
        "host": "smtp.example.com",
        "port": 465,
        "mode": "smtps",
        "timeoutSeconds": 20,
        "location": {
            "nodeSelector": {"topology.kubernetes.io/zone": "zone-a"},
            "tolerations": [{"key": "mail", "operator": "Exists", "effect": "NoSchedule"}],
            "serviceAccountName": "shop",
        },
    },
}
SETTINGS = {
    "plain": Settings(probe_image="example.invalid/smtpprobe-probe:1"),
    "credentials": Settings(probe_image="example.invalid/smtpprobe-probe:1", probe_image_pull_secrets=("pull",)),
    "location": Settings(
        probe_image="example.invalid/smtpprobe-probe:1",
        probe_image_pull_policy="Never",
        probe_pod_labels={"team": "mail", jobs.LABEL_UID: "stolen"},
        probe_pod_annotations={},
        ttl_seconds=600,
        probe_memory_limit="128Mi",
    ),
}


def probe(name: str, spec: object) -> Probe:
    return from_body(
        {
            "metadata": {
                "uid": UID,
                "namespace": "shop",
                "name": name,
                "generation": 3,
                "resourceVersion": "7",
                "creationTimestamp": "2026-01-01T10:00:00Z",
            },
            "spec": spec,
        }
    )


def build(name: str) -> dict[str, object]:
    me = probe("order-mail", SPECS[name])
    assert me.spec, me.problems
    refused = None
    if name == "credentials":
        since = datetime(2026, 1, 1, 9, tzinfo=UTC)
        refused = RefusedLogin(salt="00" * 16, fingerprint="beef", reason=Reason.BAD_CREDENTIALS, since=since)
    request = to_request(
        me.spec,
        default_helo=None,
        credentials_dir=jobs.CREDENTIALS_DIR if me.spec.credentials_secret_ref else None,
        ca_file=jobs.ca_file(me.spec),
        refused=refused,
    )
    return jobs.build_job(me, me.spec, RUN, request, SETTINGS[name])


@pytest.mark.parametrize("name", sorted(SPECS))
def test_job_is_the_golden_file(name):
    """Every field of a run's Job is the one in its golden file."""
    assert build(name) == yaml.safe_load((GOLDEN / f"job-{name}.yaml").read_text())


@pytest.mark.parametrize("name", sorted(SPECS))
def test_our_labels_cannot_be_taken_over(name):
    """Labels from the settings never replace the ones by which a pod is recognised."""
    job = build(name)
    labels = job["spec"]["template"]["metadata"]["labels"]
    assert labels[jobs.LABEL_UID] == UID
    assert labels == {**SETTINGS[name].probe_pod_labels, **job["metadata"]["labels"]}


def test_same_run_same_name():
    """A run has one Job name whatever the spec's digest, and each part of its identity changes it."""
    name = jobs.job_name(UID, RUN)
    assert name == jobs.job_name(UID, msgspec.structs.replace(RUN, spec_digest="f" * 16))
    others = [
        jobs.job_name("other", RUN),
        *(
            jobs.job_name(UID, msgspec.structs.replace(RUN, **change))
            for change in ({"trigger": "now:1"}, {"generation": 4}, {"attempt": 1}, {"target": "zone-b"})
        ),
    ]
    assert len({name, *others}) == 6
    assert len(name) <= 52


def test_parts_of_an_identity_do_not_run_together():
    """Two runs whose parts are the same letters differently cut have different names."""
    one = RunRef(trigger="now:1", generation=1, target="2")
    two = RunRef(trigger="now:12", generation=1, target="")
    assert jobs.job_name(UID, one) != jobs.job_name(UID, two)


def test_label_of_a_long_name_is_valid():
    """A probe's name of 253 characters makes a label of at most 63 that ends in a letter or digit."""
    long = "a" * 62 + "." + "b" * 190
    me = probe(long, SPECS["plain"])
    assert me.spec
    request = to_request(me.spec, default_helo=None, credentials_dir=None, ca_file=None, refused=None)
    label = jobs.build_job(me, me.spec, RUN, request, SETTINGS["plain"])["metadata"]["labels"][jobs.LABEL_PROBE]
    assert label == "a" * 62


def test_run_is_read_back():
    """The run in a Job's annotation is the run that was asked for, and nonsense there is nobody's run."""
    assert jobs.read_run(build("plain")["metadata"]["annotations"]) == RUN
    assert jobs.read_run({jobs.ANNOTATION_RUN: "{"}) is None
    assert jobs.read_run(None) is None


def test_ca_comes_from_either_kind():
    """A CA from a ConfigMap or a Secret is mounted whole and optional, and the request names its file."""
    for kind, source in (("ConfigMap", "configMap"), ("Secret", "secret")):
        spec = {**SPECS["credentials"], "tls": {"caRef": {"kind": kind, "name": "corp-ca", "key": "corp.pem"}}}
        parsed = parse(spec)
        if parsed.spec is None:
            pytest.fail(str(parsed.problems))
        me = probe("p", spec)
        assert me.spec
        file = jobs.ca_file(me.spec)
        request = to_request(
            me.spec, default_helo=None, credentials_dir=jobs.CREDENTIALS_DIR, ca_file=file, refused=None
        )
        pod = jobs.build_job(me, me.spec, RUN, request, SETTINGS["plain"])["spec"]["template"]["spec"]
        ca = [volume for volume in pod["volumes"] if volume["name"] == "ca"][0]
        assert ca[source]["optional"] is True
        assert "items" not in ca[source]
        assert file == "/etc/smtpprobe/ca/corp.pem"


def test_dollars_in_addresses_reach_the_pod():
    """A dollar in an address is doubled, because the kubelet halves it again."""
    spec = {"host": "h.example.com", "port": 25, "mode": "plain", "envelope": {"from": "a$$b@example.com", "to": []}}
    me = probe("p", spec)
    assert me.spec, me.problems
    request = to_request(me.spec, default_helo=None, credentials_dir=None, ca_file=None, refused=None)
    pod = jobs.build_job(me, me.spec, RUN, request, SETTINGS["plain"])["spec"]["template"]["spec"]
    assert "a$$$$b@example.com" in pod["containers"][0]["env"][0]["value"]


if __name__ == "__main__":
    for case in SPECS:
        (GOLDEN / f"job-{case}.yaml").write_text(yaml.safe_dump(build(case), sort_keys=False, width=120))
