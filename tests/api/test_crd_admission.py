"""The CRD on a real API server: the same manifests as in tests/unit/test_spec.py get the same sentences."""

import copy
import re

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from k8s import Answer, Api, probes
from manifest_cases import Case, load, pairs

from smtpprobe import spec as specs
from smtpprobe.specshape import Problem

GOOD, BAD = load("good"), load("bad")
STOPPED = "some validation rules were not checked because the object was invalid"
UNKNOWN = "unknown field"
pytestmark = pytest.mark.usefixtures("crd")


def put(api: Api, raw: dict, validation: str = "Strict") -> Answer:
    """Create with server-side dry-run: everything but the storing."""
    return api.post(probes("default"), raw, dryRun="All", fieldValidation=validation)


def said(answer: Answer) -> tuple[set[tuple[str, str]], bool]:
    """The (field, sentence) pairs of a refusal, without the value that the API server puts before each; whether it
    says that it checked no rules."""
    found, stopped = set(), False
    for cause in answer.causes:
        field, message = cause["field"], cause["message"]
        if STOPPED in message:
            stopped = True
            continue
        if "Checked value must be of type" in message:  # said once more, at no field, for 58.7 in place of an integer
            continue
        typed = re.search(r"\S+ in body must be of type .*", message)
        if typed:
            found.add((field, typed.group()))
        else:
            found.add(
                (
                    field,
                    re.sub(
                        r'\AInvalid value: (?:"(?:[^"\\]|\\.)*": |\{.*\}: |\[.*\]: |[-0-9.]+: |(?:true|false): )?',
                        "",
                        message,
                    ),
                )
            )
    return found, stopped


def short(problem: Problem) -> tuple[str, str]:
    """What the API server says of a problem: without the hint that Python puts behind the schema's own words."""
    message = re.sub(r"^Required value: .*", "Required value", problem.message)
    return problem.field, message.removesuffix("; write it in quotes")


def compare(answer: Answer, case: Case) -> None:
    """The API server and the Python check say the same; where the schema stops it early, it says no more than Python."""
    problems = {short(problem) for problem in specs.parse(case.spec).problems}
    named, stopped = said(answer)
    assert answer.status == 422, (case, answer.body)
    assert named
    assert named <= problems, case
    if not stopped:
        assert named >= {problem for problem in problems if not _python_only(problem)}, case


def _python_only(problem: tuple[str, str]) -> bool:
    return UNKNOWN in problem[1] or problem in {
        (field, text) for case in BAD if case.python_only for field, text in case.expected
    }


@pytest.mark.parametrize("case", GOOD, ids=str)
def test_a_good_manifest_is_admitted(api: Api, case: Case) -> None:
    """The API server takes each good manifest, without a warning."""
    answer = put(api, case.raw)
    assert answer.status == 201, answer.body
    assert answer.warnings == ()


@pytest.mark.parametrize("case", [case for case in BAD if not case.python_only], ids=str)
def test_a_bad_manifest_is_refused_with_its_sentence(api: Api, case: Case) -> None:
    """Each fault is refused at its field, in the very words of the Python check."""
    answer = put(api, case.raw)
    if UNKNOWN in case.expected[0][1]:
        assert answer.status == 400
        assert f'{UNKNOWN} "{case.expected[0][0]}"' in answer.body["message"]
        return
    compare(answer, case)


@pytest.mark.parametrize("case", [case for case in BAD if case.python_only], ids=str)
def test_what_only_python_sees_is_admitted(api: Api, case: Case) -> None:
    """A fault marked `only python` passes the API server: the condition Accepted has to say it."""
    assert put(api, case.raw).status == 201


def test_no_refusal_hides_another(api: Api) -> None:
    """Of any two faults in one manifest the API server names both, unless a type, a size or a missing field stops it."""
    seen = [case for case in BAD if UNKNOWN not in case.expected[0][1] and not case.python_only]
    both = stopped = 0
    for case in pairs(seen):
        answer = put(api, case.raw)
        compare(answer, case)
        named, early = said(answer)
        if early:
            stopped += 1
            continue
        both += 1
        assert {field for field, _ in named} >= {field for field, _ in case.expected}, case
    print(f"{both} pairs named whole, {stopped} stopped by the schema")
    assert both > 3000


WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=20) | st.text(
    "abz019.-_@:/[]<> \r\n\t\x00+*,#\"'%{}~é한 \u2028", max_size=20
)
SPECS = st.fixed_dictionaries(
    {
        "host": WORDS,
        "port": st.integers(-1, 70000),
        "mode": st.sampled_from(["plain", "starttls", "smtps", "SSL"]) | WORDS,
    },
    optional={
        "heloName": WORDS,
        "mechanism": st.sampled_from(["auto", "PLAIN", "login"]) | WORDS,
        "depth": st.sampled_from(["greeting", "tls", "auth", "envelope"]) | WORDS,
        "credentialsSecretRef": st.fixed_dictionaries({"name": WORDS}, optional={"passwordKey": WORDS}),
        "envelope": st.fixed_dictionaries({"from": WORDS}, optional={"to": st.lists(WORDS, max_size=6)}),
        "tls": st.fixed_dictionaries(
            {}, optional={"serverName": WORDS, "minVersion": WORDS, "insecureSkipVerify": st.booleans()}
        ),
        "schedule": st.fixed_dictionaries(
            {},
            optional={
                "interval": st.from_regex(r"\A[0-9]{1,3}[hmsd]?([0-9][hms])?\Z") | WORDS,
                "once": st.booleans(),
            },
        ),
        "egress": st.fixed_dictionaries(
            {
                "expectedCIDRs": st.lists(
                    st.ip_addresses().map(str) | st.from_regex(r"\A[0-9]{1,3}(\.[0-9]{1,3}){3}/[0-9]{1,2}\Z") | WORDS,
                    max_size=4,
                )
            }
        ),
        "location": st.fixed_dictionaries(
            {},
            optional={
                "nodeSelector": st.dictionaries(st.from_regex(r"\A[a-z./_-]{1,12}\Z"), WORDS, max_size=3),
                "tolerations": st.lists(
                    st.fixed_dictionaries(
                        {},
                        optional={
                            "key": st.sampled_from(["", "a"]) | WORDS,
                            "operator": st.sampled_from(["Exists", "Equal", "Lt"]),
                            "value": WORDS,
                            "effect": st.sampled_from(["", "NoExecute", "No"]),
                            "tolerationSeconds": st.integers(0, 5),
                        },
                    ),
                    max_size=2,
                ),
                "serviceAccountName": WORDS,
            },
        ),
        "timeoutSeconds": st.integers(0, 200),
    },
)


@settings(max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck))
@given(SPECS)
def test_whatever_is_written_both_sides_say_the_same(api: Api, spec: dict) -> None:
    """A thousand specs of odd words: the API server refuses exactly what Python refuses, field by field."""
    raw = {"apiVersion": "smtpprobe.dev/v1alpha1", "kind": "SmtpProbe", "metadata": {"name": "odd"}, "spec": spec}
    answer = put(api, raw)
    problems = specs.parse(spec).problems
    if not problems:
        assert answer.status == 201, answer.body
    else:
        compare(answer, Case("odd", raw))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 70000) | st.sampled_from([0.5, "", "a", "1"]),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["name", "key", "from", "x"]), inner, max_size=2)
    ),
    max_leaves=3,
)
WHOLE = next(case for case in GOOD if case.name == "everything")


def places(value: object, path: tuple = ()) -> list[tuple]:
    """The path of every value inside a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] * bool(path) + [found for key, child in inner for found in places(child, (*path, key))]


@settings(max_examples=600, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.sampled_from(places(WHOLE.spec)), JSON), min_size=1, max_size=3))
def test_whatever_type_stands_anywhere_both_sides_say_the_same(api: Api, changes: list) -> None:
    """A whole spec with other types at odd places: the API server says nothing that Python does not say."""
    raw = copy.deepcopy(WHOLE.raw)
    for path, value in changes:
        parent = raw["spec"]
        try:
            for key in path[:-1]:
                parent = parent[key]
            parent[path[-1]] = value
        except (KeyError, IndexError, TypeError):
            continue
    problems = [problem for problem in specs.parse(raw["spec"]).problems if UNKNOWN not in problem.message]
    answer = put(api, raw, validation="Ignore")
    if not problems:
        assert answer.status == 201, answer.body
    else:
        compare(answer, Case("odd", raw))
