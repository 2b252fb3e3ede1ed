"""What fail2ban's stock filters make of the logs of the servers in ``tests/smtp/refusals.toml``."""

import re
import subprocess
from collections import Counter
from pathlib import Path
from typing import Self

import refusals
from procs import wait
from refusing import servers

# Debian's jails (jail.conf): postfix, postfix-sasl, exim, dovecot; and the strictest mode of their filters
STOCK = {"postfix": ("postfix[mode=more]", "postfix[mode=auth]"), "exim": ("exim",), "dovecot": ("dovecot",)}
FIND_SECONDS, BAN_AT = 600, 5  # findtime and maxretry of jail.conf
STRICT = {"postfix": ("postfix[mode=aggressive]",), "dovecot": ("dovecot[mode=aggressive]",)}
OPENED = {
    "postfix": r"/(smtpd\[\d+\]: connect|postscreen\[\d+\]: CONNECT) from",
    "exim": r"SMTP connection from \S+ \(TCP/IP",
    "dovecot": r" submission-login: ",
}
ENDED = {
    "postfix": r"/smtpd\[\d+\]: (disconnect from|fatal: )|/postscreen\[\d+\]: (DISCONNECT|HANGUP|PASS)",
    "exim": r"SMTP connection from .*(closed by|lost)|re(jected|fused) connection|TLS error on",
    "dovecot": r" submission-login: ",
}

BEHIND = f"[{refusals.REFUSALS['dovecot']}]"  # sessions of Dovecot with what stands behind it are not ours


class Logs:
    """The lines that servers wrote since the mark, by case."""

    def __init__(self) -> None:
        self.cases = [case for case in refusals.cases() if case.server in STOCK and case.played]
        self._files = {case.name: Path(servers().logs[case.name]) for case in self.cases}
        self._kept: dict[str, list[str]] = {}
        self._marks = dict.fromkeys(self._files.values(), 0)
        self.settle()  # what others have begun
        self._marks = {file: file.stat().st_size if file.exists() else 0 for file in self._files.values()}

    def kept(self) -> Self:
        """Take no notice of what is written from now on."""
        self._kept = {case.name: self.lines(case) for case in self.cases}
        return self

    def lines(self, case: refusals.Case) -> list[str]:
        """What the server wrote of sessions of this case."""
        if case.name in self._kept:
            return self._kept[case.name]
        file = self._files[case.name]
        text = file.read_bytes()[self._marks[file] :].decode(errors="replace") if file.exists() else ""
        word = f"postfix/{case.word}/" if case.server == "postfix" else ""
        return [line for line in text.splitlines() if word in line and BEHIND not in line]

    def sessions(self, case: refusals.Case) -> int:
        """How many sessions with this case began."""
        return sum(bool(re.search(OPENED[case.server], line)) for line in self.lines(case))

    def settle(self) -> None:
        """Wait until the end of each session that began is in its log."""
        for case in self.cases:
            wait(f"the log of {case.name}", lambda case=case: self._ended(case), seconds=60)  # type: ignore[misc]

    def _ended(self, case: refusals.Case) -> bool:
        lines = self.lines(case)
        return self.sessions(case) <= sum(bool(re.search(ENDED[case.server], line)) for line in lines)

    def matches(self, server: str, jail: str) -> Counter[str]:
        """How many lines of each case the filter matches."""
        mine = {case.name: self.lines(case) for case in self.cases if case.server == server}
        found = regex(jail, [line for lines in mine.values() for line in lines])
        return Counter({name: sum(line in found for line in lines) for name, lines in mine.items()})


def regex(jail: str, lines: list[str]) -> set[str]:
    """The lines that a stock filter matches, by fail2ban's own program."""
    root = Path(servers().root)
    file = root / "logs" / f"for-{re.sub(r'[^a-z]', '', jail)}-{id(lines)}"
    file.write_text("\n".join([*lines, ""]))
    argv = ["chroot", str(root), "fail2ban-regex", "--print-all-matched", f"/logs/{file.name}", jail]
    done = subprocess.run(
        argv, capture_output=True, text=True, check=False, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    )
    file.unlink()
    assert "Lines:" in done.stdout, done.stdout + done.stderr
    listed = done.stdout.partition("Matched line(s):")[2].partition("Missed line(s)")[0]
    return {line[3:].rstrip() for line in listed.splitlines() if line.startswith("|  ")}
