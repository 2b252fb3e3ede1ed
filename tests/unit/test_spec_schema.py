"""The CRD's schema and the typed resource are one: names, types, required fields, defaults, bounds and words."""

import re
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from msgspec import NODEFAULT, inspect

from smtpprobe import resource, spec as specs
from smtpprobe.vocabulary import (
    ConditionStatus,
    ConditionType,
    Depth,
    EgressVerdict,
    Language,
    Mechanism,
    Mode,
    Owner,
    StageOutcome,
)

ROOT = Path(__file__).resolve().parents[2]
CRD = yaml.safe_load((ROOT / "crds" / "smtpprobes.yaml").read_text(encoding="utf-8"))
VERSION = CRD["spec"]["versions"][0]
SCHEMA = VERSION["schema"]["openAPIV3Schema"]["properties"]
FREE = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
SERVER = {"host": "smtp.example.com", "port": 587, "mode": "starttls"}


def expected(kind: inspect.Type) -> dict[str, Any]:
    """The schema that a type asks for: types, sizes, required fields and nothing for people."""
    match kind:
        case inspect.UnionType():
            return expected(next(choice for choice in kind.types if not isinstance(choice, inspect.NoneType)))
        case inspect.StructType():
            required = sorted(field.encode_name for field in kind.fields if field.required)
            properties = {field.encode_name: expected(field.type) for field in kind.fields}
            return {"type": "object", "properties": properties} | ({"required": required} if required else {})
        case inspect.DictType(value_type=inspect.AnyType()):
            return FREE
        case inspect.DictType():
            limit = {} if kind.max_length is None else {"maxProperties": kind.max_length}
            return {"type": "object", "additionalProperties": expected(kind.value_type)} | limit
        case inspect.VarTupleType():
            limit = {} if kind.max_length is None else {"maxItems": kind.max_length}
            return {"type": "array", "items": expected(kind.item_type)} | limit
        case inspect.BoolType():
            return {"type": "boolean"}
        case inspect.IntType():
            return {"type": "integer"}
        case inspect.DateTimeType():
            return {"type": "string", "format": "date-time"}
        case inspect.EnumType():
            return {"type": "string", "maxLength": 32}
        case inspect.StrType():
            return {"type": "string"} | ({} if kind.max_length is None else {"maxLength": kind.max_length})
    raise AssertionError(kind)


def bare(schema: dict[str, Any], drop: frozenset[str]) -> dict[str, Any]:
    """The same of a schema as it stands in the CRD."""
    kept = {key: value for key, value in schema.items() if key not in drop}
    if "properties" in kept:
        kept["properties"] = {name: bare(inner, drop) for name, inner in kept["properties"].items()}
    if "items" in kept:
        kept["items"] = bare(kept["items"], drop)
    if "additionalProperties" in kept:
        kept["additionalProperties"] = bare(kept["additionalProperties"], drop)
    if "required" in kept:
        kept["required"] = sorted(kept["required"])
    return kept


FOR_PEOPLE = frozenset({"description", "default", "x-kubernetes-validations", "x-kubernetes-list-type"})
SIZES = frozenset({"maxLength", "minLength", "maxItems", "minimum", "enum", "pattern", "x-kubernetes-list-map-keys"})


def test_spec_has_the_fields_types_sizes_and_required_fields_of_the_crd() -> None:
    """resource.Spec and the schema of spec are the same, field by field."""
    assert bare(SCHEMA["spec"], FOR_PEOPLE) == expected(inspect.type_info(resource.Spec))


def test_status_has_the_fields_and_types_of_the_crd() -> None:
    """resource.Status and the schema of status are the same, so that the API server prunes nothing that is written."""
    # metav1 wants no observedGeneration in a condition; formats of integers say nothing that Python could differ in.
    drop = FOR_PEOPLE | SIZES | {"required"}
    wanted = bare(expected(inspect.type_info(resource.Status)), drop)
    found = bare(SCHEMA["status"], drop)
    assert _without_integer_formats(found) == wanted


