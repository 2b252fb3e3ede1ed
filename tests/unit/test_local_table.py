"""The table of the local operator, on terminals of any width."""

import re
import unicodedata

import pytest
from runs_made import NOON, finished, login_spec, passed, probe, refused

from smtpprobe.model import ProbeResult
from smtpprobe.resource import Status
from smtpprobe.status import fold
from smtpprobe.vocabulary import Reason, Stage
from smtpprobe_operator.registry import Probe
from smtpprobe_operator.table import table

SPEC = login_spec()
LONG = "a-probe-with-a-rather-long-name"


def made(name: str, result: ProbeResult, namespace: str = "shop") -> Probe:
    status = fold(Status(), SPEC, generation=1, finished=finished(SPEC, result), now=NOON)
    return probe(SPEC, status, name=name, namespace=namespace, uid=f"{namespace}/{name}")


GOOD = made("good", passed(SPEC))
BAD = made(LONG, refused(SPEC, Reason.RELAY_DENIED, Stage.RCPT))
FRESH = probe(SPEC, name="fresh", uid="fresh")


def width(line: str) -> int:
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in line)


def test_into_a_pipe() -> None:
    """Without a terminal each probe is one whole line in columns, sorted by name; what never ran is Pending."""
    header, *rows = table((GOOD, BAD, FRESH)).splitlines()
    assert header.split() == ["NAME", "READY", "REASON", "HOST", "PORT", "MODE", "EGRESS", "MESSAGE"]
    assert [row.split()[:3] for row in rows] == [
        [LONG, "False", "RelayDenied"],
        ["fresh", "Unknown", "Pending"],
        ["good", "True", "Succeeded"],
    ]
    assert {row.index("smtp.example.com") for row in rows} == {header.index("HOST")}
    assert rows[0].endswith("rcpt: 550 no")


@pytest.mark.parametrize("columns", [60, 80, 100, 130, 160, 300])
def test_on_a_terminal(columns: int) -> None:
    """No line is wider than the terminal from 80 columns on; only the message is cut or put under its row."""
    lines = table((GOOD, BAD, FRESH), width=columns).splitlines()
    if columns >= 80:
        assert max(map(width, lines)) <= columns
    text = "\n".join(lines)
    assert all(word in text for word in (LONG, "RelayDenied", "Succeeded", "550 no"))
    assert all(line == line.rstrip() for line in lines)


def test_colours_change_nothing_else() -> None:
    """Colours are around the word under READY alone, in both forms."""
    for columns in (80, 300):
        plain = table((GOOD, BAD, FRESH), width=columns)
        painted = table((GOOD, BAD, FRESH), width=columns, colour=True)
        assert re.findall(r"\x1b\[3[123]m(\w+)\x1b\[0m", painted) == ["False", "Unknown", "True"]
        assert re.sub(r"\x1b\[\d+m", "", painted).split() == plain.split()


def test_namespaces_only_where_there_are_several() -> None:
    """The namespace is a column where probes of several are shown."""
    assert "NAMESPACE" not in table((GOOD, BAD))
    assert table((GOOD, made("good", passed(SPEC), "bank"))).splitlines()[1].split()[:2] == ["bank", "good"]


def test_an_empty_table() -> None:
    """A folder without a probe gives the header alone."""
    assert table(()).split()[0] == "NAME"
