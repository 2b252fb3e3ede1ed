"""Client settings used as printed: the client itself sends a message with them, to a real server, in each mode."""

import asyncio
import subprocess
from email.message import EmailMessage
from pathlib import Path

import gobuild
import pytest
from certificates import pki
from stock import Stock, stock_server

from smtpprobe.settings import Working, snippet
from smtpprobe.vocabulary import Mechanism, Mode

USER, PASSWORD = 'DOM\\sen"der', "correct-horse-9"
pytestmark = pytest.mark.filterwarnings("ignore:Session.login_data is deprecated:DeprecationWarning")
MODES = pytest.mark.parametrize("mode", [Mode.PLAIN, Mode.STARTTLS, Mode.SMTPS])
LOGINS = pytest.mark.parametrize("mechanism", [Mechanism.AUTO, Mechanism.PLAIN, Mechanism.LOGIN, None])
GO_MAIN = """package main

import "settings/mail"

func main() {
	if err := mail.Send("noreply@shop.example.com", []string{"user@example.net"}, []byte("Subject: hi\\r\\n\\r\\nhi\\r\\n")); err != nil {
		panic(err)
	}
}
"""


def working(server: Stock, mode: Mode, mechanism: Mechanism | None) -> Working:
    return Working(
        host="localhost",
        port=server.port,
        mode=mode,
        username=USER if mechanism is not None else None,
        mechanism=mechanism or Mechanism.AUTO,
        helo="shop.example.com",
        ca_file=pki().ca_file,
    )


def message() -> EmailMessage:
    made = EmailMessage()
    made["From"], made["To"], made["Subject"] = "noreply@shop.example.com", "user@example.net", "hi"
    made.set_content("hi\n")
    return made


def check(server: Stock, mechanism: Mechanism | None) -> None:
    logins = [] if mechanism is None else [(USER.encode(), PASSWORD.encode())]
    assert server.logins == logins
    ((helo, sender, content),) = server.messages
    assert (helo, sender) == ("shop.example.com", "noreply@shop.example.com")
    assert b"Subject: hi" in content


@MODES
@LOGINS
@pytest.mark.parametrize("client", ["smtplib", "aiosmtplib"])
def test_python_sends_with_the_printed_snippet(
    client: str, mode: Mode, mechanism: Mechanism | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """smtplib and aiosmtplib deliver a message with exactly the printed text: one login, the EHLO name, own CA."""
    monkeypatch.setenv("SMTP_PASSWORD", PASSWORD)
    with stock_server(mode.value, pki().contexts["good"], PASSWORD) as server:
        scope: dict[str, object] = {}
        exec(compile(snippet(client, working(server, mode, mechanism)).text, client, "exec"), scope)
        sent = scope["send"](message())  # type: ignore[operator]
        if asyncio.iscoroutine(sent):
            asyncio.run(sent)
    check(server, mechanism)


@pytest.mark.parametrize(
    "mode, mechanism",
    [(Mode.PLAIN, None), (Mode.STARTTLS, Mechanism.PLAIN), (Mode.SMTPS, Mechanism.AUTO), (Mode.STARTTLS, None)],
)
def test_go_sends_with_the_printed_snippet(mode: Mode, mechanism: Mechanism | None, tmp_path: Path) -> None:
    """net/smtp delivers a message with exactly the printed file, built by the toolchain that the test cluster uses."""
    go = gobuild.toolchain()
    with stock_server(mode.value, pki().contexts["good"], PASSWORD) as server:
        text = snippet("go", working(server, mode, mechanism)).text
        (tmp_path / "mail").mkdir()
        (tmp_path / "mail/mail.go").write_text(text, "utf-8")
        (tmp_path / "main.go").write_text(GO_MAIN, "utf-8")
        (tmp_path / "go.mod").write_text("module settings\n\ngo 1.21\n", "utf-8")
        environment = gobuild.environment(go) | {"SMTP_PASSWORD": PASSWORD}
        ran = subprocess.run(
            [go, "run", "."], check=False, cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert ran.returncode == 0, ran.stderr
    check(server, mechanism)
