"""Faults of a cluster that keep a probe from running: each with its cause, its cure and what the status must say."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cluster_facts import Facts, Node
from hands import ctr, node_of
from k8s import MERGE_PATCH, Api, eventually
from shop import Shop

POLICIES = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"
BINDINGS = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings"
MUTATIONS = "/apis/admissionregistration.k8s.io/v1/mutatingadmissionpolicies"
MUTATION_BINDINGS = "/apis/admissionregistration.k8s.io/v1/mutatingadmissionpolicybindings"
# What injectors of service meshes do to a pod: one more init container, whose makers did not think of Pod Security.
INJECTED = """Object{spec: Object.spec{initContainers: [
  Object.spec.initContainers{name: "mesh-init", image: "localhost/mesh-init:none"}]}}"""
RESTRICTED = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
ENVELOPE = {"from": "app@corp.test", "to": ["postmaster@outside.test"]}
POOL = "smtpprobe-test/pool"
NAME = "mail"
# A run is tried again 30 s after its first Error; the rest is a session, and a busy machine.
RECOVERY_SECONDS = 75.0

Act = Callable[[Shop], None]


@dataclass(frozen=True)
class Fault:
    """`within` seconds after the cause the status has `reason`; `says` is in its message.

    `twice`: a second run is asked for, which fails the same way. `running`: the cause comes when a pod runs.
    """

    reason: str
    within: float
    says: str
    apply: Act
    cause: Act
    cure: Act
    ready: str = "Unknown"
    twice: bool = True
    running: bool = False


@dataclass
class Story:
    """What was seen: statuses before, with the fault and after it, events, seconds to the verdict."""

    before: dict[str, Any] = field(default_factory=dict)
    ill: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0


def live(api: Api, facts: Facts, namespace: str, fault: Fault) -> Story:
    """Let a probe pass (or be refused), cause the fault, wait for the Error, cure it, wait until the probe is back."""
    shop, story = Shop(api, facts, namespace), Story()
    fault.apply(shop)
    story.before = shop.judged(NAME)
    try:
        if not fault.running:
            fault.cause(shop)
        began = time.monotonic()
        shop.ask(NAME, "ill")
        if fault.running:
            eventually(lambda: running(shop), within=60, pause=0.3)
            fault.cause(shop)
        story.ill = eventually(lambda: ended(shop, "now:ill", "Error"), within=fault.within + 60, pause=0.5)
        story.seconds = time.monotonic() - began
        trigger = "now:ill"
        if fault.twice:
            shop.ask(NAME, "again")
            trigger = "now:again"
            eventually(lambda: ended(shop, trigger, "Error"), within=fault.within + 60, pause=0.5)
    finally:
        fault.cure(shop)
    story.after = eventually(lambda: ended(shop, trigger, "Passed", "Failed"), within=RECOVERY_SECONDS, pause=0.5)
    story.events = eventually(lambda: resumed(shop), within=15, pause=0.5)
    return story


def ended(shop: Shop, trigger: str, *outcomes: str) -> dict[str, Any] | None:
    """The status, once its last run has this trigger and one of these outcomes."""
    status: dict[str, Any] = shop.get(NAME)["status"]
    last = status["lastRun"]
    return status if last["trigger"] == trigger and last["outcome"] in outcomes else None


def resumed(shop: Shop) -> list[dict[str, Any]]:
    """The probe's events, once the last of the story is there."""
    events = shop.events(NAME)
    return events if any(event["reason"] == "ProbeResumed" for event in events) else []


def running(shop: Shop) -> bool:
    """Whether a pod of the namespace runs."""
    pods = shop.api.get(f"/api/v1/namespaces/{shop.namespace}/pods").ok()["items"]
    return any(pod["status"]["phase"] == "Running" for pod in pods)


# ------------------------------------------------------------------------------------------------------------ probes


def on_node(name: str) -> dict[str, Any]:
    """The location that is one node."""
    return {"nodeSelector": {"kubernetes.io/hostname": name}}


def relaying(shop: Shop) -> None:
    """A probe that passes without a login."""
    shop.probe(NAME, "relay", "plain", envelope=ENVELOPE, location=on_node("node-a"))


def logging_in(user: str) -> Act:
    """A probe that passes with a user's login, whose Secret is `login`."""

    def apply(shop: Shop) -> None:
        with_secret(user)(shop)
        login = {"name": "login"}
        shop.probe(NAME, "submission", "starttls", credentialsSecretRef=login, location=on_node("node-a"))

    return apply


def with_secret(user: str) -> Act:
    """Create the Secret `login`."""

    def apply(shop: Shop) -> None:
        assert shop.facts.mail
        shop.secret("login", user, shop.facts.mail.users[user])

    return apply


# ------------------------------------------------------------------------------------------------- causes and cures


def path(shop: Shop, kind: str, name: str = "") -> str:
    """The path of a core object in the shop's namespace."""
    return f"/api/v1/namespaces/{shop.namespace}/{kind}/{name}".rstrip("/")


def deleted(kind: str, name: str) -> Act:
    """Delete an object."""
    return lambda shop: _ignore(shop.api.delete(path(shop, kind, name)).ok())


def without_password(shop: Shop) -> None:
    """Leave the Secret without the key that the probe reads, as after a typing error."""
    shop.api.patch(path(shop, "secrets", "login"), {"data": {"password": None, "passwd": "eA=="}}).ok()


