"""Pure: one result in the forms that people, scripts and monitoring systems read.

``FORMATS`` maps each ``--output`` word to a function of ``Report``s; a new form is one entry here.
"""

import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import msgspec
import yaml

from smtpprobe.model import ProbeRequest, ProbeResult, TranscriptLine, Value, Verdict
from smtpprobe.resource import Advice
from smtpprobe.summary import endpoint
from smtpprobe.vocabulary import Outcome, Reason, StageOutcome, StateReason

EXIT_CODES = {Outcome.PASSED: 0, Outcome.FAILED: 2, Outcome.ERROR: 3}


class Output(StrEnum):
    """The words of ``--output``."""

    TEXT = "text"
    JSON = "json"
    YAML = "yaml"
    JUNIT = "junit"
    NAGIOS = "nagios"


class Report(Value, frozen=True, kw_only=True):
    """One result with what belongs to it.

    ``advice`` is None where the run passed, ``request`` where usage left none to run.
    """

    request: ProbeRequest | None
    result: ProbeResult
    advice: Advice | None = None
    lang: str = "en"
    transcript: tuple[TranscriptLine, ...] = ()


def as_object(report: Report) -> dict[str, Any]:
    """Return the machine-readable object of ``check --output json``: all keys always present, camelCase."""
    request, result, verdict = report.request, report.result, report.result.verdict
    envelope = request.envelope if request else None
    return {
        "schemaVersion": result.schema_version,
        "host": request.host if request else None,
        "port": request.port or None if request else None,
        "mode": request.mode.value if request else None,
        "heloName": request.helo_name if request else None,
        "envelope": {"from": envelope.mail_from, "to": list(envelope.rcpt_to)} if envelope else None,
        "outcome": result.outcome.value,
        "reason": verdict.reason.value if verdict else StateReason.SUCCEEDED.value,
        "confidence": verdict.confidence if verdict else 1.0,
        "alternatives": [whole(known) for known in verdict.alternatives] if verdict else [],
        "rule": verdict.rule if verdict else None,
        "stage": result.stage.value if result.stage else None,
        "message": result.message,
        "stages": [whole(stage) for stage in result.stages],
        "addresses": [whole(address) for address in result.addresses],
        "serverIp": result.server_ip,
        "localPort": result.local_port,
        "features": whole(result.features),
        "tls": _tls(result),
        # What marks refused credentials is for the operator's pause alone.
        "auth": whole(msgspec.structs.replace(result.auth, salt=None, fingerprint=None)),
        "egress": whole(result.egress),
        "experiments": [whole(made) for made in result.experiments],
        "discovery": whole(result.discovery) if result.discovery else None,
        "notes": [note.value for note in result.notes],
        "advice": {"owner": report.advice.owner, "text": report.advice.text, "lang": report.lang}
        if report.advice
        else None,
        "transcript": [whole(line) for line in report.transcript],
        "startedAt": msgspec.to_builtins(result.started_at),
        "finishedAt": msgspec.to_builtins(result.finished_at),
    }


def whole(value: Value) -> dict[str, Any]:
    """Return the JSON form of a value with every key, also where the value is its default."""
    names = zip(value.__struct_encode_fields__, value.__struct_fields__, strict=True)
    return {key: _whole(getattr(value, name)) for key, name in names}


def _whole(value: Any) -> Any:
    if isinstance(value, Value):
        return whole(value)
    return [_whole(item) for item in value] if isinstance(value, tuple | list) else msgspec.to_builtins(value)


def _tls(result: ProbeResult) -> dict[str, Any] | None:
    """Return the TLS facts; each certificate also with the whole days that were left when the run ended."""
    if result.tls is None:
        return None
    chain = [whole(known) | {"daysLeft": (known.not_after - result.finished_at).days} for known in result.tls.chain]
    return whole(result.tls) | {"chain": chain}


def broken(reason: Reason, message: str) -> ProbeResult:
    """Return the result of a run that did not come about."""
    now = datetime.now(UTC)
    verdict = Verdict(reason=reason, rule="run:cannot")
    return ProbeResult(outcome=Outcome.ERROR, started_at=now, finished_at=now, verdict=verdict, message=message)