def _without_integer_formats(schema: Any) -> Any:
    if not isinstance(schema, dict):
        return schema
    kept = {key: _without_integer_formats(value) for key, value in schema.items()}
    if kept.get("type") == "integer":
        kept.pop("format", None)
    return kept


def test_status_requires_only_what_is_always_written() -> None:
    """Every field that the schema of status requires has no default in Python: it is in each encoded status."""
    wanted = expected(inspect.type_info(resource.Status))
    for path, required in _required(SCHEMA["status"]):
        if path == "conditions":
            continue  # metav1's own form, checked by the API server in tests/api
        assert set(required) <= set(_at(wanted, path)["required"]), path


def _required(schema: dict[str, Any], path: str = "") -> list[tuple[str, list[str]]]:
    found = [(path, schema["required"])] if "required" in schema else []
    for name, inner in schema.get("properties", {}).items():
        found += _required(inner, f"{path}.{name}".lstrip("."))
    return found + (_required(schema["items"], path) if "items" in schema else [])


def _at(schema: dict[str, Any], path: str) -> dict[str, Any]:
    for name in path.split("."):
        schema = schema["properties"][name]
        schema = schema.get("items", schema)
    return schema


def fields(kind: Any, path: str = "spec") -> list[tuple[str, inspect.Field]]:
    """Every field of a struct type and of those inside, with its path."""
    found = []
    for field in kind.fields:
        inner = field.type
        if isinstance(inner, inspect.UnionType):
            inner = next(choice for choice in inner.types if not isinstance(choice, inspect.NoneType))
        if isinstance(inner, inspect.VarTupleType):
            inner = inner.item_type
        name = f"{path}.{field.encode_name}"
        found.append((name, field))
        if isinstance(inner, inspect.StructType):
            found += fields(inner, name)
    return found


SPEC_FIELDS = fields(inspect.type_info(resource.Spec))


@pytest.mark.parametrize(("path", "field"), SPEC_FIELDS, ids=lambda value: value if isinstance(value, str) else "")
def test_defaults_are_the_same_and_are_documented(path: str, field: inspect.Field) -> None:
    """A scalar default stands in the description; at the first level also in the schema, nowhere below it."""
    schema = _schema_of(path)
    top = path.count(".") == 1
    if field.default in (NODEFAULT, None) or not isinstance(field.default, str | int):
        assert "default" not in schema, path
        return
    plain = getattr(field.default, "value", field.default)
    text = {True: "true", False: "false"}.get(plain, str(plain)) if isinstance(plain, bool) else str(plain)
    assert f"Default: {text}" in schema["description"], path
    assert schema.get("default", plain if not top else ...) == plain, path
    assert top or "default" not in schema, path


def _schema_of(path: str) -> dict[str, Any]:
    schema: dict[str, Any] = {"properties": SCHEMA}
    for name in path.split("."):
        schema = schema.get("items", schema)["properties"][name]
    return schema


@pytest.mark.parametrize("path", [path for path, _ in SPEC_FIELDS])
def test_every_field_of_the_spec_reads_as_documentation(path: str) -> None:
    """kubectl explain shows a sentence and an example for every field of the spec."""
    description = _schema_of(path)["description"]
    assert len(description) > 30, path
    assert path.endswith(".kind") or "Example: " in description, path
    assert description.rstrip().endswith((".", "]", "}")), path


def test_every_field_of_the_status_is_described() -> None:
    """kubectl explain shows a sentence for every field of the status."""
    for path, _ in fields(inspect.type_info(resource.Status), "status"):
        assert _schema_of(path).get("description"), path


@pytest.mark.parametrize(("name", "least", "most"), [("port", 1, 65535), ("timeoutSeconds", 5, 120)])
def test_bounds_of_numbers_are_the_same(name: str, least: int, most: int) -> None:
    """Range in the type, range in the CEL rule and range in the Python check are one."""
    field = next(field for path, field in SPEC_FIELDS if path == f"spec.{name}")
    kind = field.type
    if isinstance(kind, inspect.UnionType):
        kind = next(choice for choice in kind.types if not isinstance(choice, inspect.NoneType))
    assert isinstance(kind, inspect.IntType)
    assert (kind.ge, kind.le) == (least, most)
    assert (
        SCHEMA["spec"]["properties"][name]["x-kubernetes-validations"][0]["rule"]
        == f"self >= {least} && self <= {most}"
    )
    for value, fine in ((least - 1, False), (least, True), (most, True), (most + 1, False)):
        assert (specs.parse(SERVER | {name: value}).spec is not None) is fine


