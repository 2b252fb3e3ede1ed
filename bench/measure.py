"""Run commands in turn, A B A B …, and compare them by the operating system's own accounting."""

import os
import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple


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


def run(command: Command) -> Sample:
    """Run one command to its end, its output thrown away."""
    environment = {**os.environ, **(command.env or {})}
    start = time.perf_counter()
    process = subprocess.Popen(
        command.argv, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    return Sample(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, process.returncode)


def in_turn(commands: Sequence[Command], runs: int) -> dict[str, list[Sample]]:
    """Run each command once unmeasured, then ``runs`` times in turn.

    Raises RuntimeError where a command ends with another code than 0: a failed session is no figure.
    """
    samples: dict[str, list[Sample]] = {command.name: [] for command in commands}
    for turn in range(runs + 1):
        for command in commands:
            sample = run(command)
            if sample.code != 0:
                raise RuntimeError(f"{command.name} ended with {sample.code}: {' '.join(command.argv)}")
            if turn:
                samples[command.name].append(sample)
    return samples


def median(values: Sequence[float]) -> float:
    """Return the median of at least one value."""
    return statistics.median(values)


def ratio(ours: Sequence[float], peers: Sequence[float]) -> float:
    """Return the median of the ratios pair by pair: drift of the machine hits both sides of a pair."""
    return median([mine / theirs for mine, theirs in zip(ours, peers, strict=True)])
