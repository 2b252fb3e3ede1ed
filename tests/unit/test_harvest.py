"""From pods, events and Jobs to results."""

from datetime import UTC, datetime, timedelta

import pytest

from smtpprobe.codec import encode_result
from smtpprobe.model import ProbeResult, Verdict
from smtpprobe.resource import RunRef
from smtpprobe.vocabulary import Outcome, Reason
from smtpprobe_operator import harvest
from smtpprobe_operator.jobs import ANNOTATION_RUN, JOB_LABEL, LABEL_UID

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
RUN = RunRef(trigger="slot:1", generation=1)


def pod(status, **meta):
    metadata = {
        "name": "smtpprobe-x-abcde",
        "namespace": "shop",
        "creationTimestamp": "2026-03-01T11:59:00Z",
        "labels": {LABEL_UID: "u1", JOB_LABEL: "smtpprobe-x", "topology.kubernetes.io/zone": "zone-a"},
        "annotations": {ANNOTATION_RUN: '{"trigger":"slot:1","generation":1}'},
        **meta,
    }
    spec = {"nodeName": "node-a", "containers": [{"name": "probe", "image": "img:1"}]}
    return {"metadata": metadata, "spec": spec, "status": status}


def container(**state):
    return {"containerStatuses": [{"name": "sidecar", "state": {}}, {"name": "probe", "state": state}]}


def read(status):
    sighting = harvest.sight(pod(status))
    assert sighting
    return harvest.read_pod(sighting, NOW)


def result(reason=None):
    verdict = Verdict(reason=reason) if reason else None
    outcome = Outcome.FAILED if reason else Outcome.PASSED
    return ProbeResult(outcome=outcome, started_at=NOW, finished_at=NOW, verdict=verdict)


def test_result_is_read_with_its_place():
    """A finished pod gives the result it wrote, with its run, node, zone and name."""
    wrote = result(Reason.RELAY_DENIED)
    ended = {"exitCode": 0, "reason": "Completed", "message": encode_result(wrote).decode()}
    found = read({"phase": "Succeeded", **container(terminated=ended)})
    assert found.result == wrote
    assert (found.run, found.node, found.zone, found.pod) == (RUN, "node-a", "zone-a", "smtpprobe-x-abcde")


@pytest.mark.parametrize(
    ("more", "exit_code"), [({"reason": "DeadlineExceeded"}, 137), ({"reason": "Evicted"}, 143), ({}, 1)]
)
def test_nothing_stands_over_a_result(more, exit_code):
    """A pod that wrote its result before it was ended tells that result, however it ended."""
    ended = {"exitCode": exit_code, "reason": "Error", "message": encode_result(result()).decode()}
    assert read({"phase": "Failed", **more, **container(terminated=ended)}).result == result()


SILENT = [
    (container(terminated={"exitCode": 137, "reason": "OOMKilled"}), Reason.OUT_OF_MEMORY),
    ({"reason": "DeadlineExceeded", **container(terminated={"exitCode": 137})}, Reason.DEADLINE_EXCEEDED),
    ({"reason": "Evicted", "message": "The node was low on resource: memory."}, Reason.POD_LOST),
    ({"reason": "NodeShutdown"}, Reason.POD_LOST),
    ({"conditions": [{"type": "DisruptionTarget", "message": "Taint manager: deleting"}]}, Reason.POD_LOST),
    ({}, Reason.POD_LOST),
    (container(terminated={"exitCode": 1, "reason": "Error"}), Reason.RESULT_UNREADABLE),
    (container(terminated={"exitCode": 0, "reason": "Completed", "message": "{"}), Reason.RESULT_UNREADABLE),
    (container(terminated={"exitCode": 0, "reason": "Completed", "message": "[1]"}), Reason.RESULT_UNREADABLE),
]


@pytest.mark.parametrize(("status", "reason"), SILENT)
def test_pod_without_result_is_an_error(status, reason):
    """A pod that left nothing readable is outcome Error with the cause, and never a verdict on the mail server."""
    found = read({"phase": "Failed", **status}).result
    assert found.outcome is Outcome.ERROR
    assert found.verdict
    assert found.verdict.reason is reason
    assert found.message
    assert found.stages == ()


RAN = {"startedAt": "2026-03-01T11:59:10Z", "finishedAt": "2026-03-01T11:59:30Z", "exitCode": 137}


@pytest.mark.parametrize(
    ("status", "sent"),
    [
        (container(terminated={**RAN, "reason": "OOMKilled"}), True),
        (container(terminated={**RAN, "reason": "Error", "message": "{"}), True),
        ({"reason": "Evicted", **container(terminated={**RAN, "reason": "Error"})}, True),
        ({"reason": "NodeLost", **container(running={"startedAt": "2026-03-01T11:59:10Z"})}, True),
        ({"reason": "Evicted"}, False),
        ({"reason": "NodeShutdown", **container(waiting={"reason": "ContainerCreating"})}, False),
        (container(terminated={**RAN, "reason": "StartError"}), False),
    ],
)
def test_a_container_that_ran_may_have_logged_in(status, sent):
    """A pod that started its container and left no result counts as a login that was sent, each with a mark of its own."""
    found = read({"phase": "Failed", **status}).result.auth
    assert (found.sent, found.refused, found.fingerprint) == (sent, sent, None)
    assert (found.salt is not None) is sent
    assert harvest.lost_login("smtpprobe-x").salt != harvest.lost_login("smtpprobe-y").salt


