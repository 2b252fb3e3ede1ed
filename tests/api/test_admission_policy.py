"""The two admission policies of the chart, tried by real users and service accounts on the real API server."""

import copy
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from charts import ROOT, render
from k8s import JSON_PATCH, PROBES, Api
from people import Done, Person, kubernetes, person, service_account, until

from smtpprobe.resource import RunRef
from smtpprobe.spec import to_request
from smtpprobe_operator.jobs import CREDENTIALS_DIR, build_job
from smtpprobe_operator.registry import from_body
from smtpprobe_operator.settings import from_environment

CRD = ROOT / "crds" / "smtpprobes.yaml"
POLICIES = {"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"}
WRITER = {"apiGroups": ["smtpprobe.dev"], "resources": ["smtpprobes"], "verbs": ["get", "create", "update", "patch"]}


class Place(NamedTuple):
    """A namespace in which alice may read the Secret `hers`, and both may write SmtpProbes."""

    namespace: str
    admin: Person
    alice: Person
    bob: Person
    operator: Person
    objects: list[dict[str, Any]]


def role(namespace: str, name: str, rule: dict[str, Any], *users: str) -> list[dict[str, Any]]:
    meta = {"name": name, "namespace": namespace}
    return [
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": meta, "rules": [rule]},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": meta,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": user} for user in users],
        },
    ]


def listing(objects: list[dict[str, Any]]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "List", "items": objects}


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    """The definition, the chart's policies and grant under names of their own, and a namespace with two users."""
    admin = person("admin")
    release, namespace = f"policy-{secrets.token_hex(3)}", f"smtpprobe-test-policy-{secrets.token_hex(3)}"
    admin.must("apply", "--server-side", "--force-conflicts", "-f", str(CRD))
    admin.must("wait", "--for=condition=Established", "--timeout=30s", "crd/smtpprobes.smtpprobe.dev")
    # The chart's own namespace is fixed in render(); the service account of the policies lives there.
    admin.must(
        "apply", "-f", "-", stdin={"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "smtpprobe-system"}}
    )
    admin.must("create", "namespace", namespace)
    objects = render(release=release)
    kinds = {*POLICIES, "ServiceAccount", "ClusterRole", "ClusterRoleBinding"}
    installed = listing([each for each in objects if each["kind"] in kinds])
    reader = {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["hers"], "verbs": ["get"]}
    rights = [*role(namespace, "writers", WRITER, "alice", "bob"), *role(namespace, "reader", reader, "alice")]
    admin.must("apply", "-f", "-", stdin=installed)
    admin.must("apply", "-f", "-", stdin=listing(rights))
    account = f"{release}-smtpprobe-operator"
    found = Place(
        namespace, admin, person("alice"), person("bob"), service_account(admin, "smtpprobe-system", account), objects
    )
    bad = job(found)
    bad["spec"]["template"]["spec"]["containers"][0]["image"] = "other/image:1"
    until(
        "the first policy works",
        lambda: refused(create(found.bob, probe(found, "early", secret="hers"), "--dry-run=server")),
    )
    until("the second policy works", lambda: refused(create(found.operator, bad, "--dry-run=server")))
    yield found
    admin.must("delete", "-f", "-", "--wait=false", stdin=installed)
    admin.must("delete", "namespace", namespace, "--wait=false")


def probe(place: Place, name: str = "", *, secret: str = "", **spec: Any) -> dict[str, Any]:
    """A SmtpProbe, with a name of its own unless one is given."""
    given = {"host": "mail.example.com", "port": 587, "mode": "starttls", **spec}
    if secret:
        given["credentialsSecretRef"] = {"name": secret}
    meta = {"name": name or f"p-{secrets.token_hex(4)}", "namespace": place.namespace}
    return {"apiVersion": "smtpprobe.dev/v1alpha1", "kind": "SmtpProbe", "metadata": meta, "spec": given}


def create(who: Person, thing: dict[str, Any], *options: str) -> Done:
    return who.kubectl("create", "-f", "-", *options, stdin=thing)


def created(who: Person, thing: dict[str, Any]) -> str:
    who.must("create", "-f", "-", stdin=thing)
    return str(thing["metadata"]["name"])


def patch(who: Person, place: Place, name: str, change: str, *options: str) -> Done:
    return who.kubectl("patch", "smtpprobe", name, "-n", place.namespace, "--type=merge", "-p", change, *options)


def refused(done: Done) -> bool:
    return done.code != 0 and "ValidatingAdmissionPolicy" in done.err


# --------------------------------------------------------------------------------- who may have a Secret sent somewhere


def test_reader_of_the_secret_may_name_it(place: Place) -> None:
    """Alice, who may read exactly the Secret `hers`, creates a SmtpProbe that names it."""
    created(place.alice, probe(place, secret="hers"))


def test_others_secret_is_refused(place: Place) -> None:
    """Alice may not have a Secret used that she may not read, and is told which."""
    done = create(place.alice, probe(place, secret="theirs"))
    assert refused(done)
    assert 'user "alice" may not read Secret "theirs"' in done.err
    assert f'in namespace "{place.namespace}"' in done.err


def test_writer_without_secret_rights_is_refused(place: Place) -> None:
    """Bob, who may write SmtpProbes and read no Secret, may not name one."""
    assert refused(create(place.bob, probe(place, secret="hers")))


def test_without_a_secret_everybody_may(place: Place) -> None:
    """A SmtpProbe that names no Secret needs no right to one."""
    created(place.bob, probe(place))


def test_what_to_ask_for_is_enough(place: Place) -> None:
    """The commands in the refusal, run by an admin, are what was missing: no more and no less."""
    done = create(place.bob, probe(place, secret="asked-for"))
    commands = re.search(r"Ask the admin of the namespace for: (kubectl .*)", done.err)
    assert commands, done.err
    place.admin.must(shell=commands[1].strip())
    until("bob may", lambda: create(place.bob, probe(place, secret="asked-for")).code == 0)
    assert place.bob.kubectl("auth", "can-i", "get", "secret/hers", "-n", place.namespace).code != 0


@pytest.mark.parametrize(
    "change",
    ['{"spec":{"host":"evil.example"}}', '{"spec":{"port":2525}}', '{"spec":{"tls":{"serverName":"x.example"}}}'],
)
def test_pointing_a_foreign_probe_elsewhere_is_refused(place: Place, change: str) -> None:
    """Bob may not redirect alice's probe, which would send her Secret to his host."""
    name = created(place.alice, probe(place, secret="hers"))
    assert refused(patch(place.bob, place, name, change))
    assert refused(patch(place.bob, place, name, change, "--dry-run=server"))
    assert place.admin.get("smtpprobe", name, "-n", place.namespace)["spec"]["host"] == "mail.example.com"


def test_replace_and_apply_are_held_to_the_same(place: Place) -> None:
    """Replace and server-side apply are refused as a patch is."""
    mine = probe(place, secret="hers")
    name = created(place.alice, mine)
    mine["spec"]["host"] = "evil.example"
    assert refused(place.bob.kubectl("replace", "-f", "-", stdin=mine))
    assert refused(place.bob.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=mine))
    assert place.admin.get("smtpprobe", name, "-n", place.namespace)["spec"]["host"] == "mail.example.com"


