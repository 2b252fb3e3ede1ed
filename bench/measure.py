"""Run commands in turn, A B A B …, and compare them by the operating system's own accounting."""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

# As in an image: bytecode is there. A shell that forbids writing it would have each run compile what was edited last.
FRESH = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONUNBUFFERED": ""}
RUNNER = (sys.executable, "-I", "-S", str(Path(__file__).with_name("runner.py")))


class Sample(NamedTuple):
    """One finished process: wall and CPU seconds, peak resident MiB, exit code."""

    wall: float
    cpu: float
    peak_mib: float
    code: int


class Command(NamedTuple):
    """What to run, under which name it is shown."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] | None = None


def in_turn(commands: Sequence[Command], runs: int, warm_up: int = 1) -> dict[str, list[Sample]]:
    """Run each command ``warm_up`` times unmeasured, then ``runs`` times in turn.

    Raises RuntimeError where a command ends with another code than 0: a failed session is no figure.
    """
    samples: dict[str, list[Sample]] = {command.name: [] for command in commands}
    with subprocess.Popen(RUNNER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as runner:
        assert runner.stdin is not None
        assert runner.stdout is not None
        for turn in range(-warm_up, runs):
            for command in commands:
                print(
                    json.dumps([list(command.argv), {**os.environ, **FRESH, **(command.env or {})}]),
                    file=runner.stdin,
                    flush=True,
                )
                wall, cpu, peak, code = json.loads(runner.stdout.readline())
                if code != 0:
                    raise RuntimeError(f"{command.name} ended with {code}: {' '.join(command.argv)}")
                if turn >= 0:
                    samples[command.name].append(Sample(wall, cpu, peak / 1024, code))
        runner.stdin.close()
    return samples


class BoundPassedError(Exception):
    """A figure is over its bound; the text names both."""


def hold(name: str, figure: float, bound: float) -> None:
    """Raise BoundPassedError where a figure is over its bound: a benchmark that cannot fail says nothing."""
    if figure > bound:
        raise BoundPassedError(f"{name}: {figure:.2f} is over the bound {bound:g}")


def median(values: Sequence[float]) -> float:
    """Return the median of at least one value."""
    return statistics.median(values)


def ratio(ours: Sequence[float], peers: Sequence[float]) -> float:
    """Return the median of the ratios pair by pair: drift of the machine hits both sides of a pair."""
    return median([mine / theirs for mine, theirs in zip(ours, peers, strict=True)])
