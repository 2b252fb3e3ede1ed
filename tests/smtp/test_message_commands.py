"""Depth message and spec.language as people use them: check, try, and the local operator."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from certificates import pki
from hostile import Hostile
from programs import BIN, eventually, manifest, run, write
from stock import stock_server
from test_local_operator import Local, status, verdict

ENVELOPE = ["--from", "noreply@shop.example.com", "--to", "postmaster@other.example.org"]
REFUSED = "@hello\n< MAIL\n> 550 5.7.1 sender rejected by policy\n@rest"


@pytest.mark.parametrize("depth", [None, "envelope", "message"])
def test_check_sends_a_message_only_when_asked(depth: str | None) -> None:
    """An envelope alone never sends a mail; --depth message sends one, and the JSON names its Message-ID."""
    with stock_server("plain", pki().contexts["good"], "") as server:
        words = ["check", f"localhost:{server.port}", "--mode", "plain", *ENVELOPE, "--output", "json"]
        done = run("smtpprobe", *words, *(["--depth", depth] if depth else []))
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["outcome"]) == (0, "Passed"), done.stderr
    assert len(server.messages) == (depth == "message")
    if depth == "message":
        ((_, _, content),) = server.messages
        (run_id,) = [line.split()[-1] for line in content.decode().splitlines() if line.startswith("X-SmtpProbe: ")]
        assert any(f"run {run_id}" in line["text"] for line in answer["transcript"])
        assert [stage["stage"] for stage in answer["stages"]][-3:] == ["data", "dot", "quit"]


def test_check_wants_a_recipient_for_a_message() -> None:
    """--depth message without --to is a usage error in a sentence, and nothing is connected."""
    done = run("smtpprobe", "check", "localhost:1", "--mode", "plain", "--from", "a@b.example", "--depth", "message")
    assert done.returncode == 3
    assert "--depth: depth message sends a mail: add --from and --to with at least one recipient" in done.stderr


def korean(text: str) -> bool:
    return any("가" <= letter <= "힣" for letter in text)


def test_try_speaks_the_language_of_the_spec(tmp_path: Path) -> None:
    """The status has its advice in spec.language; the report too, unless --lang names another."""
    envelope = {"from": "noreply@shop.example.com", "to": ["postmaster@other.example.org"]}
    with Hostile([REFUSED], "plain") as server:
        file = write(tmp_path / "probe.yaml", manifest("order", server.port, language="ko", envelope=envelope))
        done = run("smtpprobe", "try", "-f", str(file))
        english = run("smtpprobe", "try", "-f", str(file), "--lang", "en")
    for told, here in ((done, True), (english, False)):
        report, _, resource = told.stdout.partition("---\n")
        assert korean(report) is here, report
        assert korean(yaml.safe_load(resource)["status"]["advice"]["text"])


def test_local_operator_changes_the_language_without_a_session(tmp_path: Path) -> None:
    """Another language is another generation and another advice; the server is not asked again."""
    spec: dict[str, Any] = {"envelope": {"from": "noreply@shop.example.com", "to": []}}
    with Hostile([REFUSED], "plain") as server:
        file = write(tmp_path / "probe.yaml", manifest("order", server.port, **spec))
        assert (BIN / "smtpprobe-operator").exists()
        local = Local(tmp_path)
        try:
            before = eventually("a failure", lambda: status(tmp_path, "order") if server.heard else None)
            eventually("advice", lambda: "advice" in (status(tmp_path, "order") or before)["status"])
            before = status(tmp_path, "order") or {}
            reason = next(c["reason"] for c in before["status"]["conditions"] if c["type"] == "Ready")
            write(file, manifest("order", server.port, language="ko", **spec))
            after = verdict(tmp_path, "order", reason, generation=2)
        finally:
            local.end()
        assert len(server.heard) == 1
    assert not korean(before["status"]["advice"]["text"])
    assert korean(after["status"]["advice"]["text"])
    assert after["status"]["lastRun"] == before["status"]["lastRun"]
