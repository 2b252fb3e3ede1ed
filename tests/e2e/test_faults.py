"""What keeps a probe from running is an Error with its reason, never a verdict on mail, and passes with its cause."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import faults
import pytest
from cluster_facts import Facts
from conftest import condition
from faults import Fault, Story
from k8s import Api
from shop import Shop

# `within`: when the design looks after a run (20 s, 60 s, 120 s after its start), and a busy machine's margin.
FAULTS = {
    "secret-missing": Fault(
        reason="SecretNotFound",
        within=20,
        says="login",
        ready="False",
        apply=faults.logging_in("user11@corp.test"),
        cause=faults.deleted("secrets", "login"),
        cure=faults.with_secret("user11@corp.test"),
    ),
    "key-missing": Fault(
        reason="SecretKeyMissing",
        within=20,
        says="passwd",
        ready="False",
        apply=faults.logging_in("user12@corp.test"),
        cause=faults.without_password,
        cure=faults.with_secret("user12@corp.test"),
    ),
    "image-missing": Fault(
        reason="ImagePullFailed",
        within=35,
        says="ErrImageNeverPull",
        twice=False,
        apply=faults.on_node_b,
        cause=faults.image(there=False),
        cure=faults.image(there=True),
    ),
    "selector-matches-nothing": Fault(
        reason="Unschedulable",
        within=140,
        says="didn't match Pod's node affinity/selector",
        twice=False,
        apply=faults.in_pool,
        cause=faults.pool("node-a", None),
        cure=faults.pool("node-a", "mail"),
    ),
    "quota-of-pods": Fault(
        reason="ResourceQuotaExceeded",
        within=75,
        says="exceeded quota: tight",
        twice=False,
        apply=faults.relaying,
        cause=faults.quota(pods="0"),
        cure=faults.deleted("resourcequotas", "tight"),
    ),
    "quota-of-jobs": Fault(
        reason="ResourceQuotaExceeded",
        within=20,
        says="exceeded quota: tight",
        apply=faults.relaying,
        cause=faults.quota(**{"count/jobs.batch": "0"}),
        cure=faults.deleted("resourcequotas", "tight"),
    ),
    "limit-range": Fault(
        reason="AdmissionDenied",
        within=35,
        says="maximum memory usage per Container is 32Mi",
        apply=faults.relaying,
        cause=faults.small_containers,
        cure=faults.deleted("limitranges", "small"),
    ),
    "admission-refused": Fault(
        reason="AdmissionDenied",
        within=35,
        says="no pods here, says the policy",
        apply=faults.relaying_restricted,
        cause=faults.no_pods,
        cure=faults.pods_again,
    ),
    "pod-security": Fault(
        reason="AdmissionDenied",
        within=35,
        says='violates PodSecurity "restricted:latest"',
        apply=faults.relaying_restricted,
        cause=faults.injected,
        cure=faults.not_injected,
    ),
}
NODE_GONE = Fault(
    reason="PodLost",
    within=140,
    says="node node-b no longer reports",
    twice=False,
    running=True,
    apply=faults.silent_on_node_b,
    cause=faults.kubelet(signal.SIGSTOP),
    cure=faults.kubelet(signal.SIGCONT),
)
STORIES = [*FAULTS, "node-gone"]
MAIL = ("Accepted", "Reachable", "Secure", "Authenticated", "EnvelopeAccepted", "EgressAuthorized")
Stories = dict[str, Future[Story]]


@pytest.fixture(scope="module")
def stories(facts: Facts, make_shop: Callable[[], Shop]) -> Iterator[Stories]:
    """All faults at once, each in a namespace of its own; node B goes when its image is back."""
    assert facts.kubernetes
    config = facts.kubernetes.kubeconfigs["admin"]
    futures: Stories = {}

    def live(namespace: str, fault: Fault, after: Future[Story] | None) -> Story:
        if after:
            after.exception()
        client = Api.from_kubeconfig(config)
        try:
            return faults.live(client, facts, namespace, fault)
        finally:
            client.close()

    with ThreadPoolExecutor(len(STORIES)) as pool:
        for name, fault in FAULTS.items():
            futures[name] = pool.submit(live, make_shop().namespace, fault, None)
        futures["node-gone"] = pool.submit(live, make_shop().namespace, NODE_GONE, futures["image-missing"])
        yield futures


def told(stories: Stories, name: str) -> tuple[Fault, Story]:
    """A fault and its story, once it has ended."""
    if broken := stories[name].exception():
        pytest.fail(f"the story of {name} broke: {broken!r}")
    return FAULTS.get(name, NODE_GONE), stories[name].result()


@pytest.mark.parametrize("name", STORIES)
def test_fault_is_an_error_with_its_reason_in_time(stories: Stories, name: str) -> None:
    """The status says why the probe could not run, who must act, and says so in time."""
    fault, story = told(stories, name)
    ready = condition(story.ill, "Ready")
    assert (ready["reason"], ready["status"]) == (fault.reason, fault.ready)
    assert fault.says in ready["message"]
    assert story.ill["lastRun"]["outcome"] == "Error"
    assert story.ill["advice"]["owner"] in {"app developer", "cluster admin"}
    assert story.seconds < fault.within


@pytest.mark.parametrize("name", STORIES)
def test_fault_leaves_the_last_mail_result(stories: Stories, name: str) -> None:
    """What the last session has shown stays: its stages, its conditions, its time, and no failure is counted."""
    _, story = told(stories, name)
    for kept in ("locations", "lastRunTime", "egress", "consecutiveFailures", "outages"):
        assert story.ill.get(kept) == story.before.get(kept), kept
    for kind in MAIL:
        assert condition(story.ill, kind) == condition(story.before, kind)


@pytest.mark.parametrize("name", STORIES)
def test_fault_is_told_in_one_event(stories: Stories, name: str) -> None:
    """One Warning, however often the run is tried with the fault, and one Normal event when sessions take place again."""
    fault, story = told(stories, name)
    errors = [event for event in story.events if event["reason"] == "ProbeError"]
    assert [event["note"].partition(":")[0] for event in errors] == [fault.reason]
    assert errors[0]["type"] == "Warning"
    assert "series" not in errors[0]
    assert sum(event["reason"] == "ProbeResumed" for event in story.events) == 1


@pytest.mark.parametrize("name", STORIES)
def test_probe_recovers_by_itself(stories: Stories, name: str) -> None:
    """When the cause is gone the next attempt gives the old answer again; nobody has to ask for it."""
    _, story = told(stories, name)
    before, after = condition(story.before, "Ready"), condition(story.after, "Ready")
    assert (after["status"], after["reason"]) == (before["status"], before["reason"])
    assert story.after["lastRun"]["attempt"] == 1
    assert condition(story.after, "Stalled")["status"] == "False"


def test_first_answers_were_answers(stories: Stories) -> None:
    """Before the fault all probes passed but the one whose server is silent: also where `restricted` is enforced."""
    reasons = {name: condition(told(stories, name)[1].before, "Ready")["reason"] for name in STORIES}
    assert reasons == dict.fromkeys(FAULTS, "Succeeded") | {"node-gone": "BannerTimeout"}