def pool(node: str, name: str | None) -> Act:
    """Say of a node that it belongs to a pool, or to none."""
    return lambda shop: _ignore(
        shop.api.patch(f"/api/v1/nodes/{node}", {"metadata": {"labels": {POOL: name}}}, MERGE_PATCH).ok()
    )


def in_pool(shop: Shop) -> None:
    """A probe for the nodes of a pool, to which node A belongs."""
    pool("node-a", "mail")(shop)
    shop.probe(NAME, "relay", "plain", location={"nodeSelector": {POOL: "mail"}})


def quota(**hard: str) -> Act:
    """Allow the namespace so much and no more; the quota counts once the controller has seen it."""

    def apply(shop: Shop) -> None:
        body = {"metadata": {"name": "tight"}, "spec": {"hard": hard}}
        shop.api.post(path(shop, "resourcequotas"), body).ok()
        eventually(lambda: shop.api.get(path(shop, "resourcequotas", "tight")).ok()["status"].get("hard"), pause=0.3)

    return apply


def small_containers(shop: Shop) -> None:
    """Allow no container as much memory as a probe asks for."""
    limits = [{"type": "Container", "max": {"memory": "32Mi"}}]
    shop.api.post(path(shop, "limitranges"), {"metadata": {"name": "small"}, "spec": {"limits": limits}}).ok()


def relaying_restricted(shop: Shop) -> None:
    """A probe that passes where Pod Security enforces the standard "restricted"."""
    shop.api.patch(f"/api/v1/namespaces/{shop.namespace}", {"metadata": {"labels": RESTRICTED}}).ok()
    relaying(shop)


def no_pods(shop: Shop) -> None:
    """Let an admission policy refuse every pod of the namespace, and wait until it does."""
    name = f"no-pods.{shop.namespace}"
    here = {"matchLabels": {"kubernetes.io/metadata.name": shop.namespace}}
    pods = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    rule = {"expression": "false", "message": "no pods here, says the policy"}
    policy = {"matchConstraints": {"resourceRules": [pods]}, "validations": [rule]}
    binding = {"policyName": name, "validationActions": ["Deny"], "matchResources": {"namespaceSelector": here}}
    shop.api.post(POLICIES, {"metadata": {"name": name}, "spec": policy}).ok()
    shop.api.post(BINDINGS, {"metadata": {"name": name}, "spec": binding}).ok()
    eventually(lambda: "says the policy" in str(_tried(shop).body), within=30, pause=0.3)


def pods_again(shop: Shop) -> None:
    """Take the policy away."""
    name = f"no-pods.{shop.namespace}"
    for kind in (BINDINGS, POLICIES):
        shop.api.delete(f"{kind}/{name}").ok()


def injected(shop: Shop) -> None:
    """Let a mutating policy add a container to every pod of the namespace, as a mesh does, until Pod Security refuses it."""
    name = f"injector.{shop.namespace}"
    here = {"matchLabels": {"kubernetes.io/metadata.name": shop.namespace}}
    pods = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    mutation = {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": INJECTED}}
    policy = {
        "matchConstraints": {"resourceRules": [pods]},
        "mutations": [mutation],
        "reinvocationPolicy": "Never",
        "failurePolicy": "Fail",
    }
    shop.api.post(MUTATIONS, {"metadata": {"name": name}, "spec": policy}).ok()
    binding = {"policyName": name, "matchResources": {"namespaceSelector": here}}
    shop.api.post(MUTATION_BINDINGS, {"metadata": {"name": name}, "spec": binding}).ok()
    eventually(lambda: "violates PodSecurity" in str(_tried(shop).body), within=30, pause=0.3)


def not_injected(shop: Shop) -> None:
    """Take the mutating policy away."""
    for kind in (MUTATION_BINDINGS, MUTATIONS):
        shop.api.delete(f"{kind}/injector.{shop.namespace}").ok()


def _tried(shop: Shop) -> Any:
    """The answer to a pod that is not made."""
    forbidden = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    container = {"name": "none", "image": "localhost/none:none", "securityContext": forbidden}
    safe = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    spec = {"containers": [container], "securityContext": safe}
    return shop.api.post(path(shop, "pods"), {"metadata": {"name": "none"}, "spec": spec}, dryRun="All")


def image(*, there: bool) -> Act:
    """Take the probe's image from node B, or give it back."""

    def act(shop: Shop) -> None:
        node, name = node_of(shop.facts, "node-b"), shop.facts.images["probe"]
        if there:
            ctr(node, "images", "tag", f"{name}-kept", name)
        else:
            ctr(node, "images", "tag", "--force", name, f"{name}-kept")
            ctr(node, "images", "rm", "--sync", name)

    return act


def on_node_b(shop: Shop) -> None:
    """A probe on node B."""
    shop.probe(NAME, "exim", "plain", location=on_node("node-b"))


def silent_on_node_b(shop: Shop) -> None:
    """A probe on node B whose sessions last as long as they may: the server says nothing."""
    shop.probe(NAME, "silent", "plain", location=on_node("node-b"), timeoutSeconds=10)


def kubelet(number: signal.Signals) -> Act:
    """Stop node B's kubelet, or let it go on: the node is gone for everybody else, and comes back."""
    return lambda shop: os.kill(_kubelet(node_of(shop.facts, "node-b")), number)


def _kubelet(node: Node) -> int:
    return node.pids["kubelet"]


def _ignore(_: object) -> None:
    return None
