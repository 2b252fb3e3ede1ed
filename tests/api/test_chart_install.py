"""The chart's life on a real API server: install, upgrade, uninstall, and again under another name."""

import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from charts import CHART, IMAGES, helm
from people import Person, kubernetes, person, until

CRD = "crd/smtpprobes.smtpprobe.dev"
OTHERS_CRD = "--take-ownership"  # other tests of this tier may have applied the definition before


@pytest.fixture
def admin() -> Person:
    """The cluster's admin."""
    return person("admin")


@pytest.fixture
def system(admin: Person) -> Iterator[str]:
    """A namespace for releases; in the end they are uninstalled, the definition stays for other tests."""
    name = f"smtpprobe-test-chart-{secrets.token_hex(3)}"
    admin.must("create", "namespace", name)
    yield name
    for release in on_cluster("list", "-n", name, "--short").split():
        on_cluster("uninstall", release, "-n", name)
    admin.must("delete", "namespace", name, "--wait=false")


def try_on_cluster(*arguments: str | Path) -> Any:
    return helm(*arguments, "--kubeconfig", kubernetes()["kubeconfigs"]["admin"])


def on_cluster(*arguments: str | Path) -> str:
    done = try_on_cluster(*arguments)
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


def sample(namespace: str, name: str) -> dict[str, Any]:
    return {
        "apiVersion": "smtpprobe.dev/v1alpha1",
        "kind": "SmtpProbe",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"host": "mail.example.com", "port": 587, "mode": "starttls"},
    }


def test_uninstall_keeps_what_people_made(admin: Person, system: str) -> None:
    """Uninstalled, the definition and every SmtpProbe stay; another name takes them over with the option of the NOTES."""
    on_cluster("install", "first", CHART, "-n", system, *IMAGES, OTHERS_CRD)
    admin.must("wait", "--for=condition=Established", "--timeout=30s", CRD)
    admin.must("apply", "-f", "-", stdin=sample(system, "order-mail"))
    on_cluster("uninstall", "first", "-n", system)
    assert admin.get("smtpprobe", "order-mail", "-n", system)["spec"]["host"] == "mail.example.com"
    left = admin.must(
        "get", "clusterrole,clusterrolebinding,validatingadmissionpolicy,validatingadmissionpolicybinding", "-o", "name"
    )
    assert "first" not in left
    refused = try_on_cluster("install", "second", CHART, "-n", system, *IMAGES)
    assert refused.returncode != 0
    assert 'key "meta.helm.sh/release-name" must equal "second"' in refused.stderr
    on_cluster("install", "second", CHART, "-n", system, *IMAGES, "--take-ownership")
    assert admin.get(CRD)["metadata"]["annotations"]["meta.helm.sh/release-name"] == "second"
    assert admin.get("smtpprobe", "order-mail", "-n", system)["spec"]["port"] == 587


def test_upgrade_brings_the_new_definition(admin: Person, system: str, tmp_path: Path) -> None:
    """An upgrade adds a field to the definition, which Helm's crds/ folder would never do; existing SmtpProbes stay."""
    on_cluster("install", "grow", CHART, "-n", system, *IMAGES, OTHERS_CRD)
    admin.must("wait", "--for=condition=Established", "--timeout=30s", CRD)
    admin.must("apply", "-f", "-", stdin=sample(system, "order-mail"))
    newer = tmp_path / CHART.name
    shutil.copytree(CHART, newer)
    path = newer / "files" / "crds" / "smtpprobes.yaml"
    definition = yaml.safe_load(path.read_text())
    schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    schema["properties"]["spec"]["properties"]["fromTomorrow"] = {"type": "string", "description": "Not there today."}
    path.write_text(yaml.safe_dump(definition))
    on_cluster("upgrade", "grow", newer, "-n", system, *IMAGES)
    until("the new field", lambda: "Not there today" in admin.kubectl("explain", "smtpprobe.spec.fromTomorrow").out)
    assert admin.get("smtpprobe", "order-mail", "-n", system)["spec"]["host"] == "mail.example.com"
    on_cluster("upgrade", "grow", CHART, "-n", system, *IMAGES)
    until("the old definition", lambda: admin.kubectl("explain", "smtpprobe.spec.fromTomorrow").code != 0)


def test_second_upgrade_changes_nothing(admin: Person, system: str) -> None:
    """The same chart with the same values again writes nothing: no object has another resourceVersion."""
    on_cluster("install", "same", CHART, "-n", system, *IMAGES, OTHERS_CRD)
    # Defaults that the API server fills in later (a ClusterRole's aggregation, the definition's conditions) are not ours.
    kinds = "deployment,service,serviceaccount"

    def generations() -> dict[str, Any]:
        found = {
            each["metadata"]["name"] + each["kind"]: each["metadata"]
            for each in admin.get(kinds, "-n", system)["items"]
        }
        definition = admin.get(CRD)["metadata"]
        policies = admin.get("validatingadmissionpolicy")["items"]
        numbers = {name: meta.get("generation", meta["resourceVersion"]) for name, meta in found.items()}
        numbers |= {
            each["metadata"]["name"]: each["metadata"]["generation"]
            for each in policies
            if "same" in each["metadata"]["name"]
        }
        return numbers | {"definition": definition["generation"]}

    before = generations()
    on_cluster("upgrade", "same", CHART, "-n", system, *IMAGES)
    assert generations() == before


