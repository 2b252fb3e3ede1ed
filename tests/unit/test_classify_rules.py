"""The rules themselves: each is found by its own example, none can be slow, the compiled form is theirs."""

import time

import pytest
from hypothesis import given, settings, strategies as st
from rulebook import compiler, example_facts

from smtpprobe import classify as classifier
from smtpprobe.classify import classify
from smtpprobe.normalize import MAX_CHARS, normalize
from smtpprobe.vocabulary import REASONS, Reason, Stage

COMPILER = compiler()
RULES = COMPILER.read_rules()
PATTERNS = [(rule["id"], p) for rule in RULES for p in (*rule.get("text", ()), *rule.get("unless", ()))]
# Reasons that no reply and no client error can mean: they are facts of our own run, or what the session itself sees.
NOT_FROM_TEXT = {reason for reason, facts in REASONS.items() if facts.group == "could not run"} | {
    Reason.STARTTLS_INJECTION,
    Reason.UNKNOWN,
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["id"])
def test_the_first_rule_that_fits_its_example_is_the_rule_itself(rule):
    """Each rule's example classifies to that rule, with its reason and its confidence."""
    stage, text = rule["example"]
    verdict = classify(Stage(stage), text, example_facts(rule))
    assert (verdict.rule, verdict.reason, verdict.confidence) == (rule["id"], rule["reason"], rule["confidence"])


def test_rule_ids_are_unique():
    """A rule id names one rule."""
    ids = [rule["id"] for rule in RULES]
    assert len(ids) == len(set(ids))


def test_the_compiled_form_is_made_from_the_sources():
    """rules.json is what tools/compile_rules.py makes of rules/*.toml."""
    assert COMPILER.TARGET.read_text("utf-8") == COMPILER.compiled()


def test_every_reason_that_a_text_can_mean_has_a_rule():
    """Each reason of the vocabulary that words can mean is the verdict of at least one rule."""
    assert {Reason(rule["reason"]) for rule in RULES} >= set(Reason) - NOT_FROM_TEXT


def test_an_alternative_is_another_reason_and_less_likely():
    """No rule lists its own reason as alternative, and no alternative is likelier than the verdict."""
    for rule in RULES:
        verdict = classify(Stage(rule["example"][0]), rule["example"][1], example_facts(rule))
        reasons = [alternative.reason for alternative in verdict.alternatives]
        assert verdict.reason not in reasons, rule["id"]
        assert len(reasons) == len(set(reasons)), rule["id"]
        assert all(a.confidence <= verdict.confidence for a in verdict.alternatives), rule["id"]


def test_stage_and_code_alone_never_speak_with_high_confidence():
    """A rule without words stays under 0.8."""
    assert [rule["id"] for rule in RULES if not rule.get("text") and rule["confidence"] >= 0.8] == []


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ("relay.*denied", "unbounded"),
        ("(relay )+denied", "unbounded"),
        ("(ab?){1,40}relay", "repeated group"),
        (".{0,9}relay.{0,9}is.{0,9}not.{0,9}ok", "three gaps"),
        ("(?=relay)relay", "look-around"),
    ],
)
def test_a_pattern_that_could_be_slow_is_refused(bad, why):
    """The compiler refuses unbounded repeats, repeated groups, many gaps and look-around."""
    with pytest.raises(COMPILER.RuleError, match=why):
        COMPILER.check_linear("rule", bad)


def test_a_pattern_without_a_literal_is_refused():
    """A pattern that no few letters announce would meet every text, and is refused."""
    with pytest.raises(COMPILER.RuleError, match="no literal"):
        COMPILER.required("rule", "\\bip\\b.{0,9}[0-9]")


def test_no_pattern_is_slow_on_text_made_against_it():
    """Each pattern takes at most 50 ms on 4,096 characters of its own beginnings repeated."""
    slow = []
    for rule, pattern in PATTERNS:
        literals = list(COMPILER.required(rule, pattern)) if pattern in _indexed() else ["a"]
        for filler in (literals[0], literals[0] + " ", literals[0][:-1] + " "):
            text = (filler * MAX_CHARS)[:MAX_CHARS]
            took = min(_cpu_seconds(classifier._pattern(pattern), text) for _ in range(3))
            if took > 0.05:
                slow.append((rule, pattern, took))
    assert slow == []


def _cpu_seconds(search, text):
    begin = time.thread_time()
    search(text)
    return time.thread_time() - begin


def _indexed():
    return {pattern for rule in RULES for pattern in rule.get("text", ())}


@pytest.mark.parametrize(
    "piece",
    [
        "(",
        " ",
        "; from=<",
        "said: 550 ",
        "(in reply to ",
        "550, b'",
        "5.7.1 ",
        "error 55",
        "\n 550",
        "category: ",
        "smtp;",
    ],
)
def test_what_is_taken_off_around_a_reply_is_found_in_time(piece):
    """4,096 characters made of beginnings of wrappers are brought into form within 50 ms."""
    text = "NegativeCompletion, " + piece * MAX_CHARS
    assert min(_cpu_seconds(normalize, text) for _ in range(3)) < 0.05


def test_a_hostile_reply_of_any_length_is_judged_in_time():
    """A megabyte of the words that most rules look for is classified within half a second."""
    words = " ".join(
        word for rule in RULES for p in rule.get("text", ()) for word in sorted(COMPILER.required(rule["id"], p))
    )
    begin = time.perf_counter()
    classify(Stage.RCPT, "550 " + words * 40)
    assert time.perf_counter() - begin < 0.5


@settings(max_examples=300, deadline=None)
@given(stage=st.sampled_from(list(Stage)), text=st.text(max_size=300))
def test_any_text_gets_a_verdict(stage, text):
    """Whatever a server says, classify answers with a reason of the vocabulary and a confidence between 0 and 1."""
    verdict = classify(stage, text)
    assert verdict.reason in Reason
    assert 0 <= verdict.confidence <= 1


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(RULES), st.sampled_from(["upper", "fold", "crlf", "space"]))
def test_case_folding_and_spacing_change_no_verdict(rule, change):
    """A reply in capitals, with doubled spaces or CRLF at its ends, means the same."""
    stage, text = rule["example"]
    if "\\x" in text or not text.isascii():
        return
    changed = {"upper": text.upper(), "fold": text, "crlf": text + "\r\n", "space": text.replace(" ", "  ")}[change]
    if change == "upper" and rule.get("names"):
        changed = text
    if change == "space":
        changed = changed.replace("  ", " ", 1)
    assert classify(Stage(stage), changed, example_facts(rule)).reason == rule["reason"]
