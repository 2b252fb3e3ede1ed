"""The mounted Secret: what is read, what is refused, and what never shows."""

import hashlib
import io
import json
from pathlib import Path

import msgspec
import pytest

from smtpprobe import credentials
from smtpprobe.credentials import Credentials, Problem
from smtpprobe.model import CredentialFiles
from smtpprobe.vocabulary import Reason


def mount(folder: Path, keys: dict[str, bytes]) -> CredentialFiles:
    """Lay a Secret out as the kubelet does."""
    generation = folder / "..2026_11_22_10_00_00.1"
    generation.mkdir(parents=True)
    for key, value in keys.items():
        (generation / key).write_bytes(value)
        (folder / key).symlink_to(f"..data/{key}")
    (folder / "..data").symlink_to(generation.name)
    return CredentialFiles(directory=str(folder), secret_name="order-mail-smtp")


@pytest.mark.parametrize(
    "value",
    [b"plain", b" lead", b"trail\n", b"a\r\nb", "비밀".encode(), b"\xff\xfe\x80", b"a\tb", b"'\"\\$`"],
)
def test_values_are_used_byte_for_byte(tmp_path, value):
    """Whatever bytes the Secret holds go on the wire unchanged, a trailing newline included."""
    read = credentials.read(mount(tmp_path, {"username": value, "password": value}), "mail.example.com")
    assert isinstance(read, Credentials)
    assert (read.username_bytes, read.password_bytes) == (value, value)
    assert credentials.edge_whitespace(read) is (value != value.strip())


def test_plain_folder_and_named_keys(tmp_path):
    """A folder without the kubelet's links works too, and the keys' names are settable."""
    (tmp_path / "user.name").write_bytes(b"u")
    (tmp_path / "SMTP-PASS").write_bytes(b"p")
    files = CredentialFiles(directory=str(tmp_path), username_key="user.name", password_key="SMTP-PASS")
    assert credentials.read(files, "h") == Credentials("u", "p")


@pytest.mark.parametrize("state", ["no folder", "empty folder", "empty generation"])
def test_missing_secret(tmp_path, state):
    """A missing Secret is an empty volume, with or without ..data: SecretNotFound with the command that creates it."""
    folder = tmp_path / "mount"
    if state != "no folder":
        folder.mkdir()
    if state == "empty generation":
        mount(folder, {})
    problem = credentials.read(CredentialFiles(directory=str(folder), secret_name="order-mail-smtp"), "h")
    assert isinstance(problem, Problem)
    assert problem.reason is Reason.SECRET_NOT_FOUND
    assert "kubectl create secret generic order-mail-smtp" in problem.message


def test_missing_key_names_the_keys_seen_and_no_value(tmp_path):
    """SecretKeyMissing says which key is wanted and which ones are there, and never a value."""
    files = mount(tmp_path, {"user": b"VALUE-ONE", "pass": b"VALUE-TWO"})
    problem = credentials.read(files, "h")
    assert isinstance(problem, Problem)
    assert problem.reason is Reason.SECRET_KEY_MISSING
    assert "no key username" in problem.message
    assert "pass, user" in problem.message
    assert "usernameKey" in problem.message
    assert "VALUE" not in problem.message


@pytest.mark.parametrize(("value", "word"), [(b"", "empty"), (b"a\0b", "NUL"), (b"x" * 8193, "longer"), (b"\0", "NUL")])
@pytest.mark.parametrize("key", ["username", "password"])
def test_unusable_values_are_refused_clearly(tmp_path, key, value, word):
    """An empty, NUL-holding or endless value is named by its key, before anything is sent."""
    keys = {"username": b"u", "password": b"p", key: value}
    problem = credentials.read(mount(tmp_path, keys), "h")
    assert isinstance(problem, Problem)
    assert problem.reason is Reason.SECRET_KEY_MISSING
    assert word in problem.message
    assert f"Key {key} " in problem.message


@pytest.mark.parametrize("key", ["../secret", "..data/username", "/etc/passwd", "a/b", "", ".."])
def test_key_names_cannot_leave_the_mount(tmp_path, key):
    """A key that no Secret can have is missing, whatever file its path would reach."""
    (tmp_path / "secret").write_bytes(b"outside")
    files = mount(tmp_path / "mount", {"username": b"u", "password": b"p"})
    problem = credentials.read(msgspec.structs.replace(files, username_key=key), "h")
    assert isinstance(problem, Problem)
    assert problem.reason is Reason.SECRET_KEY_MISSING


def test_a_folder_in_place_of_a_key(tmp_path):
    """A key that is a folder is named as unreadable, no exception."""
    (tmp_path / "username").mkdir()
    (tmp_path / "password").write_bytes(b"p")
    problem = credentials.read(CredentialFiles(directory=str(tmp_path)), "h")
    assert isinstance(problem, Problem)
    assert problem.reason is Reason.SECRET_KEY_MISSING
    assert "cannot be read" in problem.message


