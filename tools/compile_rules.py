"""Compile ``probe/smtpprobe/rules/*.toml`` into ``probe/smtpprobe/rules.json``, the form that the classifier loads.

A pod that lives for seconds must not parse TOML nor take patterns apart: the JSON form loads in a millisecond. For
each pattern it says which four letters (three, two) a text must contain for the pattern to have a chance (``grams``),
so that a reply meets only the few patterns that may fit. ``--check`` writes nothing and fails where the file is stale.
"""

import json
import sys
import tomllib
from collections import Counter
from pathlib import Path
from re import _constants as ops, _parser
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "probe" / "smtpprobe" / "rules"
TARGET = ROOT / "probe" / "smtpprobe" / "rules.json"
MIN_LITERAL = 3
MAX_GAP = 160
_BOUNDED = {ops.ANY, ops.IN, ops.LITERAL, ops.CATEGORY}


class RuleError(ValueError):
    """A rule that cannot be used; the text names it."""


def read_rules() -> list[dict[str, Any]]:
    """Return the rules of all files in the order in which they are tried."""
    return [rule for file in sorted(SOURCES.glob("*.toml")) for rule in tomllib.loads(file.read_text("utf-8"))["rule"]]


def compiled() -> str:
    """Return the JSON text of the compiled form."""
    rules = read_rules()
    patterns = [pattern for rule in rules for pattern in rule.get("text", [])]
    rarity = Counter(gram for pattern in patterns for gram in _grams(pattern))
    rarity.update(gram for rule in rules for gram in _grams(rule["example"][1].lower()) for _ in range(4))
    index: dict[str, list[list[int]]] = {}
    out = []
    for number, rule in enumerate(rules):
        for key in ("text", "unless"):
            for pattern in rule.get(key, []):
                check_linear(rule["id"], pattern)
        for place, pattern in enumerate(rule.get("text", [])):
            for gram in {_gram(literal, rarity) for literal in required(rule["id"], pattern)}:
                index.setdefault(gram, []).append([number, place])
        out.append({key: value for key, value in rule.items() if key not in {"example", "facts"}})
    lines = ["{", '"rules": [']
    lines.append(",\n".join(json.dumps(rule, ensure_ascii=False) for rule in out))
    lines += ["],", '"grams": {']
    lines.append(",\n".join(f"{json.dumps(g, ensure_ascii=False)}: {json.dumps(index[g])}" for g in sorted(index)))
    return "\n".join([*lines, "}}"]) + "\n"


def required(rule: str, pattern: str) -> set[str]:
    """Return literals of which a text must contain one for ``pattern`` to match."""
    found = _factor(_parser.parse(pattern))
    if not found or any(len(literal) < MIN_LITERAL and literal.isascii() for literal in found):
        raise RuleError(f"{rule}: no literal of three letters in {pattern!r}: {found}")
    return found


def check_linear(rule: str, pattern: str) -> None:
    """Refuse what can take more than linear time: unbounded repeats, repeats inside repeats, more than three gaps."""
    gaps = _gaps(rule, pattern, _parser.parse(pattern))
    if gaps > 3:
        raise RuleError(f"{rule}: more than three gaps in {pattern!r}")


def _gaps(rule: str, pattern: str, parsed: Any) -> int:
    gaps = 0
    for op, argument in parsed:
        if op in {ops.MAX_REPEAT, ops.MIN_REPEAT, ops.POSSESSIVE_REPEAT}:
            _, most, inner = argument
            if most is ops.MAXREPEAT or most > MAX_GAP:
                raise RuleError(f"{rule}: unbounded repeat in {pattern!r}")
            if most > 1 and (len(inner) != 1 or inner[0][0] not in _BOUNDED):
                raise RuleError(f"{rule}: repeated group in {pattern!r}")
            gaps += most > 3
            gaps += _gaps(rule, pattern, inner)
        elif op is ops.SUBPATTERN:
            gaps += _gaps(rule, pattern, argument[3])
        elif op is ops.BRANCH:
            gaps += max(_gaps(rule, pattern, branch) for branch in argument[1])
        elif op in {ops.ASSERT, ops.ASSERT_NOT, ops.GROUPREF}:
            raise RuleError(f"{rule}: look-around or back reference in {pattern!r}")
    return gaps


def _factor(parsed: Any) -> set[str] | None:
    candidates: list[set[str]] = []
    run = ""
    for op, argument in [*parsed, (None, None)]:
        if op is ops.LITERAL:
            run += chr(argument)
            continue
        if run:
            candidates.append({run})
            run = ""
        found = None
        if op is ops.SUBPATTERN:
            found = _factor(argument[3])
        elif op is ops.BRANCH:
            branches = [_factor(branch) for branch in argument[1]]
            found = set().union(*branches) if all(branches) else None
        elif op is ops.MAX_REPEAT and argument[0] > 0:
            found = _factor(argument[2])
        if found:
            candidates.append(found)
    return max(candidates, key=lambda c: (min(*map(len, c), 6), -len(c), min(map(len, c))), default=None)


def _grams(text: str, size: int = 4) -> set[str]:
    return {text[i : i + size] for i in range(len(text) - size + 1)}


def _gram(literal: str, rarity: Counter[str]) -> str:
    if len(literal) < 5:
        return literal
    return min(sorted(_grams(literal)), key=lambda gram: (rarity[gram], gram))


def main() -> int:
    """Write or check the compiled file."""
    text = compiled()
    if "--check" in sys.argv[1:]:
        if TARGET.read_text("utf-8") != text:
            print(f"{TARGET.name} is stale: run python tools/compile_rules.py")
            return 1
        return 0
    TARGET.write_text(text, "utf-8")
    print(f"{TARGET.name}: {text.count(chr(10))} lines, {len(text)} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
