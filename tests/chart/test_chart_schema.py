"""Values that are wrong are refused before anything is rendered; values.yaml, schema and README say the same."""

import json
import re
import subprocess
import sys
from typing import Any

import pytest
import yaml
from charts import CHART, IMAGES, ROOT, template

REFUSED = [
    ("image.repositry=x", "'/image': additional properties 'repositry' not allowed"),
    ("crd.enabled=false", "additional properties 'crd' not allowed"),
    ("image.repository=host/name:tag", "'/image/repository': 'host/name:tag' does not match pattern"),
    ("image.digest=sha256:12", "'/image/digest'"),
    ("image.pullPolicy=Sometimes", "'/image/pullPolicy': value must be one of 'Always', 'IfNotPresent', 'Never'"),
    ("probe.heloName=localhost", "'/probe/heloName'"),
    ("probe.resources.limits.cpu=1", "'/probe/resources/limits': additional properties 'cpu' not allowed"),
    ("limits.maxRuns=0", "'/limits/maxRuns': minimum: got 0, want 1"),
    ("limits.jobsPerSecond=0", "'/limits/jobsPerSecond': exclusiveMinimum"),
    ("limits.ttlSecondsAfterFinished=5", "'/limits/ttlSecondsAfterFinished': minimum"),
    ("watchNamespaces={Shop}", "'/watchNamespaces/0'"),
    ("watchNamespaces=shop", "'/watchNamespaces': got string, want array"),
    ("logLevel=verbose", "'/logLevel': value must be one of"),
    ("prometheusRule.runbookUrl=wiki", "'/prometheusRule/runbookUrl'"),
    ("prometheusRule.rules.SmtpProbeStale.failures=3", "additional properties 'failures' not allowed"),
    ("prometheusRule.rules.SmtpProbeStale.for=soon", "'/prometheusRule/rules/SmtpProbeStale/for'"),
    ("prometheusRule.rules.SmtpProbeTypo.enabled=false", "additional properties 'SmtpProbeTypo' not allowed"),
    ("metrics.serviceMonitor.enabled=yes please", "'/metrics/serviceMonitor/enabled': got string, want boolean"),
    ("imagePullSecrets={a}", "'/imagePullSecrets/0': got string, want object"),
]


@pytest.mark.parametrize(("value", "sentence"), REFUSED, ids=[value for value, _ in REFUSED])
def test_refused(value: str, sentence: str) -> None:
    """A typo or an impossible value is refused, and the refusal names the value and what is wrong with it."""
    done = template(*IMAGES, "--set", value)
    assert done.returncode != 0
    assert sentence in done.stderr


@pytest.mark.parametrize("value", ["global.anything.at.all=1", "enabled=true"])
def test_umbrella_keys_pass(value: str) -> None:
    """What an umbrella chart hands to all its parts is no typo."""
    done = template(*IMAGES, "--set", value)
    assert done.returncode == 0, done.stderr


def resolve(schema: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    reference = schema.get("$ref")
    return dict(root["definitions"][reference.rsplit("/", 1)[1]]) if reference else schema


def test_every_value_is_in_the_schema_and_back() -> None:
    """values.yaml and values.schema.json know the same keys, down to where keys are free."""
    root = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    def compare(value: dict[str, Any], schema: dict[str, Any], path: str) -> None:
        schema = resolve(schema, root)
        if schema.get("additionalProperties") is not False:
            return
        known = set(schema["properties"]) - ({"enabled"} if not path else set())
        assert set(value) == known, path or "top level"
        for key, inner in value.items():
            if isinstance(inner, dict) and path + key != "probe.resources":
                compare(inner, schema["properties"][key], f"{path}{key}.")

    resources = resolve(root["properties"]["resources"], root)
    assert set(values["resources"]) == set(resources["properties"])
    compare({key: value for key, value in values.items() if key != "resources"}, without(root, "resources"), "")


def without(root: dict[str, Any], key: str) -> dict[str, Any]:
    return root | {"properties": {name: each for name, each in root["properties"].items() if name != key}}


def test_every_value_is_used() -> None:
    """Every value of values.yaml is read by some template: none is there for show."""
    templates = "\n".join(path.read_text() for path in sorted((CHART / "templates").iterdir()))
    for key, value in yaml.safe_load((CHART / "values.yaml").read_text()).items():
        if f"toYaml .Values.{key} " in templates:
            continue
        for path in [f"{key}.{inner}" for inner in value] if isinstance(value, dict) and value else [key]:
            last = path.rsplit(".", 1)[-1]
            assert re.search(rf"\.{re.escape(last)}\b", templates), path


def test_readme_lists_the_values() -> None:
    """The table of values in the chart's README is what values.yaml says."""
    program = ROOT / "tools" / "chart_readme.py"
    done = subprocess.run([sys.executable, program, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
