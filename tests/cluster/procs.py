"""Programs of the cluster: each with a log of its own, and waits that end early and name the log when a program dies."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

TAIL_LINES = 25
POLL_SECONDS = 0.03


class StartError(Exception):
    """A part of the cluster did not come up; the text says which and shows the end of its log."""


@dataclass(frozen=True)
class Program:
    """One running program: its name, process and log file."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def tail(self) -> str:
        """The last lines of the log, with its path."""
        lines = self.log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
        return f"--- end of {self.name}'s log ---\n" + "\n".join(line[:400] for line in lines)


@dataclass
class Programs:
    """All programs started so far; they end with the PID namespace, never one by one."""

    logs: Path
    started: list[Program] = field(default_factory=list)

    def start(self, name: str, argv: list[str], *, netns: str = "", env: dict[str, str] | None = None) -> Program:
        """Start a program in a network namespace (default: ours) with stdout and stderr in its log."""
        log = self.logs / name
        # not `ip netns exec`: it remounts /sys and hides the cgroup mounts from containerd
        full = [*(["nsenter", f"--net=/run/netns/{netns}"] if netns else []), *argv]
        with log.open("ab") as out:
            process = subprocess.Popen(
                full,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=dict(os.environ) | (env or {}),
                start_new_session=True,  # Ctrl-C in the user's shell is not for the servers
            )
        program = Program(name, process, log)
        self.started.append(program)
        return program


def wait(what: str, ready: Callable[[], bool], *programs: Program, seconds: float = 180) -> None:
    """Return once `ready()` is true; raise StartError when a program that it needs has ended, or at the deadline."""
    deadline = time.monotonic() + seconds
    while not ready():
        for program in programs:
            if program.process.poll() is not None:
                code = program.process.returncode
                raise StartError(f"{what}: {program.name} ended with {code}\n{program.tail()}")
        if time.monotonic() > deadline:
            tails = "\n".join(program.tail() for program in programs)
            raise StartError(f"{what}: not ready after {seconds:.0f} s\n{tails}")
        time.sleep(POLL_SECONDS)


def run(argv: list[str], *, stdin: str = "") -> str:
    """Run a command to its end and return its stdout; raise StartError with its output when it fails."""
    done = subprocess.run(argv, input=stdin.encode(), capture_output=True, check=False)
    if done.returncode:
        output = (done.stdout + done.stderr).decode(errors="replace")
        raise StartError(f"{' '.join(argv)[:300]} ended with {done.returncode}:\n{output[-3000:]}")
    return done.stdout.decode(errors="replace")
