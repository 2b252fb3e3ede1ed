"""explain for whole things, hours later: what kubectl prints, a pod's termination message, what check wrote."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from runs_made import NOON, error, finished, login_spec, passed, refused
from test_command_line import FAILED
from test_report_text import LEAF

from smtpprobe.cli import main
from smtpprobe.codec import encode_result
from smtpprobe.model import AuthFacts, EgressAddress, EgressFinding, Mechanism, ProbeResult, Reply, TlsFacts
from smtpprobe.output import FORMATS, Output
from smtpprobe.resource import Status, encode_status
from smtpprobe.status import fold
from smtpprobe.vocabulary import EgressMethod, Reason, Stage, StageOutcome

RAW_SPEC = {
    "host": "smtp.example.com",
    "port": 587,
    "mode": "starttls",
    "credentialsSecretRef": {"name": "order-mail-smtp"},
    "heloName": "shop.example.com",
    "envelope": {"from": "noreply@shop.example.com", "to": ["orders@partner.example"]},
}
SPEC = login_spec(**RAW_SPEC)
KEYS = ["reason", "confidence", "alternatives", "rule", "owner", "advice"]


def refusal() -> ProbeResult:
    ours = EgressAddress(ip="203.0.113.7", family=4, rank="A1", method=EgressMethod.EHLO_REPLY)
    result = refused(
        SPEC,
        Reason.RELAY_DENIED,
        Stage.RCPT,
        auth=AuthFacts(sent=True, succeeded=True, mechanism=Mechanism.PLAIN, user_shape="address"),
        egress=EgressFinding(addresses=(ours,)),
    )
    said = Reply(code=554, enhanced="5.7.1", lines=("Relay access denied",))
    stages = tuple(
        msgspec.structs.replace(s, reply=said) if s.outcome is StageOutcome.FAILED else s for s in result.stages
    )
    return msgspec.structs.replace(
        result, stages=stages, tls=TlsFacts(protocol="TLSv1.3", verified=True, chain=(LEAF,))
    )


def resource(*results: ProbeResult, name: str = "order-mail", **spec: Any) -> dict[str, Any]:
    """A SmtpProbe as kubectl prints it after these runs."""
    status = Status()
    for number, result in enumerate(results, 1):
        end = finished(SPEC, result, f"slot:{number}")
        status = fold(status, SPEC, generation=1, finished=end, now=result.finished_at)
    return {
        "apiVersion": "smtpprobe.dev/v1alpha1",
        "kind": "SmtpProbe",
        "metadata": {"name": name, "namespace": "shop", "resourceVersion": "7", "managedFields": []},
        "spec": RAW_SPEC | spec,
        "status": encode_status(status),
    }


def explained(capsys: pytest.CaptureFixture[str], path: Path, *words: str) -> str:
    assert main(["explain", str(path), *words]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


@pytest.mark.parametrize("form", ["yaml", "json"])
def test_what_kubectl_prints_is_told_whole(form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From ``kubectl get -o yaml`` or ``-o json`` comes the whole diagnosis with proof, remedy and history."""
    probe = resource(passed(SPEC, NOON - timedelta(hours=1)), refusal())
    path = tmp_path / f"probe.{form}"
    path.write_text(yaml.safe_dump(probe) if form == "yaml" else json.dumps(probe))
    text = explained(capsys, path)
    for part in (
        "Ready=False RelayDenied",
        "554 5.7.1 Relay access denied",
        "mail admin",
        "smtp.example.com [198.51.100.5]:587 (starttls)",
        "203.0.113.7 (as the server named it: EhloReply)",
        "shop.example.com",
        "MAIL FROM:<noreply@shop.example.com> RCPT TO:<orders@partner.example>",
        "PLAIN, an address, accepted",
        "2026-11-22 12:00:00 UTC",
        "TLSv1.3",
        "still failing, 1 runs: RelayDenied",
        "2026-11-22 11:00:00 UTC  Passed Succeeded",
    ):
        assert part in text, part
    answer = json.loads(explained(capsys, path, "--output", "json"))
    assert list(answer) == KEYS
    assert (answer["reason"], answer["owner"]) == ("RelayDenied", "mail admin")
    assert "permit relay for 203.0.113.7; server smtp.example.com [198.51.100.5]:587" in answer["advice"]
    assert "릴레이" in json.loads(explained(capsys, path, "--output", "json", "--lang", "ko"))["advice"]