def test_owner_changes_her_probe(place: Place) -> None:
    """Alice changes her own probe as she likes, but not towards a Secret that she may not read."""
    name = created(place.alice, probe(place, secret="hers"))
    assert patch(place.alice, place, name, '{"spec":{"host":"new.example"}}').code == 0
    assert refused(patch(place.alice, place, name, '{"spec":{"credentialsSecretRef":{"name":"theirs"}}}'))


def test_adding_a_secret_later_is_refused(place: Place) -> None:
    """A probe made without a Secret does not get one by a patch of somebody who may not read it."""
    name = created(place.bob, probe(place))
    assert refused(patch(place.bob, place, name, '{"spec":{"credentialsSecretRef":{"name":"hers"}}}'))


def test_taking_the_secret_away_is_allowed(place: Place) -> None:
    """Bob may make alice's probe send nothing any more: nothing leaks by that."""
    name = created(place.alice, probe(place, secret="hers"))
    done = patch(place.bob, place, name, '{"spec":{"host":"other.example","credentialsSecretRef":null}}')
    assert done.code == 0, done.err


def test_annotations_are_free(place: Place) -> None:
    """Run-now and labels change no spec: they need no right to the Secret."""
    name = created(place.alice, probe(place, secret="hers"))
    place.bob.must("annotate", "smtpprobe", name, "-n", place.namespace, "smtpprobe.dev/run-now=1")
    place.bob.must("label", "smtpprobe", name, "-n", place.namespace, "team=b")


