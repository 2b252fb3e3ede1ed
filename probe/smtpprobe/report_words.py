"""The words of a report around what it reports, in English and Korean."""

import functools
import tomllib
from pathlib import Path

from smtpprobe.advice import Lang
from smtpprobe.vocabulary import Note

HEADS: dict[Lang, dict[str, str]] = {
    "en": {
        "also": "also possible",
        "ports": "PORTS",
        "stages": "STAGES",
        "said": "THE SERVER SAID",
        "who": "WHO MUST ACT",
        "todo": "WHAT TO DO",
        "proof": "FOR THE MAIL ADMIN",
        "tls": "TLS",
        "egress": "EGRESS",
        "experiments": "EXPERIMENTS",
        "notes": "NOTES",
        "transcript": "TRANSCRIPT",
        "certificates": "CERTIFICATES BY ISSUER",
        "outages": "FAILED RUNS IN A ROW",
        "history": "HISTORY",
        "none": "No finished run is in this status yet.",
    },
    "ko": {
        "also": "다른 가능성",
        "ports": "포트",
        "stages": "단계",
        "said": "서버의 응답",
        "who": "조치할 사람",
        "todo": "조치 방법",
        "proof": "메일 관리자에게 보낼 내용",
        "tls": "TLS",
        "egress": "출구 주소",
        "experiments": "추가 실험",
        "notes": "참고",
        "transcript": "대화 기록",
        "certificates": "발급자별 인증서",
        "outages": "연속 실패",
        "history": "실행 이력",
        "none": "이 상태에는 아직 끝난 실행이 없습니다.",
    },
}
PROOF: dict[Lang, dict[str, str]] = {
    "en": {
        "intro": "Please look up this SMTP session in the server's log:",
        "time": "time",
        "server": "server",
        "client": "client",
        "helo": "EHLO name",
        "login": "login",
        "envelope": "envelope",
        "stopped": "stopped at",
        "reply": "reply",
        "unseen": "address not named by the server",
        "port": "local port",
        "seen": "as the server named it",
        "accepted": "accepted",
        "offered": "offered",
        "refused": "refused",
        "unanswered": "sent, not answered",
        "since": "nothing was sent now, known since {}",
        "unsent": "none sent",
    },
    "ko": {
        "intro": "아래 SMTP 세션을 서버 로그에서 확인해 주시기 바랍니다.",
        "time": "시각",
        "server": "서버",
        "client": "클라이언트",
        "helo": "EHLO 이름",
        "login": "로그인",
        "envelope": "봉투",
        "stopped": "중단 단계",
        "reply": "응답",
        "unseen": "서버가 주소를 밝히지 않음",
        "port": "로컬 포트",
        "seen": "서버가 밝힌 주소",
        "accepted": "성공",
        "offered": "서버가 제시한 방식",
        "refused": "거절됨",
        "unanswered": "보냈으나 응답 없음",
        "since": "이번에는 보내지 않음, {}에 확인됨",
        "unsent": "보내지 않음",
    },
}
TLS: dict[Lang, dict[str, str]] = {
    "en": {
        "verified": "verified",
        "unverified": "NOT verified",
        "days": "{} days left",
        "soon": "{} days left: renew it now",
        "over": "ended {} days ago",
        "runs": "{} runs",
        "on": "on {}",
        "now": "still failing",
    },
    "ko": {
        "verified": "검증됨",
        "unverified": "검증되지 않음",
        "days": "{}일 남음",
        "soon": "{}일 남음: 지금 갱신해 주십시오",
        "over": "{}일 전에 만료됨",
        "runs": "{}회 실행",
        "on": "노드 {}",
        "now": "계속 실패 중",
    },
}


def note_text(note: Note, lang: Lang) -> str:
    """Return what a note means, for people."""
    return f"{note}: {_notes()[note][lang]}"


@functools.cache
def _notes() -> dict[str, dict[str, str]]:
    return tomllib.loads(Path(__file__).with_name("notes.toml").read_text("utf-8"))