def test_the_days_of_a_certificate_are_those_of_the_reader(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What had weeks left when the session ran and has ended since is told as ended."""
    path = tmp_path / "probe.yaml"
    old = msgspec.structs.replace(
        LEAF, not_before=LEAF.not_before.replace(year=2001), not_after=LEAF.not_after.replace(year=2002)
    )
    result = msgspec.structs.replace(refusal(), tls=TlsFacts(protocol="TLSv1.3", verified=True, chain=(old,)))
    path.write_text(yaml.safe_dump(resource(result)))
    assert "days ago)" in explained(capsys, path)


def test_a_list_is_told_one_by_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``kubectl get smtpprobes -o yaml`` is a List: each is told under its name; as JSON they are ``results``."""
    path = tmp_path / "all.yaml"
    probes = [resource(refusal()), resource(passed(SPEC), name="fine"), resource(name="new")]
    path.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "List", "items": probes}))
    text = explained(capsys, path)
    assert text.index("shop/order-mail") < text.index("shop/fine") < text.index("shop/new")
    answers = json.loads(explained(capsys, path, "-o", "json"))["results"]
    assert [answer["reason"] for answer in answers] == ["RelayDenied", "Succeeded", "Pending"]


def test_a_manifest_without_a_status_has_nothing_to_tell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was never applied is no server's reply: it says that no run is in it."""
    path = tmp_path / "probe.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in resource().items() if key != "status"}))
    assert explained(capsys, path).strip() == "No finished run is in this status yet."


def test_a_run_that_could_not_take_place_is_the_present_story(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """After an Error its own reason and remedy are told, in JSON too, with the older answer kept below."""
    path = tmp_path / "probe.yaml"
    lost = error(Reason.SECRET_NOT_FOUND, NOON + timedelta(hours=1), "Secret order-mail-smtp is not there")
    path.write_text(yaml.safe_dump(resource(refusal(), lost)))
    text = explained(capsys, path)
    assert text.index("Create it with the keys") < text.index("554 5.7.1 Relay access denied")
    answer = json.loads(explained(capsys, path, "-o", "json"))
    assert (answer["reason"], answer["owner"], "Create it" in answer["advice"]) == (
        "SecretNotFound",
        "app developer",
        True,
    )


def test_an_answer_to_an_earlier_spec_names_no_new_host(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where the host was changed since, the old refusal is not told as the new host's."""
    path = tmp_path / "probe.yaml"
    path.write_text(yaml.safe_dump(resource(refusal(), host="other.example.net")))
    assert "other.example.net" not in explained(capsys, path)
    assert "other.example.net" not in explained(capsys, path, "-o", "json")


@pytest.mark.parametrize("form", [Output.JSON, Output.YAML])
def test_what_check_wrote_is_told_with_its_envelope(
    form: Output, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The object of check, as JSON or YAML, one or several, is explained with all that a mail admin needs."""
    path = tmp_path / "result"
    path.write_text(FORMATS[form]((FAILED,)))
    text = explained(capsys, path)
    assert "h.example:587 starttls  Failed  RelayDenied @ rcpt" in text
    assert "554 5.7.1" in text
    path.write_text(FORMATS[form]((FAILED, FAILED)))
    assert explained(capsys, path).count("h.example:587 starttls") == 2


def test_a_termination_message_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What a probe pod leaves as its termination message is explained too."""
    path = tmp_path / "message"
    path.write_bytes(encode_result(refusal()))
    assert "Failed  RelayDenied @ rcpt" in explained(capsys, path)
    assert json.loads(explained(capsys, path, "-o", "json"))["reason"] == "RelayDenied"


@pytest.mark.parametrize("content", ["{}", "[]", "kind: Pod", "a: b", "outcome: Nonsense", '{"outcome": 7}', "- 1"])
def test_what_is_nothing_of_ours_is_no_traceback(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Other documents are read as a reply's text or refused in a sentence, never with a traceback."""
    path = tmp_path / "file"
    path.write_text(content)
    assert main(["explain", str(path)]) in {0, 3}
    assert "Traceback" not in capsys.readouterr().err
