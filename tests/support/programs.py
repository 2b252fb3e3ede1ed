"""Our own programs as a person starts them, with manifests for servers on loopback."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import yaml

T = TypeVar("T")
BIN = Path(sys.executable).parent
ROOT = Path(__file__).resolve().parents[2]


def run(*words: str, stdin: bytes = b"", **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run one of our programs without a terminal; ``words[0]`` is its name."""
    done = subprocess.run(
        [BIN / words[0], *words[1:]],
        input=stdin,
        capture_output=True,
        timeout=90,
        check=False,
        env=os.environ | environment,
    )
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def eventually(what: str, ask: Callable[[], T | None], seconds: float = 60) -> T:
    """Ask until there is an answer."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        answer = ask()
        if answer:
            return answer
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} s: {what}")


def manifest(name: str, port: int, mode: str = "plain", *, namespace: str = "shop", **spec: Any) -> dict[str, Any]:
    """A SmtpProbe for a server on this machine."""
    return {
        "apiVersion": "smtpprobe.dev/v1alpha1",
        "kind": "SmtpProbe",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"host": "localhost", "port": port, "mode": mode, "heloName": "shop.example.com", "timeoutSeconds": 20}
        | spec,
    }


def login(name: str, username: str, password: str, *, namespace: str = "shop") -> dict[str, Any]:
    """A Secret."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "stringData": {"username": username, "password": password},
    }


def authority(name: str, file: str, *, namespace: str = "shop") -> dict[str, Any]:
    """A ConfigMap with a CA."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace},
        "data": {"ca.crt": Path(file).read_text()},
    }


def write(file: Path, *documents: dict[str, Any]) -> Path:
    """Put documents into a file, whole or not at all."""
    draft = file.with_suffix(".draft")
    draft.write_text(yaml.safe_dump_all(documents))
    return draft.replace(file)


def ready(resource: dict[str, Any]) -> str:
    """The reason of the condition Ready."""
    return next(str(c["reason"]) for c in resource["status"]["conditions"] if c["type"] == "Ready")
