"""What the chart renders, for several sets of values."""

import json
import shutil
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from charts import CHART, IMAGES, NEWEST, OLDEST, ROOT, helm, one, render, template

VALUES = sorted((Path(__file__).parent / "values").glob("*.yaml"))
FOREIGN_KINDS = {"ServiceMonitor", "PrometheusRule"}


def operator_container(objects: list[dict[str, Any]]) -> dict[str, Any]:
    (container,) = one(objects, "Deployment")["spec"]["template"]["spec"]["containers"]
    return dict(container)


def environment(objects: list[dict[str, Any]]) -> dict[str, str]:
    return {each["name"]: each["value"] for each in operator_container(objects)["env"]}


@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.stem)
def test_lint_strict(values: Path) -> None:
    """`helm lint --strict` finds nothing to say beyond the missing icon."""
    done = helm("lint", CHART, "--strict", "--kube-version", NEWEST, *IMAGES, "-f", values)
    assert done.returncode == 0, done.stdout
    assert "[WARNING]" not in done.stdout


@pytest.mark.parametrize("version", [OLDEST, "1.33.0", NEWEST])
@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.stem)
def test_rendered_objects_are_valid(values: Path, version: str) -> None:
    """Every object is valid, with no unknown field, for the oldest and the newest supported Kubernetes."""
    objects = render("-f", values, version=version)
    names = [(each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"]) for each in objects]
    assert len(names) == len(set(names))
    for each in objects:
        if each["kind"] not in FOREIGN_KINDS:
            kubernetes_validate.validate(each, version.rsplit(".", 1)[0], strict=True)


@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.stem)
def test_no_empty_fields(values: Path) -> None:
    """No field is null: tools that compare what is applied with what is stored would see a difference for ever."""

    def walk(value: object, path: str) -> None:
        assert value is not None, path
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(inner, f"{path}.{key}")
        elif isinstance(value, list):
            for index, inner in enumerate(value):
                walk(inner, f"{path}[{index}]")

    for each in render("-f", values):
        if each["kind"] != "CustomResourceDefinition":  # the API server prunes nothing of our own file
            walk(each, each["kind"])


def test_old_kubernetes_is_refused() -> None:
    """Kubernetes 1.29, which has no ValidatingAdmissionPolicy v1, is refused; a managed cluster's suffix is not."""
    assert "incompatible with Kubernetes" in template(*IMAGES, version="1.29.9").stderr
    assert template(*IMAGES, version="1.31.0-gke.100").returncode == 0


def test_images_have_no_default() -> None:
    """Without images the chart says which commands build, push and set them."""
    done = template()
    assert done.returncode != 0
    for part in (
        "image.repository is not set",
        "docker build --target operator",
        "docker build --target probe",
        "--set image.repository=REGISTRY/smtpprobe-operator,probe.image.repository=REGISTRY/smtpprobe-probe",
    ):
        assert part in done.stderr
    only_operator = template("--set", "image.repository=x/y")
    assert "probe.image.repository is not set" in only_operator.stderr


def test_image_commands_name_existing_targets() -> None:
    """The build targets in the message are targets of the Dockerfile."""
    dockerfile = (ROOT / "Dockerfile").read_text().lower()
    for target in ("operator", "probe"):
        assert f" as {target}\n" in dockerfile


def test_tag_and_digest() -> None:
    """The tag defaults to the chart's appVersion, a digest goes before it, a global registry before both images."""
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    assert operator_container(render())["image"] == f"localhost/smtpprobe-operator:{version}"
    everything = render("-f", Path(__file__).parent / "values" / "everything.yaml")
    assert operator_container(everything)["image"] == "mirror.example:5000/localhost/smtpprobe-operator:v1"
    probe = environment(everything)["SMTPPROBE_PROBE_IMAGE"]
    assert probe.startswith("mirror.example:5000/localhost/smtpprobe-probe@sha256:0123")


def test_pull_secrets_reach_both_pods() -> None:
    """Global and own pull secrets are on the operator's pod and handed to the probe's, each once."""
    objects = render("-f", Path(__file__).parent / "values" / "everything.yaml")
    pod = one(objects, "Deployment")["spec"]["template"]["spec"]
    assert pod["imagePullSecrets"] == [{"name": "shared"}, {"name": "other"}, {"name": "own"}]
    assert environment(objects)["SMTPPROBE_PROBE_IMAGE_PULL_SECRETS"] == "shared,other,own"


def test_operator_reads_every_variable() -> None:
    """The operator's own settings reader takes every variable that the chart sets, and none is unknown to it."""
    from msgspec.structs import fields

    from smtpprobe_operator.settings import PREFIX, Settings, from_environment

    variables = environment(render("-f", Path(__file__).parent / "values" / "everything.yaml"))
    ours = {name for name in variables if name.startswith(PREFIX)}
    assert ours <= {PREFIX + field.name.upper() for field in fields(Settings)}
    settings = from_environment(variables)
    assert settings.helo_name == "egress.shop.example"
    assert settings.probe_image_pull_secrets == ("shared", "other", "own")
    assert settings.probe_pod_labels["cost"] == "7"
    assert settings.probe_image_pull_policy == "Always"
    assert environment(render("-f", Path(__file__).parent / "values" / "namespaced.yaml"))[
        "SMTPPROBE_WATCH_NAMESPACES"
    ] == ("shop,billing")


def test_chart_defaults_are_the_operators() -> None:
    """At default values the chart gives the operator its own defaults: the two do not drift apart."""
    from msgspec.structs import asdict

    from smtpprobe_operator.settings import Settings, from_environment

    given = from_environment(environment(render()))
    assert asdict(given) == asdict(Settings(probe_image=given.probe_image))


def test_operator_pod_is_restricted() -> None:
    """The operator's pod meets the Pod Security standard "restricted", writes nowhere, and there is only one."""
    deployment = one(render(), "Deployment")["spec"]
    assert deployment["replicas"] == 1
    assert deployment["strategy"] == {"type": "Recreate"}
    pod = deployment["template"]["spec"]
    assert pod["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC", "volumes"} & set(pod)
    assert {"requests", "limits"} <= set(container["resources"])


def test_health_endpoints() -> None:
    """The kubelet asks /livez and /readyz, on the port that the Service names."""
    objects = render()
    container = operator_container(objects)
    assert container["livenessProbe"]["httpGet"] == {"path": "/livez", "port": "http-metrics"}
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http-metrics"}
    assert container["ports"] == [{"name": "http-metrics", "containerPort": 8080, "protocol": "TCP"}]
    service = one(objects, "Service")["spec"]
    labels = one(objects, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert service["selector"].items() <= labels.items()
    assert service["ports"][0]["targetPort"] == "http-metrics"


def test_selectors_hold_no_version() -> None:
    """An upgrade changes no selector: those of a Deployment cannot be changed."""
    selector = one(render(), "Deployment")["spec"]["selector"]["matchLabels"]
    assert set(selector) == {"app.kubernetes.io/name", "app.kubernetes.io/instance"}


def test_service_monitor_honours_labels() -> None:
    """The label `namespace` stays the SmtpProbe's, and the monitor selects the metrics Service and its port."""
    objects = render("--set", "metrics.serviceMonitor.enabled=true")
    monitor = one(objects, "ServiceMonitor")["spec"]
    service = one(objects, "Service")
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["namespaceSelector"] == {"matchNames": [service["metadata"]["namespace"]]}
    (endpoint,) = monitor["endpoints"]
    assert endpoint["honorLabels"] is True
    assert endpoint["port"] == service["spec"]["ports"][0]["name"]


@pytest.mark.parametrize(
    ("release", "name"),
    [("smtpprobe", "smtpprobe-operator"), ("smtpprobe-operator", "smtpprobe-operator"), ("x", "x-smtpprobe-operator")],
)
def test_names(release: str, name: str) -> None:
    """Objects are named after the release, without saying the same word twice."""
    assert one(render(release=release), "Deployment")["metadata"]["name"] == name


def test_crd_is_the_source_of_truth() -> None:
    """The definition in the chart is a byte for byte copy, and rendering changes nothing of its spec."""
    source = ROOT / "crds" / "smtpprobes.yaml"
    assert (CHART / "files" / "crds" / "smtpprobes.yaml").read_bytes() == source.read_bytes()
    rendered = one(render(), "CustomResourceDefinition")
    assert rendered["spec"] == yaml.safe_load(source.read_text())["spec"]
    assert rendered["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert len(json.dumps(rendered)) < 256 * 1024, "a client-side apply could not store it in its annotation"


def test_crd_switches() -> None:
    """`crds.keep` false drops the keep mark, `crds.enabled` false drops the definition."""
    dropped = one(render("--set", "crds.keep=false"), "CustomResourceDefinition")["metadata"]
    assert "helm.sh/resource-policy" not in dropped.get("annotations", {})
    kinds = {each["kind"] for each in render("--set", "crds.enabled=false")}
    assert "CustomResourceDefinition" not in kinds


def test_umbrella(tmp_path: Path) -> None:
    """As a part of an umbrella chart it takes foreign globals and the `enabled` switch, and can be switched off."""
    umbrella = tmp_path / "platform"
    shutil.copytree(Path(__file__).parent / "umbrella", umbrella)
    shutil.copytree(CHART, umbrella / "charts" / CHART.name)
    on = template(chart=umbrella, release="platform")
    assert on.returncode == 0, on.stderr
    objects = [each for each in yaml.safe_load_all(on.stdout) if each]
    assert operator_container(objects)["image"].startswith("mirror.example/tools/smtpprobe-operator:")
    off = template("--set", "smtpprobe-operator.enabled=false", chart=umbrella, release="platform")
    assert off.returncode == 0
    assert not [each for each in yaml.safe_load_all(off.stdout) if each]
