"""``smtpprobe check --hosts FILE``: many hosts in one process, each line as ``smtpprobe check LINE`` would do it.

One answer a line, in the order of the lines, each as soon as those before it are there; with ``--output json`` one
object a line (JSON lines) that begins with ``line`` and ``target`` and has ``error`` where the line is wrong. No login
is sent and no message: one account tried at many hosts, or the same mail to all of them, is what an attack looks like.
"""

import argparse
import asyncio
import functools
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from smtpprobe import tls
from smtpprobe.arguments import build_request
from smtpprobe.check import report_of, show
from smtpprobe.discovery import resolved
from smtpprobe.model import ProbeRequest, TranscriptLine
from smtpprobe.output import EXIT_CODES, Output, Report, as_object, broken
from smtpprobe.probing import probe
from smtpprobe.threads import beside
from smtpprobe.usage import UsageError, split_target
from smtpprobe.vocabulary import Depth, Mode, Outcome, Reason

MAX_PARALLEL = 256
_NO_LOGIN = "--hosts sends no login: one account at many hosts is what an attack looks like. Check one HOST with it"
_NO_MESSAGE = "--hosts sends no message: use --depth envelope, or check one HOST with --depth message"


class Entry(NamedTuple):
    """A line of the file that names a host: its number from 1, and what stands on it."""

    number: int
    target: str


def entries(raw: bytes) -> Iterator[Entry]:
    """Give the lines that are neither empty nor a comment; ``#`` begins one anywhere on a line."""
    for number, line in enumerate(raw.decode("utf-8", "backslashreplace").splitlines(), 1):
        target = line.partition("#")[0].strip()
        if target:
            yield Entry(number, target)


async def check_hosts(options: argparse.Namespace) -> int:
    """Check all hosts of the file and print an answer for each; returns the worst exit code."""
    wanted = list(entries(_read(options)))
    if not wanted:
        raise UsageError(f"--hosts {options.hosts}: it names no host; write HOST or HOST:PORT, one a line")
    common = _common(options)
    if common.mode is not Mode.PLAIN:
        await beside(functools.partial(tls.shared, common.tls))
    answers = _Answers(options, wanted)
    left, hosts = iter(wanted), defaultdict[str, asyncio.Lock](asyncio.Lock)
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(options.parallel, len(wanted))):
                group.create_task(_work(options, common, left, hosts, answers))
    except asyncio.CancelledError:
        print("smtpprobe check: interrupted", file=sys.stderr)
    answers.close()
    return answers.worst


async def _work(
    options: argparse.Namespace,
    common: ProbeRequest,
    left: Iterable[Entry],
    hosts: defaultdict[str, asyncio.Lock],
    answers: "_Answers",
) -> None:
    for entry in left:  # shared by all workers
        try:
            request = _request(options, common, entry)
        except UsageError as problem:
            answers.take(entry, _unreadable(entry, str(problem)))
            continue
        # A session has at most two connections at a time, so a host has no more however often it is listed.
        async with hosts[request.host.lower()]:
            lines: list[TranscriptLine] = []
            result = await probe(request, None, on_line=lines.append)
        answers.take(entry, report_of(options, resolved(request, result), result, tuple(lines)))


def _read(options: argparse.Namespace) -> bytes:
    if options.username is not None or options.password_file is not None:
        raise UsageError(_NO_LOGIN)
    if options.depth == Depth.MESSAGE:
        raise UsageError(_NO_MESSAGE)
    if options.settings:
        raise UsageError("--settings is for one HOST, not for --hosts")
    if not 1 <= options.parallel <= MAX_PARALLEL:
        raise UsageError(f"--parallel {options.parallel}: write a number from 1 to {MAX_PARALLEL}")
    try:
        return sys.stdin.buffer.read() if options.hosts == "-" else Path(options.hosts).read_bytes()
    except OSError as error:
        raise UsageError(f"--hosts {options.hosts}: {error.strerror}") from None


def _common(options: argparse.Namespace) -> ProbeRequest:
    """Check once what stands beside the hosts, so that no line is blamed for it."""
    return build_request(argparse.Namespace(**vars(options) | {"host": "host.example.com:587"}))


def _request(options: argparse.Namespace, common: ProbeRequest, entry: Entry) -> ProbeRequest:
    if any(letter.isspace() for letter in entry.target):
        raise UsageError("write one HOST or HOST:PORT a line, nothing behind it but a # comment")
    split_target(entry.target)
    request = build_request(argparse.Namespace(**vars(options) | {"host": entry.target, "ca": None}))
    return msgspec.structs.replace(request, tls=common.tls)


def _unreadable(entry: Entry, problem: str) -> Report:
    return Report(request=None, result=broken(Reason.SPEC_INVALID, f"line {entry.number}: {problem}"))


class _Answers:
    """Hold answers back until those before them are there, then print them; count outcomes."""

    def __init__(self, options: argparse.Namespace, wanted: list[Entry]) -> None:
        self._options = options
        self._wanted = wanted
        self._next = 0
        self._held: dict[int, Report] = {}
        self._whole: list[Report] = []
        self._count: Counter[Outcome] = Counter()
        self._output = Output(options.output)
        self.worst = 0

    def take(self, entry: Entry, report: Report) -> None:
        """Print an answer as soon as it is its turn."""
        self._held[entry.number] = report
        while self._next < len(self._wanted) and self._wanted[self._next].number in self._held:
            at = self._wanted[self._next]
            self._say(at, self._held.pop(at.number))
            self._next += 1

    def close(self) -> None:
        """Print what is held back, also where the run was interrupted: then the others say that they were not checked.

        YAML, JUnit and Nagios have one document for all.
        """
        for entry in self._wanted[self._next :]:
            report = self._held.get(entry.number)
            self._say(entry, report or _unreadable(entry, f"{entry.target} was not checked: interrupted"))
        if self._whole:
            show(self._options, tuple(self._whole))
        told = ", ".join(f"{count} {outcome}" for outcome, count in sorted(self._count.items()))
        print(f"smtpprobe check: {told}", file=sys.stderr)

    def _say(self, entry: Entry, report: Report) -> None:
        self._count[report.result.outcome] += 1
        self.worst = max(self.worst, EXIT_CODES[report.result.outcome])
        if self._output is Output.JSON:
            where = {"line": entry.number, "target": entry.target}
            wrong = {} if report.request else {"error": report.result.message}
            print(json.dumps(where | as_object(report) | wrong, ensure_ascii=False), flush=True)
        elif self._output is Output.TEXT:
            print(_line(entry, report), flush=True)
        else:
            self._whole.append(report)


def _line(entry: Entry, report: Report) -> str:
    result = report.result
    reason = result.verdict.reason.value if result.verdict is not None else "-"
    return f"{entry.target:32} {result.outcome.value:6} {reason:22} {result.message}".rstrip()