@pytest.mark.parametrize(
    ("path", "words", "later"),
    [
        ("mode", Mode, set()),
        ("depth", Depth, set()),
        ("mechanism", Mechanism, set()),
        ("language", Language, set()),
    ],
)
def test_words_are_those_of_the_vocabulary(
    path: str, words: type[Mode | Depth | Mechanism | Language], later: set[str]
) -> None:
    """The CEL rule and the Python check allow the vocabulary's words, except those that no code obeys yet."""
    rule = SCHEMA["spec"]["properties"][path]["x-kubernetes-validations"][0]["rule"]
    allowed = {word.value for word in words} - later
    assert set(re.findall(r"'([^']*)'", rule)) == allowed
    whole = SERVER | {"credentialsSecretRef": {"name": "a"}, "envelope": {"from": "", "to": ["a@b.test"]}}
    for word in words:
        assert (specs.parse(whole | {path: word.value}).spec is not None) is (word.value in allowed)


def test_words_of_the_status_are_documented() -> None:
    """The description of a status field with a closed list names its words."""
    conditions = SCHEMA["status"]["properties"]["conditions"]
    said = conditions["description"]
    assert all(kind.value in said for kind in ConditionType)
    assert conditions["items"]["properties"]["status"]["enum"] == [word.value for word in ConditionStatus]
    assert all(word.value in _schema_of("status.egress.verdict")["description"] for word in EgressVerdict)
    assert all(word.value in _schema_of("status.advice.owner")["description"] for word in Owner)
    assert all(word.value in _schema_of("status.locations.stages.outcome")["description"] for word in StageOutcome)


def test_names_of_the_definition_are_those_of_the_code() -> None:
    """Group, version and plural are the ones under which the operator asks."""
    assert CRD["metadata"]["name"] == f"{resource.PLURAL}.{resource.GROUP}"
    assert (CRD["spec"]["group"], VERSION["name"]) == (resource.GROUP, resource.VERSION)
    names = CRD["spec"]["names"]
    assert (names["kind"], names["plural"], names["shortNames"], names["categories"]) == (
        "SmtpProbe",
        resource.PLURAL,
        ["smtpp"],
        ["smtpprobe"],
    )


def test_columns_are_those_of_the_design() -> None:
    """kubectl get shows these columns, -o wide adds the others behind them; NEXT is no date."""
    columns = VERSION["additionalPrinterColumns"]
    usual = [column["name"].upper() for column in columns if not column.get("priority")]
    wide = [column["name"].upper() for column in columns if column.get("priority")]
    assert usual == ["READY", "REASON", "HOST", "PORT", "MODE", "EGRESS", "LAST", "AGE"]
    assert wide == ["AUTH", "STAGE", "CODE", "EGRESS-IP", "NEXT", "MESSAGE"]
    assert columns[: len(usual)] == [column for column in columns if not column.get("priority")]
    assert next(column["type"] for column in columns if column["name"] == "Next") == "string"


def test_an_empty_status_is_the_one_before_the_operator_saw_the_probe() -> None:
    """The CRD's default status and the type's default say observedGeneration -1."""
    assert (
        SCHEMA["status"]["default"]
        == {"observedGeneration": resource.Status().observed_generation}
        == {"observedGeneration": -1}
    )
    assert isinstance(resource.decode_status(SCHEMA["status"]["default"]).last_run_time, datetime | None)


def test_the_chart_carries_the_definition() -> None:
    """The chart's copy is the source, byte for byte."""
    done = subprocess.run(
        [sys.executable, "tools/sync_crds.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
