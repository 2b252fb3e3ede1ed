"""From what the cluster shows of a run to its result: pure.

A pod that finished is read; one that does not start is explained from the pod, else from the events of its Job. What
could not run is ``Outcome.ERROR`` with a reason of the group "could not run": never a verdict on the mail server.
"""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from smtpprobe.codec import ResultUnreadable, decode_result
from smtpprobe.model import AuthFacts, ProbeResult, Verdict
from smtpprobe.resource import RunRef
from smtpprobe.status import Finished
from smtpprobe.vocabulary import Outcome, Reason
from smtpprobe_operator.jobs import CONTAINER, JOB_LABEL, LABEL_UID, read_run

ZONE_LABEL = "topology.kubernetes.io/zone"
START_DEADLINE_SECONDS = 120.0
SILENCE_SECONDS = 15.0
CHECKS_SECONDS = (20.0, 60.0, START_DEADLINE_SECONDS)

Json = dict[str, Any]

# What can pass by itself gets time to before it is the verdict.
_PATIENCE = {Reason.ADMISSION_DENIED: 20.0, Reason.RESOURCE_QUOTA_EXCEEDED: 60.0}
_NO_LOGIN = AuthFacts()
_NOT_STARTED = {"StartError", "ContainerCannotRun"}
_NEVER_PULLED = {"ErrImageNeverPull", "InvalidImageName"}
_NOT_PULLED = {
    "ErrImagePull",
    "ImagePullBackOff",
    "RegistryUnavailable",
    "ImageInspectError",
    "SignatureValidationFailed",
}
_EVICTIONS = {
    "Evicted",
    "NodeLost",
    "NodeShutdown",
    "Shutdown",
    "Terminated",
    "Preempting",
    "NodeAffinity",
    "Preempted",
}


class Sighting(msgspec.Struct, frozen=True, kw_only=True):
    """A pod of ours: whose it is, which run, of which Job, and whether it has ended."""

    uid: str
    run: RunRef
    job: str
    namespace: str
    pod: str
    created: datetime
    finished: bool
    body: Json


def sight(pod: Json) -> Sighting | None:
    """Recognise a pod of ours; None for one that does not carry the marks of a run."""
    meta = pod.get("metadata") or {}
    labels = meta.get("labels") or {}
    run = read_run(meta.get("annotations"))
    if run is None or LABEL_UID not in labels or JOB_LABEL not in labels:
        return None
    return Sighting(
        uid=labels[LABEL_UID],
        run=run,
        job=labels[JOB_LABEL],
        namespace=meta["namespace"],
        pod=meta["name"],
        created=_time(meta.get("creationTimestamp")) or datetime.now(UTC),
        finished=(pod.get("status") or {}).get("phase") in {"Succeeded", "Failed"},
        body=pod,
    )


def read_pod(sighting: Sighting, now: datetime) -> Finished:
    """Read a finished pod. A result that the pod wrote counts, however the pod ended."""
    status = sighting.body.get("status") or {}
    terminated = _state(status, "terminated")
    message = str(terminated.get("message") or "")
    started = _time(terminated.get("startedAt")) or sighting.created
    ended = _time(terminated.get("finishedAt")) or now
    try:
        if message:
            return _finished(sighting, decode_result(message.encode()))
        reason, text = _why_silent(status, terminated)
    except ResultUnreadable as error:
        reason, text = Reason.RESULT_UNREADABLE, f"the pod's termination message cannot be read: {error}"
    auth = lost_login(sighting.job) if _ran(status) else _NO_LOGIN
    return _finished(sighting, error_result(reason, text, started, ended, auth))


def _why_silent(status: Json, terminated: Json) -> tuple[Reason, str]:
    reason = str(status.get("reason") or "")
    said = str(status.get("message") or "")
    if terminated.get("reason") == "OOMKilled":
        return Reason.OUT_OF_MEMORY, "the probe's container was killed for using more memory than its limit"
    if reason == "DeadlineExceeded":
        return Reason.DEADLINE_EXCEEDED, f"the pod was ended at its deadline: {said}".rstrip(": ")
    disrupted = [c for c in status.get("conditions") or [] if c.get("type") == "DisruptionTarget"]
    if reason in _EVICTIONS or disrupted:
        said = said or " ".join(str(c.get("message", "")) for c in disrupted)
        return Reason.POD_LOST, f"the pod was taken away ({reason or 'disrupted'}): {said}".rstrip(": ")
    if not terminated:
        return Reason.POD_LOST, f"the pod ended without having run its container: {reason} {said}".rstrip(": ")
    how = f"exit code {terminated.get('exitCode')}, {terminated.get('reason') or 'no reason'}"
    return Reason.RESULT_UNREADABLE, f"the pod ended without a result ({how}); see its log"


def check_at(checks: int) -> float:
    """Return the age in seconds at which a run is asked after once more, after ``checks`` times: 20, 60, 120, 180 …"""
    if checks < len(CHECKS_SECONDS):
        return CHECKS_SECONDS[checks]
    return START_DEADLINE_SECONDS + 60.0 * (checks - len(CHECKS_SECONDS) + 1)


def explain(
    pods: Sequence[Json], events: Sequence[Json], job: Json | None, now: datetime, *, age: float, pod_deadline: float
) -> tuple[Reason, str] | None:
    """Say why a run that is ``age`` seconds old has no result and will have none; None means to wait on.

    ``pods`` and ``events`` are those of the Job, ``job`` is None where it is gone. A pod has ``pod_deadline`` seconds
    from its start.
    """
    found = _explain_pod(pods[0], now, pod_deadline) if pods else _explain_job(events, job)
    if found is None:
        return None
    reason, text, patience = found
    return (reason, text) if age >= patience else None


