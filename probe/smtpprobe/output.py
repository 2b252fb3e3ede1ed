"""Pure: one result in the forms that people, scripts and monitoring systems read.

``FORMATS`` maps each ``--output`` word to a function of a ``Report``; a new form is one entry here.
"""

import json
import xml.etree.ElementTree as ET
from collections.abc import Callable
from enum import StrEnum
from typing import Any

import msgspec
import yaml

from smtpprobe.model import ProbeRequest, ProbeResult, TranscriptLine, Value
from smtpprobe.resource import Advice
from smtpprobe.vocabulary import Outcome, StageOutcome, StateReason

EXIT_CODES = {Outcome.PASSED: 0, Outcome.FAILED: 2, Outcome.ERROR: 3}


class Output(StrEnum):
    """The words of ``--output``."""

    TEXT = "text"
    JSON = "json"
    YAML = "yaml"
    JUNIT = "junit"
    NAGIOS = "nagios"


class Report(Value, frozen=True, kw_only=True):
    """One result with what belongs to it; ``advice`` is None where the run passed."""

    request: ProbeRequest
    result: ProbeResult
    advice: Advice | None = None
    lang: str = "en"
    transcript: tuple[TranscriptLine, ...] = ()


def as_object(report: Report) -> dict[str, Any]:
    """Return the machine-readable object of ``check --output json``: all keys always present, camelCase."""
    result, verdict = report.result, report.result.verdict
    raw = msgspec.to_builtins(result)
    return {
        "schemaVersion": result.schema_version,
        "host": report.request.host,
        "port": report.request.port,
        "mode": report.request.mode.value,
        "outcome": result.outcome.value,
        "reason": verdict.reason.value if verdict else StateReason.SUCCEEDED.value,
        "confidence": verdict.confidence if verdict else 1.0,
        "alternatives": [{"reason": a.reason.value, "confidence": a.confidence} for a in verdict.alternatives]
        if verdict
        else [],
        "rule": verdict.rule if verdict else None,
        "stage": result.stage.value if result.stage else None,
        "message": result.message,
        "stages": [
            {
                "stage": stage.stage.value,
                "afterTls": stage.after_tls,
                "outcome": stage.outcome.value,
                "elapsedMs": stage.elapsed_ms,
                "recipient": stage.recipient,
                "detail": stage.detail,
                "reply": {"code": stage.reply.code, "enhanced": stage.reply.enhanced, "lines": list(stage.reply.lines)}
                if stage.reply
                else None,
            }
            for stage in result.stages
        ],
        "addresses": raw.get("addresses", []),
        "serverIp": result.server_ip,
        "localPort": result.local_port,
        "features": raw.get("features", {}),
        "tls": raw.get("tls"),
        "auth": raw.get("auth", {}),
        "egress": {"status": result.egress.status.value, "reason": result.egress.reason.value}
        | {"addresses": raw.get("egress", {}).get("addresses", [])},
        "experiments": raw.get("experiments", []),
        "notes": [note.value for note in result.notes],
        "advice": {"owner": report.advice.owner, "text": report.advice.text, "lang": report.lang}
        if report.advice
        else None,
        "transcript": [{"who": line.who, "atMs": line.at_ms, "text": line.text} for line in report.transcript],
        "startedAt": raw["startedAt"],
        "finishedAt": raw["finishedAt"],
    }


def _json(report: Report) -> str:
    return json.dumps(as_object(report), ensure_ascii=False, indent=2)


def _yaml(report: Report) -> str:
    return yaml.safe_dump(as_object(report), allow_unicode=True, sort_keys=False).rstrip()


def _junit(report: Report) -> str:
    """One test case a stage, so that a CI system shows where the session ended."""
    result = report.result
    name = f"{report.request.host}:{report.request.port}/{report.request.mode}"
    suite = ET.Element("testsuite", name="smtpprobe")
    failures = errors = skipped = 0
    for stage in result.stages:
        label = " ".join(filter(None, (stage.stage.value, "after TLS" if stage.after_tls else "", stage.recipient)))
        case = ET.SubElement(suite, "testcase", classname=name, name=label, time=f"{stage.elapsed_ms / 1000:.3f}")
        if stage.outcome is StageOutcome.FAILED and result.verdict:
            failures += 1
            ET.SubElement(case, "failure", type=result.verdict.reason.value, message=result.message)
        elif stage.outcome in {StageOutcome.SKIPPED, StageOutcome.NOT_REACHED}:
            skipped += 1
            ET.SubElement(case, "skipped", message=stage.outcome.value)
    if result.outcome is not Outcome.PASSED and result.verdict and not failures:
        case = ET.SubElement(suite, "testcase", classname=name, name="run", time="0.000")
        errors += 1
        ET.SubElement(case, "error", type=result.verdict.reason.value, message=result.message)
    counts = {"tests": len(suite), "failures": failures, "errors": errors, "skipped": skipped}
    for key, count in counts.items():
        suite.set(key, str(count))
    return ET.tostring(suite, encoding="unicode", xml_declaration=True)


def _nagios(report: Report) -> str:
    """Return a plugin line with perfdata; CRITICAL is the mail path's no, UNKNOWN a probe that could not run."""
    result = report.result
    state = {Outcome.PASSED: "OK", Outcome.FAILED: "CRITICAL", Outcome.ERROR: "UNKNOWN"}[result.outcome]
    reason = result.verdict.reason.value if result.verdict else StateReason.SUCCEEDED.value
    seconds = (result.finished_at - result.started_at).total_seconds()
    message = result.message.replace("|", "/")
    return f"SMTP {state} - {reason}: {message} | time={seconds:.3f}s;;;0"


FORMATS: dict[Output, Callable[[Report], str]] = {
    Output.JSON: _json,
    Output.YAML: _yaml,
    Output.JUNIT: _junit,
    Output.NAGIOS: _nagios,
}
