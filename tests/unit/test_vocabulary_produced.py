"""Every word of the vocabulary has something that produces it, except those that say so here."""

import re
from enum import StrEnum
from pathlib import Path

import pytest

import smtpprobe
import smtpprobe_operator
from smtpprobe import egress_words, vocabulary
from smtpprobe.vocabulary import (
    EgressMethod,
    EgressReason,
    EgressVerdict,
    Note,
    Outcome,
    Reason,
    StageOutcome,
    StateReason,
)

FOLDERS = [Path(next(iter(package.__path__))) for package in (smtpprobe, smtpprobe_operator)]
CODE = "\n".join(
    path.read_text("utf-8")
    for folder in FOLDERS
    for path in sorted(folder.glob("*.py"))
    if path.name not in {Path(module.__file__).name for module in (vocabulary, egress_words)}
)
RULES = "\n".join(path.read_text("utf-8") for path in sorted((FOLDERS[0] / "rules").glob("*.toml")))
# Decided words that wait for the runs from several locations and for our own message coming back.
NOT_YET = {
    *(StateReason.SUPERSEDED, StateReason.NOT_OBSERVABLE),
    *(EgressReason.RELAY_BY_IP_PROVEN, EgressReason.LOCATION_DEPENDENT, EgressReason.REFUSED_EVERYWHERE),
    EgressVerdict.MIXED,
    EgressMethod.RECEIVED_HEADER,
    Note.PER_DESTINATION_NAT,
}


def produced(word: StrEnum) -> bool:
    """Whether the code outside the vocabulary names a word, or a rule of the classifier gives it."""
    named = re.search(rf"\b{type(word).__name__}\.{word.name}\b", CODE)
    return named is not None or (isinstance(word, Reason) and f'"{word.value}"' in RULES)


@pytest.mark.parametrize(
    "words", [Reason, StateReason, EgressReason, EgressVerdict, EgressMethod, Note, Outcome, StageOutcome]
)
def test_exactly_the_listed_words_are_not_produced_yet(words: type[StrEnum]) -> None:
    """A word that nothing produces is in the list of words that wait, and no word that is produced is."""
    waiting = {word for word in words if not produced(word)}
    assert waiting == {word for word in NOT_YET if isinstance(word, words)}
