"""``smtpprobe ses-password``: one line on stdout, the secret nowhere else, refusals that say what to give."""

import io
import types

import pytest

from smtpprobe.cli import main

SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
PASSWORD = "BLBM/9hSUELfq8Gw+rU1YcBjkOxGbhT2XG763xVLGWL9"


def stdin(monkeypatch, raw: bytes) -> None:
    monkeypatch.setattr("sys.stdin", types.SimpleNamespace(buffer=io.BytesIO(raw), isatty=lambda: False))


@pytest.mark.parametrize("ending", [b"", b"\n", b"\r\n"])
def test_the_password_is_all_that_stdout_gets(ending, monkeypatch, capsys, tmp_path):
    """From standard input and from a file, with one trailing newline or none, the published password comes out."""
    stdin(monkeypatch, SECRET.encode() + ending)
    assert main(["ses-password", "--region", "us-east-1", "--secret-file", "-"]) == 0
    assert capsys.readouterr() == (PASSWORD + "\n", "")
    file = tmp_path / "secret"
    file.write_bytes(SECRET.encode() + ending)
    assert main(["ses-password", "--region", "us-east-1", "--secret-file", str(file)]) == 0
    assert capsys.readouterr() == (PASSWORD + "\n", "")


def test_the_endpoint_may_stand_for_its_region(monkeypatch, capsys):
    """Whoever pastes the host name gets the password of its region."""
    stdin(monkeypatch, SECRET.encode())
    assert main(["ses-password", "--region", "email-smtp.us-east-1.amazonaws.com", "--secret-file", "-"]) == 0
    assert capsys.readouterr().out == PASSWORD + "\n"


def test_a_secret_of_unusual_length_is_converted_with_a_hint(monkeypatch, capsys):
    """The algorithm takes any secret, so a length of its own is a remark on stderr and no refusal."""
    stdin(monkeypatch, b"some+secret+key")
    assert main(["ses-password", "--region", "eu-central-1", "--secret-file", "-"]) == 0
    out, err = capsys.readouterr()
    assert out == "BMXhUYlu5Z3gSXVQORxlVa7XPaz91aGWdfHxvkOZdWZ2\n"
    assert "40 characters, this one has 15" in err
    assert "some+secret+key" not in err


@pytest.mark.parametrize(
    ("arguments", "raw", "said"),
    [
        (["--region", "Frankfurt", "--secret-file", "-"], SECRET.encode(), "eu-west-1"),
        (["--region", "eu-west-1", "--secret-file", "-"], PASSWORD.encode(), "already"),
        (["--region", "eu-west-1", "--secret-file", "-"], b" " + SECRET.encode(), "white space"),
        (["--region", "eu-west-1", "--secret-file", "-"], b"", "the secret is empty"),
        (["--region", "eu-west-1", "--secret-file", "/nowhere/secret"], b"", "No such file"),
        (["--region", "eu-west-1"], SECRET.encode(), "--secret-file FILE"),
        ([], b"", "--region"),
    ],
)
def test_refusals(arguments, raw, said, monkeypatch, capsys):
    """What cannot be meant ends with exit code 3, a sentence on stderr, nothing on stdout and no secret anywhere."""
    stdin(monkeypatch, raw)
    assert main(["ses-password", *arguments]) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert SECRET not in err