def test_ca_secret(place: Place) -> None:
    """A Secret with CA certificates is held to the same; a ConfigMap needs nothing."""

    def ca(kind: str, name: str) -> dict[str, Any]:
        return probe(place, tls={"caRef": {"kind": kind, "name": name, "key": "ca.crt"}})

    assert refused(create(place.alice, ca("Secret", "theirs")))
    created(place.alice, ca("Secret", "hers"))
    created(place.bob, ca("ConfigMap", "anything"))


def test_operator_writes_the_status_and_nothing_else(place: Place) -> None:
    """The operator's own account, with no right to any Secret, writes the status; its grant ends there."""
    name = created(place.alice, probe(place, secret="hers"))
    server = kubernetes()
    api = Api(server["url"], Path(server["ca_file"]).read_text(), place.operator.token)
    with closing(api):
        path = f"{PROBES}/namespaces/{place.namespace}/smtpprobes/{name}"
        status = [{"op": "replace", "path": "/status", "value": {"observedGeneration": 1, "conditions": []}}]
        assert api.call("PATCH", f"{path}/status", status, JSON_PATCH).status == 200
        assert place.admin.get("smtpprobe", name, "-n", place.namespace)["status"]["observedGeneration"] == 1
        host = [{"op": "replace", "path": "/spec/host", "value": "evil.example"}]
        assert api.call("PATCH", path, host, JSON_PATCH).status == 403


def test_operator_reads_no_secret(place: Place) -> None:
    """The operator's account may neither get nor list Secrets, in any namespace."""
    for namespace in (place.namespace, "smtpprobe-system", "kube-system"):
        for verb in ("get", "list", "watch", "create", "update", "patch", "delete"):
            done = place.operator.kubectl("auth", "can-i", verb, "secrets", "-n", namespace)
            assert done.out.strip() == "no", (verb, namespace)


# ------------------------------------------------------------------------------------------- the operator's own account


def job(place: Place) -> dict[str, Any]:
    """A Job as the operator builds it, with credentials and a CA, owned by a SmtpProbe that exists."""
    tls = {"caRef": {"kind": "ConfigMap", "name": "corp-ca", "key": "ca.crt"}}
    name = created(place.admin, probe(place, secret="hers", tls=tls))
    body = place.admin.get("smtpprobe", name, "-n", place.namespace)
    container = next(each for each in place.objects if each["kind"] == "Deployment")["spec"]["template"]["spec"][
        "containers"
    ][0]
    settings = from_environment({each["name"]: each["value"] for each in container["env"]})
    seen = from_body(body)
    assert seen.spec is not None
    request = to_request(seen.spec, default_helo=None, credentials_dir=CREDENTIALS_DIR, ca_file=None, refused=None)
    run = RunRef(trigger=f"now:{datetime.now(UTC).isoformat()}", generation=1)
    return build_job(seen, seen.spec, run, request, settings)


def test_operator_creates_its_own_job(place: Place) -> None:
    """The Job that the operator's builder makes passes, with every volume that it can have."""
    place.operator.must("create", "-f", "-", stdin=job(place))


Change = Callable[[dict[str, Any]], None]


def pod(**fields: Any) -> Change:
    return lambda made: made["spec"]["template"]["spec"].update(fields)


def container(**fields: Any) -> Change:
    return lambda made: made["spec"]["template"]["spec"]["containers"][0].update(fields)


def spec(**fields: Any) -> Change:
    return lambda made: made["spec"].update(fields)


def security(**fields: Any) -> Change:
    return lambda made: made["spec"]["template"]["spec"]["containers"][0]["securityContext"].update(fields)


def volume(name: str, **source: Any) -> Change:
    """Put a volume in place of the one of this name, or beside the others."""

    def change(made: dict[str, Any]) -> None:
        pod = made["spec"]["template"]["spec"]
        pod["volumes"] = [each for each in pod["volumes"] if each["name"] != name] + [{"name": name, **source}]

    return change


