"""The rules as they are written (TOML, with examples), and replies with their causes, for the classifier's tests."""

import importlib.util
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import yaml

from smtpprobe.classify import SessionFacts, classify
from smtpprobe.explain import stage_of
from smtpprobe.vocabulary import Reason

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "tests" / "unit" / "data"


def compiler() -> ModuleType:
    """Load tools/compile_rules.py, which is a script and no package."""
    spec = importlib.util.spec_from_file_location("compile_rules", ROOT / "tools" / "compile_rules.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def replies(name: str) -> list[dict[str, Any]]:
    return yaml.safe_load((DATA / name).read_text("utf-8"))


def facts_of(entry: dict[str, Any]) -> SessionFacts:
    context = entry.get("context") or {}
    to = context.get("rcpt_to")
    return SessionFacts(mail_from=context.get("mail_from"), rcpt_to=(to,) if to else ())


def example_facts(rule: dict[str, Any]) -> SessionFacts:
    return msgspec.convert(rule.get("facts", {}), SessionFacts)


class Score(msgspec.Struct):
    """``right``: the first cause named; ``among``: right, or the cause is listed as possible on either side."""

    total: int
    right: int
    among: int
    unknown: int
    wrong: list[str]
    sure_and_wrong: list[str]

    def line(self, name: str) -> str:
        def share(n: int) -> str:
            return f"{n} ({100 * n / self.total:.1f} %)"

        return (
            f"{name}: {self.total} replies, right {share(self.right)}, right or listed {share(self.among)}, "
            f"wrong {share(len(self.wrong))}, of these with confidence >= 0.8 {share(len(self.sure_and_wrong))}, "
            f"Unknown {share(self.unknown)}"
        )


def score(entries: list[dict[str, Any]]) -> Score:
    """Classify all entries as a stranger would see them: stage, text, envelope."""
    seen: Counter[str] = Counter()
    wrong, sure = [], []
    for entry in entries:
        causes = [entry["class"]] if isinstance(entry["class"], str) else entry["class"]
        verdict = classify(stage_of(entry["stage"]), entry["text"], facts_of(entry))
        listed = {alternative.reason for alternative in verdict.alternatives}
        if verdict.reason == causes[0]:
            seen["right"] += 1
        elif verdict.reason is Reason.UNKNOWN:
            seen["unknown"] += 1
        elif verdict.reason in causes or causes[0] in listed:
            seen["listed"] += 1
        else:
            told = f"{verdict.rule}: {verdict.reason} ({verdict.confidence}), not {causes[0]}: {entry['text'][:90]!r}"
            wrong.append(told)
            if verdict.confidence >= 0.8:
                sure.append(told)
    return Score(len(entries), seen["right"], seen["right"] + seen["listed"], seen["unknown"], wrong, sure)
