"""One run as a Job: pure, so that golden files can show every field.

The Job's name is made of what is to be run, so that asking twice, before or after a crash, makes one Job.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from smtpprobe import settling
from smtpprobe.codec import encode_request
from smtpprobe.model import ProbeRequest
from smtpprobe.resource import GROUP, VERSION, RunRef, Spec
from smtpprobe_operator.registry import Probe
from smtpprobe_operator.settings import Settings

APP = "smtpprobe-probe"
MANAGED_BY = "smtpprobe-operator"
LABEL_UID = "smtpprobe.dev/probe-uid"
LABEL_PROBE = "smtpprobe.dev/probe"
ANNOTATION_RUN = "smtpprobe.dev/run"
SELECTOR = f"app.kubernetes.io/managed-by={MANAGED_BY},app.kubernetes.io/name={APP}"
JOB_LABEL = "batch.kubernetes.io/job-name"
CONTAINER = "probe"
CREDENTIALS_DIR = "/etc/smtpprobe/credentials"
CA_DIR = "/etc/smtpprobe/ca"
NEVER_READY = "smtpprobe.dev/never-ready"

JOB_DEADLINE_SECONDS = 300
POD_MARGIN_SECONDS = 30

Json = dict[str, Any]


def job_name(uid: str, run: RunRef) -> str:
    """Name the Job of a run: the same run of the same probe always has the same name."""
    identity = "\0".join((uid, str(run.generation), run.trigger, run.target, str(run.attempt)))
    return f"smtpprobe-{hashlib.blake2s(identity.encode(), digest_size=10).hexdigest()}"


def ca_file(spec: Spec) -> str | None:
    """Return where the pod finds the CA certificates that ``spec.tls.caRef`` names."""
    return f"{CA_DIR}/{spec.tls.ca_ref.key}" if spec.tls.ca_ref else None


def build_job(probe: Probe, spec: Spec, run: RunRef, request: ProbeRequest, settings: Settings) -> Json:
    """Build the Job of one run. It carries references to secrets, never their contents."""
    labels = {
        "app.kubernetes.io/name": APP,
        "app.kubernetes.io/managed-by": MANAGED_BY,
        LABEL_UID: probe.uid,
        LABEL_PROBE: probe.name[:63].rstrip("-."),
    }
    annotations = {ANNOTATION_RUN: msgspec.json.encode(run).decode()}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": job_name(probe.uid, run),
            "namespace": probe.namespace,
            "labels": labels,
            "annotations": annotations,
            "ownerReferences": [
                {
                    "apiVersion": f"{GROUP}/{VERSION}",
                    "kind": "SmtpProbe",
                    "name": probe.name,
                    "uid": probe.uid,
                    "controller": True,
                    "blockOwnerDeletion": False,
                }
            ],
        },
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": JOB_DEADLINE_SECONDS,
            "ttlSecondsAfterFinished": settings.ttl_seconds,
            "template": {
                "metadata": {
                    "labels": {**settings.probe_pod_labels, **labels},
                    "annotations": {**settings.probe_pod_annotations, **annotations},
                },
                "spec": _pod_spec(spec, request, settings),
            },
        },
    }


def _pod_spec(spec: Spec, request: ProbeRequest, settings: Settings) -> Json:
    volumes = _volumes(spec)
    location = spec.location
    pod: Json = {
        "restartPolicy": "Never",
        "activeDeadlineSeconds": spec.timeout_seconds + POD_MARGIN_SECONDS,
        "terminationGracePeriodSeconds": 5,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        # Nobody ever sets it: the pod never becomes an endpoint of a Service whose selector happens to match.
        "readinessGates": [{"conditionType": NEVER_READY}],
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [_container(request, settings, volumes)],
    }
    if volumes:
        pod["volumes"] = [volume for volume, _ in volumes]
    if location.node_selector:
        pod["nodeSelector"] = dict(location.node_selector)
    if location.tolerations:
        pod["tolerations"] = [msgspec.to_builtins(toleration) for toleration in location.tolerations]
    if location.service_account_name:
        pod["serviceAccountName"] = location.service_account_name
    if settings.probe_image_pull_secrets:
        pod["imagePullSecrets"] = [{"name": name} for name in settings.probe_image_pull_secrets]
    return pod


def _container(request: ProbeRequest, settings: Settings, volumes: list[tuple[Json, str]]) -> Json:
    request = msgspec.structs.replace(request, settling_seconds=settling.SECONDS)  # each run has a pod of its own
    container: Json = {
        "name": CONTAINER,
        "image": settings.probe_image,
        "imagePullPolicy": settings.probe_image_pull_policy,
        "command": ["python", "-m", "smtpprobe.pod"],
        "env": [{"name": "SMTPPROBE_REQUEST", "value": _literal(encode_request(request).decode())}],
        "resources": {
            "requests": {"cpu": settings.probe_cpu_request, "memory": settings.probe_memory_request},
            "limits": {"memory": settings.probe_memory_limit},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
    }
    if volumes:
        container["volumeMounts"] = [
            {"name": volume["name"], "mountPath": path, "readOnly": True} for volume, path in volumes
        ]
    return container


def _literal(text: str) -> str:
    """Keep the kubelet from reading ``$(NAME)`` and ``$$`` in a value, as in the address ``a$$b@example.com``."""
    return text.replace("$", "$$")


def _volumes(spec: Spec) -> list[tuple[Json, str]]:
    """Return volumes with their mount paths: optional and whole, so that the pod starts and itself says what it saw."""
    volumes: list[tuple[Json, str]] = []
    if spec.credentials_secret_ref:
        secret = {"secretName": spec.credentials_secret_ref.name, "optional": True}
        volumes.append(({"name": "credentials", "secret": secret}, CREDENTIALS_DIR))
    if spec.tls.ca_ref:
        name = spec.tls.ca_ref.name
        source: Json = {"configMap": {"name": name, "optional": True}}
        if spec.tls.ca_ref.kind == "Secret":
            source = {"secret": {"secretName": name, "optional": True}}
        volumes.append(({"name": "ca", **source}, CA_DIR))
    return volumes


def read_run(annotations: Mapping[str, str] | None) -> RunRef | None:
    """Read which run a Job or pod of ours is; None where it does not say."""
    try:
        return msgspec.json.decode((annotations or {}).get(ANNOTATION_RUN, ""), type=RunRef)
    except msgspec.DecodeError:
        return None
