"""``smtpprobe check --settings``: after Passed the clients' settings, with what the session proved and no password."""

import json
from pathlib import Path

import pytest
from certificates import pki
from stock import stock_server

from smtpprobe.cli import main

PASSWORD = "correct-horse-9"
pytestmark = pytest.mark.filterwarnings("ignore:Session.login_data is deprecated:DeprecationWarning")


def arguments(port: int, folder: Path, password: str) -> list[str]:
    file = folder / "password"
    file.write_text(password, "utf-8")
    login = ["--username", "sender", "--password-file", str(file), "--mode", "starttls"]
    return ["check", f"localhost:{port}", *login, "--ca", pki().ca_file, "--settings"]


def test_settings_follow_a_passed_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The snippets name host, port, user and the mechanism that worked; the password is nowhere."""
    with stock_server("starttls", pki().contexts["good"], PASSWORD) as server:
        assert main(arguments(server.port, tmp_path, PASSWORD)) == 0
    out = capsys.readouterr().out
    assert "--- msmtp: msmtp (msmtprc)" in out
    assert f"port {server.port}\n" in out
    assert 'auth plain\nuser "sender"' in out
    assert PASSWORD not in out


def test_json_stays_one_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With --output json the settings go to stderr."""
    with stock_server("starttls", pki().contexts["good"], PASSWORD) as server:
        assert main([*arguments(server.port, tmp_path, PASSWORD), "--output", "json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["outcome"] == "Passed"
    assert "--- msmtp: msmtp (msmtprc)" in err


def test_no_settings_after_a_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What does not work is not recommended: a refused login gives no settings and says so."""
    with stock_server("starttls", pki().contexts["good"], PASSWORD) as server:
        assert main(arguments(server.port, tmp_path, "wrong-password")) == 2
    out, err = capsys.readouterr()
    assert "msmtp" not in out
    assert "no settings: the check ended Failed" in err