def test_a_run_that_was_given_up_counts_where_it_may_have_run():
    """A node that went silent and a pod or Job that is gone may have logged in; a pod that never started did not."""
    running = pod({"phase": "Running", **container(running={"startedAt": "2026-03-01T11:59:10Z"})})
    waits = pod({"phase": "Pending", **container(waiting={"reason": "ErrImagePull"})})
    assert harvest.given_up("job", [running], Reason.POD_LOST).sent
    assert harvest.given_up("job", [], Reason.RESULT_LOST).sent
    assert harvest.given_up("job", [], Reason.POD_LOST).sent
    for pods, reason in (
        ([waits], Reason.IMAGE_PULL_FAILED),
        ([], Reason.ADMISSION_DENIED),
        ([], Reason.DEADLINE_EXCEEDED),
    ):
        assert not harvest.given_up("job", pods, reason).sent


def test_pods_of_others_are_not_ours():
    """A pod without our labels or with an unreadable run is nobody's."""
    assert harvest.sight(pod({}, labels={})) is None
    assert harvest.sight(pod({}, annotations={ANNOTATION_RUN: "?"})) is None
    assert harvest.sight({}) is None


def waiting(reason):
    return pod({"phase": "Pending", **container(waiting={"reason": reason, "message": "said"})})


UNSCHEDULED = pod(
    {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "message": "0/2 nodes match"}]}
)
# pod, age from which it is the verdict
PENDING = [
    (waiting("ErrImageNeverPull"), Reason.IMAGE_PULL_FAILED, 20),
    (waiting("InvalidImageName"), Reason.IMAGE_PULL_FAILED, 20),
    (waiting("ImagePullBackOff"), Reason.IMAGE_PULL_FAILED, 60),
    (UNSCHEDULED, Reason.UNSCHEDULABLE, 120),
    (waiting("ContainerCreating"), Reason.DEADLINE_EXCEEDED, 120),
]


@pytest.mark.parametrize(("body", "reason", "age"), PENDING)
def test_pod_that_does_not_start(body, reason, age):
    """What keeps a pod from starting is named, not before it had its time."""
    early = harvest.explain([body], [], {}, NOW, age=age - 1.0, pod_deadline=90)
    assert early is None
    found = harvest.explain([body], [], {}, NOW, age=age, pod_deadline=90)
    assert found
    assert found[0] is reason


def event(message, at="2026-03-01T11:59:30Z"):
    return {"type": "Warning", "reason": "FailedCreate", "message": message, "lastTimestamp": at}


QUOTA = 'pods "x" is forbidden: exceeded quota: small, requested: pods=1, used: pods=1, limited: pods=1'
PSA = 'pods "x" is forbidden: violates PodSecurity "restricted:latest"'


@pytest.mark.parametrize(
    ("events", "job", "reason", "age"),
    [
        ([event(QUOTA)], {}, Reason.RESOURCE_QUOTA_EXCEEDED, 60),
        ([event(PSA)], {}, Reason.ADMISSION_DENIED, 20),
        ([event(QUOTA, "2026-03-01T11:59:10Z"), event(PSA)], {}, Reason.ADMISSION_DENIED, 20),
        ([], None, Reason.RESULT_LOST, 20),
        ([], {"status": {"conditions": [{"type": "Failed", "status": "True"}]}}, Reason.POD_LOST, 0),
        ([], {}, Reason.DEADLINE_EXCEEDED, 120),
    ],
)
def test_job_without_pod(events, job, reason, age):
    """A Job that has no pod is explained by the newest refusal in its events, else by its own state."""
    if age:
        assert harvest.explain([], events, job, NOW, age=age - 1.0, pod_deadline=90) is None
    found = harvest.explain([], events, job, NOW, age=age, pod_deadline=90)
    assert found
    assert found[0] is reason


def test_running_pod_is_left_alone_until_its_deadline_has_passed():
    """A running pod is waited for; past its own deadline, or past its deletion, its node has gone."""

    def running(started, **meta):
        started_at = (NOW - timedelta(seconds=started)).isoformat()
        return [pod({"phase": "Running", "startTime": started_at}, **meta)]

    assert harvest.explain(running(100), [], {}, NOW, age=100, pod_deadline=90) is None
    lost = harvest.explain(running(106), [], {}, NOW, age=106, pod_deadline=90)
    assert lost
    assert lost[0] is Reason.POD_LOST
    assert "node-a" in lost[1]
    deleted = (NOW - timedelta(seconds=16)).isoformat()
    lost = harvest.explain(running(30, deletionTimestamp=deleted), [], {}, NOW, age=30, pod_deadline=90)
    assert lost
    assert lost[0] is Reason.POD_LOST


def test_checks_go_on_for_ever():
    """A run is asked after at 20, 60 and 120 s and then each minute."""
    assert [harvest.check_at(n) for n in range(6)] == [20, 60, 120, 180, 240, 300]
