"""People in front of the real API server: kubectl as one user, with that user's own token."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")


class Done(NamedTuple):
    """What a command ended with."""

    code: int
    out: str
    err: str


class Person(NamedTuple):
    """One user of the test cluster. ``name`` is the user's name for the API server, and the token."""

    name: str
    token: str

    def kubectl(self, *arguments: str, stdin: object = None, shell: str = "") -> Done:
        """Run kubectl as this person; ``stdin`` is text or an object that becomes JSON; ``shell`` is a whole line."""
        server = kubernetes()
        config = Path(server["kubeconfigs"]["alice"])  # the cluster's address and CA; the token decides who asks
        text = stdin if isinstance(stdin, str) or stdin is None else json.dumps(stdin)
        options = [f"--kubeconfig={config}", f"--token={self.token}"]
        command: list[str] | str = ["kubectl", *options, *arguments]
        if shell:
            command = shell.replace("kubectl ", f"kubectl {' '.join(options)} ")
        done = subprocess.run(
            command, input=text, capture_output=True, text=True, timeout=60, check=False, shell=bool(shell)
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def must(self, *arguments: str, stdin: object = None, shell: str = "") -> str:
        """Run kubectl and return its output; AssertionError with its own words where it fails."""
        done = self.kubectl(*arguments, stdin=stdin, shell=shell)
        if done.code:
            raise AssertionError(f"{self.name}: kubectl {shell or ' '.join(arguments)}\n{done.err}")
        return done.out

    def get(self, *arguments: str) -> Any:
        """``kubectl get … -o json`` as a value."""
        return json.loads(self.must("get", *arguments, "-o", "json"))


def kubernetes() -> dict[str, Any]:
    """The facts about the API server of the test cluster that this process runs in."""
    facts = json.loads(Path(os.environ["SMTPPROBE_TEST_CLUSTER"]).read_text())
    return dict(facts["kubernetes"])


def person(name: str) -> Person:
    """A user of the test cluster: admin, alice or bob."""
    return Person(name, name)


def service_account(admin: Person, namespace: str, name: str) -> Person:
    """Act as a service account, with a token that the API server made."""
    token = admin.must("create", "token", "-n", namespace, name).strip()
    return Person(f"system:serviceaccount:{namespace}:{name}", token)


def until(what: str, ask: Callable[[], T | None], seconds: float = 30) -> T:
    """Ask until the answer is true; AssertionError naming ``what`` after the deadline."""
    end = time.monotonic() + seconds
    while True:
        answer = ask()
        if answer:
            return answer
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {seconds:g} s")
        time.sleep(0.1)
