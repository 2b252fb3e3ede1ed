"""Types, required fields and sizes of a spec, judged as the API server judges them against the CRD's schema.

The expectations come from ``resource.Spec`` itself. What is broken is reported and left out of the copy that the rules
of ``specrules`` go over, so that one refusal never hides another.
"""

from functools import cache
from typing import Any, NamedTuple

import msgspec
from msgspec import inspect

from smtpprobe.resource import Spec

_WORD = 32  # no word of the vocabulary is longer
_NAMES = {str: "string", bool: "boolean", int: "integer", float: "number", dict: "object", list: "array"}
_HINTS = {
    "spec": "write at least host, port and mode, or host and mode auto",
    "spec.host": "write the name or address of the mail server, for example smtp.example.com",
    "spec.mode": "write plain, starttls, smtps or auto",
    "spec.credentialsSecretRef.name": "write the metadata.name of the Secret",
    "spec.tls.caRef.kind": "write ConfigMap or Secret",
    "spec.tls.caRef.name": "write the metadata.name of the ConfigMap or Secret",
    "spec.envelope.from": 'write the sender\'s address, or "" for the null sender',
}


class Problem(NamedTuple):
    """What is wrong with one field and what to write instead; ``field`` is a path such as ``spec.tls.caRef.kind``."""

    field: str
    message: str


def check(raw: object) -> tuple[dict[str, Any], list[Problem]]:
    """Return the usable part of a raw spec, and every problem with its shape.

    Objects stay, even where they are broken, so that their presence still counts.
    """
    problems: list[Problem] = []
    if raw is None:
        return {}, [_required("spec")]
    clean = _check(raw, _spec_type(), "spec", problems)
    return clean if isinstance(clean, dict) else {}, problems


@cache
def _spec_type() -> inspect.Type:
    return inspect.type_info(Spec)


class _Broken:
    """Marks a value that cannot be used."""


_BROKEN = _Broken()


def _required(path: str) -> Problem:
    return Problem(path, f"Required value: {_HINTS[path]}" if path in _HINTS else "Required value")


def _check(raw: object, kind: inspect.Type, path: str, problems: list[Problem]) -> Any:
    if isinstance(kind, inspect.UnionType):
        kind = next(choice for choice in kind.types if not isinstance(choice, inspect.NoneType))
    wanted = _json_type(kind)
    if wanted is int and isinstance(raw, float) and raw.is_integer():
        raw = int(raw)  # 587.0 in YAML: kubectl sends 587
    if type(raw) is not wanted:
        found = _NAMES.get(type(raw), "null" if raw is None else "string")
        hint = "; write it in quotes" if wanted is str and isinstance(raw, int | float) else ""
        problems.append(Problem(path, f'{path} in body must be of type {_NAMES[wanted]}: "{found}"{hint}'))
        return {} if wanted is dict else _BROKEN
    match kind, raw:
        case inspect.StructType(), dict():
            return _check_object(raw, kind, path, problems)
        case inspect.DictType(), dict():
            return _check_map(raw, kind, path, problems)
        case inspect.VarTupleType(), list():
            return _check_list(raw, kind, path, problems)
        case inspect.EnumType(), str() if len(raw) > _WORD:
            return _too_long(path, _WORD, problems)
        case inspect.StrType(max_length=int() as limit), str() if len(raw) > limit:
            return _too_long(path, limit, problems)
    return raw


def _too_long(path: str, limit: int, problems: list[Problem]) -> _Broken:
    problems.append(Problem(path, f"Too long: may not be more than {limit} bytes"))
    return _BROKEN


def _json_type(kind: inspect.Type) -> type:
    match kind:
        case inspect.StructType() | inspect.DictType():
            return dict
        case inspect.VarTupleType():
            return list
        case inspect.BoolType():
            return bool
        case inspect.IntType():
            return int
        case _:
            return str


def _check_object(raw: dict[Any, Any], kind: inspect.StructType, path: str, problems: list[Problem]) -> dict[str, Any]:
    fields = {field.encode_name: field for field in kind.fields}
    clean: dict[str, Any] = {}
    for name, value in raw.items():
        if name not in fields:
            problems.append(Problem(f"{path}.{name}", f'unknown field "{path}.{name}": remove it'))
        elif value is not None:  # as for the API server: null is absent
            kept = _check(value, fields[name].type, f"{path}.{name}", problems)
            if kept is not _BROKEN:
                clean[name] = kept
    problems += [
        _required(f"{path}.{name}") for name, field in fields.items() if field.required and raw.get(name) is None
    ]
    return clean


def _check_map(raw: dict[Any, Any], kind: inspect.DictType, path: str, problems: list[Problem]) -> dict[str, Any]:
    if kind.max_length is not None and len(raw) > kind.max_length:
        problems.append(Problem(path, f"Too many: {len(raw)}: must have at most {kind.max_length} items"))
    # As for the API server, null is absent here too.
    given = {str(key): value for key, value in raw.items() if value is not None}
    checked = {key: _check(value, kind.value_type, f"{path}.{key}", problems) for key, value in given.items()}
    return {key: value for key, value in checked.items() if value is not _BROKEN}


def _check_list(raw: list[Any], kind: inspect.VarTupleType, path: str, problems: list[Problem]) -> list[Any]:
    if kind.max_length is not None and len(raw) > kind.max_length:
        problems.append(Problem(path, f"Too many: {len(raw)}: must have at most {kind.max_length} items"))
    return [_check(value, kind.item_type, f"{path}[{index}]", problems) for index, value in enumerate(raw)]


def items(values: list[Any]) -> list[tuple[int, Any]]:
    """Return the usable items of a checked list with their places."""
    return [(index, value) for index, value in enumerate(values) if value is not _BROKEN]


def convert(clean: dict[str, Any]) -> Spec:
    """Turn a checked spec without any problem into its typed form."""
    return msgspec.convert(clean, Spec)
