"""The classifier over every real reply of the tests: microseconds a reply."""

import time
from pathlib import Path

import yaml

from bench.measure import hold, median
from smtpprobe.classify import classify
from smtpprobe.explain import stage_of
from smtpprobe.vocabulary import Stage

CORPUS = Path(__file__).resolve().parent.parent / "tests/unit/data"
TRIES, MEDIAN_LIMIT_US = 7, 100


def main() -> None:
    """Print the median and the slowest hundredth: each reply's best, which no neighbour on the machine disturbs."""
    entries = [entry for path in sorted(CORPUS.glob("*replies*.yaml")) for entry in yaml.safe_load(path.read_text())]
    replies = [(stage_of(entry["stage"]), entry["text"]) for entry in entries]
    best = sorted(min(_microseconds(stage, text) for _ in range(TRIES)) for stage, text in replies)
    print(f"\nClassifier over {len(replies)} real replies, the best of {TRIES} each")
    print(f"median (bound {MEDIAN_LIMIT_US})  {median(best):6.0f} µs a reply")
    print(f"slowest hundredth   {best[len(best) * 99 // 100]:6.0f} µs a reply")
    hold("classifier, median µs a reply", median(best), MEDIAN_LIMIT_US)


def _microseconds(stage: Stage, text: str) -> float:
    begin = time.perf_counter()
    classify(stage, text)
    return (time.perf_counter() - begin) * 1e6