SHELL = {"name": "shell", "image": "localhost/smtpprobe-probe:0.1.0", "command": ["sh"]}
LEASH: list[tuple[str, Change, str]] = [
    ("foreign image", container(image="other/image:1"), "a probe runs the image"),
    ("same repository, other tag", container(image="localhost/smtpprobe-probe:evil"), "a probe runs the image"),
    (
        "other command",
        container(command=["sh", "-c", "cat /etc/smtpprobe/credentials/*"]),
        "runs python -m smtpprobe.pod",
    ),
    ("arguments", container(args=["-c", "import os"]), "runs python -m smtpprobe.pod"),
    ("a hook that runs a program", container(lifecycle={"postStart": {"exec": {"command": ["sh"]}}}), "runs python -m"),
    (
        "a probe that runs a program",
        container(livenessProbe={"exec": {"command": ["sh"]}}),
        "runs python -m smtpprobe.pod",
    ),
    (
        "secrets as environment",
        container(envFrom=[{"secretRef": {"name": "theirs"}}]),
        "environment is SMTPPROBE_REQUEST",
    ),
    (
        "a secret as a variable",
        container(env=[{"name": "SMTPPROBE_REQUEST", "valueFrom": {"secretKeyRef": {"name": "theirs", "key": "k"}}}]),
        "environment is SMTPPROBE_REQUEST",
    ),
    ("another variable", container(env=[{"name": "PYTHONSTARTUP", "value": "/x"}]), "environment is SMTPPROBE_REQUEST"),
    ("API token", pod(automountServiceAccountToken=True), "no API token"),
    ("host network", pod(hostNetwork=True), "no namespace and no port of the node"),
    ("host processes", pod(hostPID=True), "no namespace and no port of the node"),
    ("host memory", pod(hostIPC=True), "no namespace and no port of the node"),
    ("node chosen past the scheduler", pod(nodeName="node-a"), "the scheduler places it"),
    ("second container", lambda made: made["spec"]["template"]["spec"]["containers"].append(SHELL), "one container"),
    ("init container", pod(initContainers=[SHELL]), "one container"),
    ("the node's files", volume("ca", hostPath={"path": "/"}), "mounts its credentials and its CA"),
    (
        "a projected token",
        volume("credentials", projected={"sources": [{"serviceAccountToken": {"path": "t"}}]}),
        "mounts",
    ),
    ("a third secret", volume("more", secret={"secretName": "theirs"}), "mounts its credentials and its CA"),
    ("root", pod(securityContext={"runAsNonRoot": False, "runAsUser": 0}), "restricted"),
    ("more rights later", security(allowPrivilegeEscalation=True), "restricted"),
    ("capabilities", security(capabilities={"drop": ["ALL"], "add": ["NET_ADMIN"]}), "restricted"),
    ("writable root", security(readOnlyRootFilesystem=False), "restricted"),
    ("for ever", spec(activeDeadlineSeconds=86400), "within 300 s"),
    ("many pods", spec(parallelism=50, completions=50), "makes one pod"),
    ("never removed", lambda made: made["spec"].pop("ttlSecondsAfterFinished"), "makes one pod"),
    ("again and again", spec(backoffLimit=100), "makes one pod"),
    ("nobody's", lambda made: made["metadata"].pop("ownerReferences"), "belongs to one SmtpProbe"),
]


@pytest.mark.parametrize(("change", "sentence"), [row[1:] for row in LEASH], ids=[row[0] for row in LEASH])
def test_operator_is_held_to_its_job(place: Place, change: Change, sentence: str) -> None:
    """A stolen token of the operator cannot create any other Job; the refusal says what is not as it should be."""
    made = copy.deepcopy(job(place))
    change(made)
    done = create(place.operator, made)
    assert refused(done), done.err
    assert sentence in done.err


def test_other_people_are_not_held(place: Place) -> None:
    """Nobody else's Jobs are touched by the second policy."""
    made = job(place)
    made["metadata"].pop("ownerReferences")
    container(command=["sleep", "1"], image="other/image:1")(made)
    assert create(place.admin, made).code == 0


def test_policies_are_what_the_chart_renders(place: Place) -> None:
    """The API server found no type error in any expression of the two policies."""
    names = [each["metadata"]["name"] for each in place.objects if each["kind"] == "ValidatingAdmissionPolicy"]
    assert len(names) == 2

    def checked(name: str) -> dict[str, Any] | None:
        status = place.admin.get("validatingadmissionpolicy", name).get("status", {})
        return status if "typeChecking" in status else None

    for name in names:
        found = until(f"type check of {name}", lambda name=name: checked(name))
        assert not found["typeChecking"].get("expressionWarnings"), yaml.safe_dump(found)
