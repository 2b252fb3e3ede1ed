"""The folder tests/manifests: good and bad SmtpProbes, and what must be said about the bad ones.

One file is one manifest. A bad one begins with comments: `# expect FIELD: SENTENCE`, as often as needed, and where only
one side can see the fault `# only python`.
"""

from __future__ import annotations

import copy
import itertools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).resolve().parents[1] / "manifests"
_PLAIN = {"host": "smtp.example.com", "port": 587, "mode": "starttls"}


@dataclass(frozen=True)
class Case:
    """One manifest; `expected` has (field, sentence) of each fault, `python_only` where the API server cannot see it."""

    name: str
    raw: dict[str, Any]
    expected: tuple[tuple[str, str], ...] = ()
    python_only: bool = False

    def __str__(self) -> str:
        return self.name

    @property
    def spec(self) -> dict[str, Any]:
        return self.raw["spec"]


def load(kind: str) -> list[Case]:
    """All cases of `good` or `bad`."""
    return [_read(path) for path in sorted((FOLDER / kind).glob("*.yaml"))]


def _read(path: Path) -> Case:
    text = path.read_text(encoding="utf-8")
    expected = tuple(re.findall(r"(?m)^# expect (spec[^:]*): (.*)$", text))
    return Case(path.stem, yaml.safe_load(text), expected, bool(re.search(r"(?m)^# only python$", text)))


def _leaves(value: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    if isinstance(value, dict) and value:
        return {k: v for key, inner in value.items() for k, v in _leaves(inner, (*path, key)).items()}
    return {path: value}


def _deviations(spec: dict[str, Any]) -> dict[tuple[str, ...], Any]:
    """What a spec says otherwise than the plain one; `...` stands for a field that is left out."""
    said = {path: value for path, value in _leaves(spec).items() if _PLAIN.get(path[0], ...) != value}
    return said | {(name,): ... for name in _PLAIN if name not in spec}


def pairs(cases: list[Case]) -> list[Case]:
    """Every two faults in one manifest that do not touch the same field and of which none undoes the other."""
    found = []
    for one, other in itertools.combinations(cases, 2):
        mine, theirs = _deviations(one.spec), _deviations(other.spec)
        overlap = any(a[: len(b)] == b or b[: len(a)] == a for a in mine for b in theirs)
        if overlap or _undone(one, theirs) or _undone(other, mine):
            continue
        raw = copy.deepcopy(one.raw)
        raw["metadata"]["name"] = f"{one.name}--{other.name}"[:63].rstrip("-")
        for path, value in theirs.items():
            _put(raw["spec"], path, value)
        names = f"{one.name} + {other.name}"
        found.append(Case(names, raw, one.expected + other.expected, one.python_only or other.python_only))
    return found


def _undone(case: Case, other: dict[tuple[str, ...], Any]) -> bool:
    """Whether what is missing in one manifest stands in the other."""
    needs = {
        "mechanism-without-login": ("credentialsSecretRef",),
        "depth-auth-without-login": ("credentialsSecretRef",),
        "depth-envelope-without-envelope": ("envelope",),
        "depth-message-without-envelope": ("envelope",),
        "depth-message-without-recipient": ("envelope", "to"),
        "depth-message-sender-alone": ("envelope", "to"),
        "try-variants-without-login": ("credentialsSecretRef",),
        "time-zone-without-cron": ("schedule", "cron"),
        "ca-kind-missing": ("tls", "caRef", "kind"),
        "ca-name-missing": ("tls", "caRef", "name"),
        "from-missing": ("envelope", "from"),
    }
    need = needs.get(case.name)
    return need is not None and any(path[: len(need)] == need for path in other)


def _put(spec: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    if value is ...:
        spec.pop(path[0], None)
        return
    for name in path[:-1]:
        spec = spec.setdefault(name, {})
    spec[path[-1]] = copy.deepcopy(value)