def _explain_pod(pod: Json, now: datetime, pod_deadline: float) -> tuple[Reason, str, float] | None:
    status = pod.get("status") or {}
    if status.get("phase") == "Running":
        return _explain_silence(pod, now, pod_deadline)
    waiting = _state(status, "waiting")
    reason, said = str(waiting.get("reason") or ""), str(waiting.get("message") or "")
    image = str(((pod.get("spec") or {}).get("containers") or [{}])[0].get("image", ""))
    if reason in _NEVER_PULLED | _NOT_PULLED:
        patience = 20.0 if reason in _NEVER_PULLED else 60.0
        return Reason.IMAGE_PULL_FAILED, f"image {image}: {reason}: {said}", patience
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return Reason.UNSCHEDULABLE, str(condition.get("message") or ""), START_DEADLINE_SECONDS
    text = f"the pod did not start within {START_DEADLINE_SECONDS:.0f} s: {reason} {said}".rstrip(": ")
    return Reason.DEADLINE_EXCEEDED, text, START_DEADLINE_SECONDS


def _explain_silence(pod: Json, now: datetime, pod_deadline: float) -> tuple[Reason, str, float] | None:
    """Find a pod past its own deadline, or past its deletion, and still running: its node no longer reports."""
    node = (pod.get("spec") or {}).get("nodeName") or "unknown"
    started = _time((pod.get("status") or {}).get("startTime"))
    deleted = _time((pod.get("metadata") or {}).get("deletionTimestamp"))
    if started and (now - started).total_seconds() > pod_deadline + SILENCE_SECONDS:
        text = f"the pod runs past its deadline of {pod_deadline:.0f} s: node {node} no longer reports"
        return Reason.POD_LOST, text, 0.0
    if deleted and (now - deleted).total_seconds() > SILENCE_SECONDS:
        return Reason.POD_LOST, f"the pod was deleted and does not end: node {node} no longer reports", 0.0
    return None


def _explain_job(events: Sequence[Json], job: Json | None) -> tuple[Reason, str, float] | None:
    refusals = [e for e in events if e.get("type") == "Warning" and e.get("reason") == "FailedCreate"]
    if refusals:
        said = str(max(refusals, key=_last_seen).get("message") or "")
        reason = refusal(said)
        return reason, said, _PATIENCE[reason]
    if job is None:
        return Reason.RESULT_LOST, "the Job is gone and left no result", 20.0
    if job_failed(job):
        return Reason.POD_LOST, gone_text(job), 0.0
    seconds = f"{START_DEADLINE_SECONDS:.0f} s"
    return Reason.DEADLINE_EXCEEDED, f"no pod was made for the Job within {seconds}", START_DEADLINE_SECONDS


def refusal(message: str) -> Reason:
    """Tell a full quota from every other refusal to make a Job or a pod."""
    return Reason.RESOURCE_QUOTA_EXCEEDED if "exceeded quota" in message else Reason.ADMISSION_DENIED


def job_failed(job: Json) -> str:
    """Return why a Job has failed or is complete, empty while it is neither."""
    for condition in (job.get("status") or {}).get("conditions") or []:
        if condition.get("type") in {"Failed", "Complete"} and condition.get("status") == "True":
            return f"{condition.get('reason') or condition['type']} {condition.get('message') or ''}".strip()
    return ""


def gone_text(job: Json) -> str:
    return f"the pod is gone and left no result; its Job says: {job_failed(job)}"


def created(job: Json, default: datetime) -> datetime:
    """Return when a Job was made."""
    return _time((job.get("metadata") or {}).get("creationTimestamp")) or default


def lost_login(job: str) -> AuthFacts:
    """Tell of a run whose container ran and whose end nobody knows: its login, if it was asked for one, was sent.

    The salt marks the run and the fingerprint is unknown; a spec without credentials makes nothing of it.
    """
    return AuthFacts(sent=True, refused=True, salt=hashlib.sha256(job.encode()).hexdigest()[:32])


def given_up(job_name: str, pods: Sequence[Json], reason: Reason) -> AuthFacts:
    """Return what is to be thought of the login of a run that ``explain`` gave up: sent, where its pod may have run."""
    gone = not pods and reason in {Reason.RESULT_LOST, Reason.POD_LOST}
    ran = any(_ran(pod.get("status") or {}) for pod in pods)
    return lost_login(job_name) if gone or ran else _NO_LOGIN


def error_result(
    reason: Reason, message: str, started: datetime, ended: datetime, auth: AuthFacts = _NO_LOGIN
) -> ProbeResult:
    """Make the result of a run that could not run or be read."""
    verdict = Verdict(reason=reason, rule="operator")
    text = " ".join(message.split())[:600]
    return ProbeResult(
        outcome=Outcome.ERROR, started_at=started, finished_at=ended, verdict=verdict, message=text, auth=auth
    )


def _finished(sighting: Sighting, result: ProbeResult) -> Finished:
    labels = (sighting.body.get("metadata") or {}).get("labels") or {}
    node = (sighting.body.get("spec") or {}).get("nodeName")
    return Finished(run=sighting.run, result=result, node=node, zone=labels.get(ZONE_LABEL), pod=sighting.pod)


def _state(status: Json, kind: str) -> Json:
    for container in status.get("containerStatuses") or []:
        if container.get("name") == CONTAINER:
            return dict((container.get("state") or {}).get(kind) or {})
    return {}


def _ran(status: Json) -> bool:
    """Whether the probe's container has started, as far as its node has told."""
    terminated = _state(status, "terminated")
    return bool(_state(status, "running")) or (bool(terminated) and terminated.get("reason") not in _NOT_STARTED)


def _last_seen(event: Json) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or "")


def _time(text: object) -> datetime | None:
    return datetime.fromisoformat(text) if isinstance(text, str) and text else None
