"""What a session that passed has not proven, and the one that would. Pure."""

from smtpprobe import ses
from smtpprobe.advice import Lang
from smtpprobe.model import ProbeResult
from smtpprobe.vocabulary import EgressReason, Outcome

_NEXT: dict[Lang, tuple[str, str]] = {
    "en": (
        "Only a message proves more here: depth message sends one marked test mail",
        f", for example to {ses.SIMULATOR}, which takes it in the sandbox too",
    ),
    "ko": (
        "이 서버는 메시지를 보내 보아야 더 알 수 있습니다. depth message는 표시된 시험 메일 한 통을 보냅니다",
        f"(예: 샌드박스에서도 받는 {ses.SIMULATOR})",
    ),
}


def needs_message(result: ProbeResult, *hosts: str | None, lang: Lang = "en") -> str | None:
    """Say that only depth ``message`` would prove more, where the server refuses after the message; else None.

    ``hosts`` are spec.host and the certificate's name: for an endpoint of Amazon SES the simulator is named.
    """
    if result.outcome is not Outcome.PASSED or result.egress.reason is not EgressReason.ENVELOPE_ONLY:
        return None
    text, simulator = _NEXT[lang]
    return text + (simulator if any(host and ses.endpoint(host) for host in hosts) else "")