def no_result(output: Output, reason: Reason, message: str) -> str:
    """Return what stands on stdout where usage or a fault of our own prevented a result."""
    return FORMATS[output]((Report(request=None, result=broken(reason, message)),))


Reports = Sequence[Report]


def _json(reports: Reports) -> str:
    return json.dumps(_one_object(reports), ensure_ascii=False, indent=2)


def _yaml(reports: Reports) -> str:
    return yaml.safe_dump(_one_object(reports), allow_unicode=True, sort_keys=False).rstrip()


def _one_object(reports: Reports) -> dict[str, Any]:
    objects = [as_object(report) for report in reports]
    return objects[0] if len(objects) == 1 else {"results": objects}


def _junit(reports: Reports) -> str:
    """One suite a probe, one test case a stage, so that a CI system shows where the session ended."""
    suites = [_suite(report) for report in reports]
    root = suites[0]
    if len(suites) > 1:
        root = ET.Element("testsuites", name="smtpprobe")
        root.extend(suites)
    return ET.tostring(root, encoding="unicode", xml_declaration=True)


def _suite(report: Report) -> ET.Element:
    result, request = report.result, report.request
    name = f"{endpoint(request.host, request.port)}/{request.mode}" if request else "smtpprobe"
    suite = ET.Element("testsuite", name=_xml(name))
    told = {"type": result.verdict.reason.value if result.verdict else "", "message": _xml(result.message)}
    failures = errors = skipped = 0
    for stage in result.stages:
        label = " ".join(filter(None, (stage.stage.value, "after TLS" if stage.after_tls else "", stage.recipient)))
        seconds = f"{stage.elapsed_ms / 1000:.3f}"
        case = ET.SubElement(suite, "testcase", classname=_xml(name), name=_xml(label), time=seconds)
        if stage.outcome is StageOutcome.FAILED and result.verdict:
            failures += 1
            ET.SubElement(case, "failure", told)
        elif stage.outcome in {StageOutcome.SKIPPED, StageOutcome.NOT_REACHED}:
            skipped += 1
            ET.SubElement(case, "skipped", message=stage.outcome.value)
    if result.outcome is not Outcome.PASSED and result.verdict and not failures:
        case = ET.SubElement(suite, "testcase", classname=_xml(name), name="run", time="0.000")
        errors += 1
        ET.SubElement(case, "error", told)
    counts = {"tests": len(suite), "failures": failures, "errors": errors, "skipped": skipped}
    for key, count in counts.items():
        suite.set(key, str(count))
    return suite


_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _xml(text: str) -> str:
    """Write out what XML 1.0 §2.2 has no character for."""
    return _NOT_XML.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def _nagios(reports: Reports) -> str:
    """Return a plugin line with perfdata; CRITICAL is the mail path's no, UNKNOWN a probe that could not run.

    Several probes: the worst one's line first, the others as long output.
    """
    worst_first = sorted(reports, key=lambda report: EXIT_CODES[report.result.outcome], reverse=True)
    lines = [_plugin_line(report) for report in worst_first]
    return "\n".join([lines[0], *(line.split(" | ", maxsplit=1)[0] for line in lines[1:])])


def _plugin_line(report: Report) -> str:
    result = report.result
    state = {Outcome.PASSED: "OK", Outcome.FAILED: "CRITICAL", Outcome.ERROR: "UNKNOWN"}[result.outcome]
    reason = result.verdict.reason.value if result.verdict else StateReason.SUCCEEDED.value
    seconds = (result.finished_at - result.started_at).total_seconds()
    message = " ".join(result.message.replace("|", "/").split())
    return f"SMTP {state} - {reason}: {message} | time={seconds:.3f}s;;;0"


FORMATS: dict[Output, Callable[[Reports], str]] = {
    Output.JSON: _json,
    Output.YAML: _yaml,
    Output.JUNIT: _junit,
    Output.NAGIOS: _nagios,
}