@pytest.mark.parametrize(
    ("allowed", "host", "ok"),
    [
        ("smtp.example.com", "smtp.example.com", True),
        ("smtp.example.com", "SMTP.Example.COM.", True),
        ("a.example, smtp.example.com", "smtp.example.com", True),
        ("a.example\nsmtp.example.com\n", "smtp.example.com", True),
        ("a.example b.example", "b.example", True),
        ("*.corp.example", "mail.corp.example", True),
        ("*.corp.example", "a.b.corp.example", True),
        ("*.corp.example", "corp.example", False),
        ("*.corp.example", "evilcorp.example", False),
        ("*.corp.example", "mail.corp.example.evil.test", False),
        ("corp.example", "mail.corp.example", False),
        ("*", "mail.corp.example", False),
        ("*.", "mail.corp.example", False),
        ("m*.corp.example", "mail.corp.example", False),
        ("", "mail.corp.example", False),
        (" \n", "mail.corp.example", False),
        ("198.51.100.7", "198.51.100.7", True),
        ("2001:db8::7", "[2001:DB8:0::7]", True),
        ("198.51.100.7", "198.51.100.70", False),
        ("*.100.7", "198.51.100.7", True),
    ],
)
def test_allowed_hosts(allowed, host, ok):
    """allowedHosts takes exact names, addresses and *.suffix, parted by commas, spaces or newlines."""
    assert credentials.host_allowed(host, allowed) is ok


def test_allowed_hosts_comes_before_everything(tmp_path):
    """A host that the Secret does not allow is refused even where a key is missing, and the list is not shown."""
    files = mount(tmp_path, {"username": b"u", "allowedHosts": b"mail.internal.example"})
    problem = credentials.read(files, "attacker.example")
    assert isinstance(problem, Problem)
    assert problem.reason is Reason.HOST_NOT_ALLOWED
    assert "attacker.example" in problem.message
    assert "internal" not in problem.message
    allowed = credentials.read(files, "mail.internal.example")
    assert isinstance(allowed, Problem)
    assert allowed.reason is Reason.SECRET_KEY_MISSING


def test_rotation_in_mid_read_gives_one_generation(tmp_path, monkeypatch):
    """When the kubelet swaps ..data between two reads, the pair comes whole from one generation."""
    files = mount(tmp_path, {"username": b"old", "password": b"old-password"})
    real, calls = credentials.bytes_of, []

    def rotate_after_first(path: str) -> bytes:
        value = real(path)
        if not calls:
            new = tmp_path / "..2026_11_22_10_05_00.2"
            new.mkdir()
            (new / "username").write_bytes(b"new")
            (new / "password").write_bytes(b"new-password")
            old = (tmp_path / "..data").resolve()
            (tmp_path / "..data").unlink()
            (tmp_path / "..data").symlink_to(new.name)
            for file in old.iterdir():
                file.unlink()
            old.rmdir()
        calls.append(path)
        return value

    monkeypatch.setattr(credentials, "bytes_of", rotate_after_first)
    assert credentials.read(files, "h") == Credentials("new", "new-password")


def test_fingerprint_is_the_documented_one():
    """The fingerprint is the first 16 bits of PBKDF2-HMAC-SHA256, 600,000 rounds, over username NUL password."""
    salt = "00112233445566778899aabbccddeeff"
    expected = hashlib.pbkdf2_hmac("sha256", b"user\0pass\xff", bytes.fromhex(salt), 600_000)[:2].hex()
    assert credentials.fingerprint(Credentials("user", "pass\udcff"), salt) == expected
    assert credentials.fingerprint(Credentials("user", "pass"), salt) != expected
    assert len({credentials.new_salt() for _ in range(50)}) == 50
    assert len(bytes.fromhex(credentials.new_salt())) == 16


def test_nothing_prints_or_encodes_credentials():
    """repr, str, f-strings, json and msgspec show or take no value."""
    pair = Credentials("sender@corp.test", "hunter2-hunter2")
    for shown in (repr(pair), str(pair), f"{pair}", repr([pair])):
        assert "hunter2" not in shown
        assert "sender" not in shown
    with pytest.raises(TypeError):
        json.dumps(pair)
    with pytest.raises(TypeError):
        msgspec.json.encode(pair)


@pytest.mark.parametrize(
    ("name", "shape"), [("sender", "bare"), ("sender@corp.test", "address"), ("CORP\\sender", "domain"), ("", "bare")]
)
def test_user_shape(name, shape):
    """The result says what kind of name was used, not which."""
    assert credentials.user_shape(name) == shape


@pytest.mark.parametrize(
    ("raw", "value"),
    [(b"pw\n", "pw"), (b"pw\r\n", "pw"), (b"pw\n\n", "pw\n"), (b"pw", "pw"), (b" pw ", " pw "), (b"pw\r", "pw\r")],
)
def test_password_file_drops_one_newline(tmp_path, raw, value):
    """--password-file drops exactly one trailing newline, from a file as from standard input."""
    file = tmp_path / "password"
    file.write_bytes(raw)
    assert credentials.read_password(str(file)) == value
    assert credentials.read_password("-", io.BytesIO(raw)) == value


@pytest.mark.parametrize("raw", [b"", b"\n", b"a\0b"])
def test_password_file_refuses_what_no_login_carries(raw):
    """An empty password or one with NUL is a ValueError that does not quote it."""
    with pytest.raises(ValueError, match="the password"):
        credentials.read_password("-", io.BytesIO(raw))