def test_everything_is_accepted_by_the_server(system: str) -> None:
    """The API server takes every object of the chart with every switch on (but those of the Prometheus operator)."""
    values = Path(__file__).resolve().parents[1] / "chart" / "values" / "everything.yaml"
    off = "metrics.serviceMonitor.enabled=false,prometheusRule.enabled=false"
    on_cluster(
        "install", "all", CHART, "-n", system, *IMAGES, "-f", values, "--set", off, OTHERS_CRD, "--dry-run=server"
    )


def test_namespaced_install_grants_nothing_elsewhere(admin: Person, system: str) -> None:
    """With watchNamespaces the operator's account may do its work there, and nothing in any other namespace."""
    watched = f"{system}-shop"
    admin.must("create", "namespace", watched)
    try:
        watch = ("--set", f"watchNamespaces={{{watched}}}")
        on_cluster("install", "narrow", CHART, "-n", system, *IMAGES, *watch, OTHERS_CRD)
        account = f"--as=system:serviceaccount:{system}:narrow-smtpprobe-operator"

        def may(verb: str, what: str, namespace: str) -> bool:
            return admin.kubectl("auth", "can-i", verb, what, "-n", namespace, account).out.strip() == "yes"

        until("the grant", lambda: may("create", "jobs.batch", watched))
        assert may("watch", "smtpprobes.smtpprobe.dev", watched)
        for verb, what in (("create", "jobs.batch"), ("watch", "smtpprobes.smtpprobe.dev"), ("list", "pods")):
            assert not may(verb, what, "default")
        assert admin.kubectl("auth", "can-i", "list", "pods", "-A", account).out.strip() == "no"
    finally:
        admin.must("delete", "namespace", watched, "--wait=false")


def test_operator_pod_runs_under_pod_security_restricted(admin: Person, system: str) -> None:
    """In a namespace that enforces "restricted", the API server takes the operator's pod without a warning."""
    on_cluster("install", "strict", CHART, "-n", system, *IMAGES, OTHERS_CRD)
    admin.must(
        "label",
        "namespace",
        system,
        "pod-security.kubernetes.io/enforce=restricted",
        "pod-security.kubernetes.io/warn=restricted",
    )
    template = admin.get("deployment", "strict-smtpprobe-operator", "-n", system)["spec"]["template"]
    until(
        "the service account",
        lambda: admin.kubectl("get", "serviceaccount", "strict-smtpprobe-operator", "-n", system).code == 0,
    )
    made = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x", "namespace": system}, "spec": template["spec"]}
    done = admin.kubectl("create", "-f", "-", "--dry-run=server", stdin=made)
    assert done.code == 0, done.err
    assert "Warning" not in done.err


def test_notes(admin: Person, system: str) -> None:
    """What the NOTES say to run next can be run as it is written: sample, list, run-now; and what uninstalling keeps."""
    printed = on_cluster(
        "install", "guide", CHART, "-n", system, *IMAGES, OTHERS_CRD, "--set", f"watchNamespaces={{{system}}}"
    )
    notes = printed.split("NOTES:\n")[1]
    admin.must("wait", "--for=condition=Established", "--timeout=30s", CRD)
    printed_script = re.search(r"^kubectl [^\n]* apply -f - <<'YAML'\n.*?^YAML\n", notes, re.DOTALL | re.MULTILINE)
    assert printed_script, notes
    script = printed_script[0]
    assert f"-n {system} " in script
    until("the definition is served", lambda: admin.kubectl(shell=script).code == 0)
    for words in ("get smtpprobes -o wide", "annotate smtpprobe my-mail"):
        (line,) = [each.strip() for each in notes.splitlines() if words in each]
        admin.must(shell=line)
    annotations = admin.get("smtpprobe", "my-mail", "-n", system)["metadata"]["annotations"]
    assert annotations["smtpprobe.dev/run-now"].isdigit()
    assert f"helm -n {system} uninstall guide" in notes
    assert "keeps the definition smtpprobes.smtpprobe.dev" in notes
    assert "--take-ownership" in notes
    assert "WARNING" not in notes


def test_notes_warn_without_the_policy(system: str) -> None:
    """Without the policy the NOTES say what that allows."""
    off = ("--set", "admissionPolicy.enabled=false,crds.keep=false")
    printed = on_cluster("install", "open", CHART, "-n", system, *IMAGES, *off, OTHERS_CRD, "--dry-run=server")
    assert "WARNING: admissionPolicy.enabled is false" in printed
    assert "ALL SmtpProbes with it, because crds.keep is false" in printed
