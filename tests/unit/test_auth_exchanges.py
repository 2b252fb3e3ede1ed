"""One login, one mechanism: what is sent for each prompt, and when nothing is."""

import base64

import pytest
from hypothesis import given, settings, strategies as st

from smtpprobe import auth, scram
from smtpprobe.auth import CramMd5, ScramSha256, choose, exchange, explained
from smtpprobe.credentials import Credentials
from smtpprobe.vocabulary import Mechanism, Reason

PAIR = Credentials("sender@corp.test", "hunter2-hunter2")
REAL = [m for m in Mechanism if m is not Mechanism.AUTO]


def b64(text: bytes | str) -> bytes:
    return base64.b64encode(text.encode() if isinstance(text, str) else text)


@pytest.mark.parametrize(
    ("wanted", "offered", "chosen"),
    [
        (Mechanism.AUTO, ("LOGIN", "PLAIN"), Mechanism.PLAIN),
        (Mechanism.AUTO, ("login",), Mechanism.LOGIN),
        (Mechanism.AUTO, ("CRAM-MD5", "SCRAM-SHA-256", "PLAIN"), Mechanism.PLAIN),
        (Mechanism.AUTO, ("CRAM-MD5", "SCRAM-SHA-256"), Mechanism.SCRAM_SHA_256),
        (Mechanism.AUTO, ("CRAM-MD5", "NTLM"), Mechanism.CRAM_MD5),
        (Mechanism.AUTO, ("XOAUTH2", "NTLM", "GSSAPI"), Reason.MECHANISM_UNSUPPORTED),
        (Mechanism.AUTO, ("XOAUTH2", "LOGIN"), Mechanism.LOGIN),
        (Mechanism.AUTO, (), Reason.AUTH_NOT_OFFERED),
        (Mechanism.AUTO, ("", " "), Reason.AUTH_NOT_OFFERED),
        (Mechanism.XOAUTH2, ("XOAUTH2", "LOGIN"), Mechanism.XOAUTH2),
        (Mechanism.PLAIN, ("LOGIN",), Reason.MECHANISM_UNSUPPORTED),
        (Mechanism.SCRAM_SHA_256, ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-1"), Reason.MECHANISM_UNSUPPORTED),
        (Mechanism.LOGIN, (), Reason.AUTH_NOT_OFFERED),
    ],
)
def test_choice(wanted, offered, chosen):
    """The mechanism is the wanted one, or the surest of the offer; else the reason says what is missing."""
    assert choose(wanted, offered) is chosen


def test_choice_is_explained():
    """People read which mechanism was taken, whether they asked for it, and what the server offers."""
    offer = ("PLAIN", "LOGIN")
    said = explained(Mechanism.AUTO, Mechanism.PLAIN, offer)
    assert said == "login by PLAIN, our first choice of what the server offers: PLAIN LOGIN"
    said = explained(Mechanism.LOGIN, Mechanism.LOGIN, offer)
    assert said == "login by LOGIN, as asked; the server offers PLAIN LOGIN"
    assert len(explained(Mechanism.AUTO, Mechanism.PLAIN, ("X" * 20,) * 20)) < 200


def test_plain_goes_with_the_command():
    """PLAIN sends NUL user NUL password in base64 with the command and is finished with it."""
    plain = exchange(Mechanism.PLAIN, PAIR)
    assert plain.first() == b"AUTH PLAIN " + b64("\0sender@corp.test\0hunter2-hunter2")
    assert plain.finished


@pytest.mark.parametrize("prompt", [b"", b"=", b"go ahead", b64("")])
def test_plain_answers_a_server_that_ignored_the_initial_response(prompt):
    """An empty or odd 334 gets the same response once; a second 334 ends the exchange."""
    plain = exchange(Mechanism.PLAIN, PAIR)
    plain.first()
    assert plain.answer(prompt) == b64("\0sender@corp.test\0hunter2-hunter2")
    assert plain.answer(prompt) is None
    assert plain.problem


def test_long_responses_wait_for_the_prompt():
    """A command line over 512 octets is never sent: the response comes after the 334 (RFC 4954 §4)."""
    for mechanism in (Mechanism.PLAIN, Mechanism.XOAUTH2, Mechanism.SCRAM_SHA_256):
        long = exchange(mechanism, Credentials("u" * 400, "p" * 400))
        assert long.first() == b"AUTH " + mechanism.value.encode()
        assert not long.finished
        assert len(long.answer(b"")) > 500


@pytest.mark.parametrize(
    "prompts",
    [
        (b64("Username:"), b64("Password:")),
        (b64("User Name\0"), b64("Password\0")),
        (b"", b""),
        (b"=", b"="),
        (b"Username:", b"Password:"),
        (b"%%%", b"%%%"),
        (b64("login?"), b64("secret?")),
        (b64("\xff\xfe"), b64("")),
    ],
)
def test_login_copes_with_odd_prompts(prompts):
    """LOGIN gives username, then password, for usual, empty, plain-text and nonsense prompts."""
    login = exchange(Mechanism.LOGIN, PAIR)
    assert login.first() == b"AUTH LOGIN"
    assert login.answer(prompts[0]) == b64("sender@corp.test")
    assert not login.finished
    assert login.answer(prompts[1]) == b64("hunter2-hunter2")
    assert login.finished
    assert login.answer(b"") is None


@pytest.mark.parametrize(
    "prompts", [(b64("Password:"),), (b64("Username:"), b64("Username:")), (b64("Username:"), b64("User name:"))]
)
def test_login_never_gives_the_password_to_a_username_prompt(prompts):
    """Prompts that clearly ask for something else than what is next end the exchange without the password."""
    login = exchange(Mechanism.LOGIN, PAIR)
    answers = [login.answer(prompt) for prompt in prompts]
    assert answers[-1] is None
    assert b64("hunter2-hunter2") not in answers


def test_cram_md5_vector():
    """The published exchange of RFC 2195 §2."""
    cram = exchange(Mechanism.CRAM_MD5, Credentials("tim", "tanstaaftanstaaf"))
    assert cram.first() == b"AUTH CRAM-MD5"
    answer = cram.answer(b"PDE4OTYuNjk3MTcwOTUyQHBvc3RvZmZpY2UucmVzdG9uLm1jaS5uZXQ+")
    assert answer == b"dGltIGI5MTNhNjAyYzdlZGE3YTQ5NWI0ZTZlNzMzNGQzODkw"
    assert cram.finished
    assert cram.answer(b"") is None


BAD_CHALLENGES = [b"", b"=", b"%%%", b"not base64 at all", b"PDE4OTY===", b"A" * 20_000, b"\xff\xfe", b"PD E4"]


@pytest.mark.parametrize("challenge", BAD_CHALLENGES)
def test_no_hash_leaves_for_a_bad_challenge(challenge):
    """An empty, non-base64 or endless CRAM challenge is given up with nothing computed from the password."""
    cram = CramMd5(PAIR)
    assert cram.answer(challenge) is None
    assert cram.problem
    assert not cram.finished


SERVER_FIRST = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"


def vector() -> ScramSha256:
    return ScramSha256(Credentials("user", "pencil"), nonce="rOprNGfwEbeRWgbNEkqO")


def test_scram_vector():
    """The published exchange of RFC 7677 §3, the server's proof included."""
    login = vector()
    assert login.first() == b"AUTH SCRAM-SHA-256 " + b64("n,,n=user,r=rOprNGfwEbeRWgbNEkqO")
    assert login.answer(b64(SERVER_FIRST)) == b64(
        "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    )
    assert not login.finished  # a 235 now would come before the server has proven anything
    assert login.answer(b64("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")) == b""
    assert login.finished


def test_scram_server_that_ignored_the_initial_response():
    """After an empty 334 the first message is said again, and the exchange goes on."""
    login = vector()
    login.first()
    assert login.answer(b"") == b64("n,,n=user,r=rOprNGfwEbeRWgbNEkqO")
    assert login.answer(b64(SERVER_FIRST)) is not None


@pytest.mark.parametrize("final", [b"v=AAAA", b"", b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4"])
def test_scram_server_without_proof(final):
    """A server that cannot prove that it knows the password is given up."""
    login = vector()
    login.first()
    login.answer(b64(SERVER_FIRST))
    assert login.answer(b64(final)) is None
    assert login.problem


@pytest.mark.parametrize("early", [True, False])
def test_scram_server_that_refuses_is_heard_out(early):
    """An ``e=`` gets the empty response that its 535 waits for, and a 235 after it counts as no success."""
    login = vector()
    login.first()
    if not early:
        login.answer(b64(SERVER_FIRST))
    assert login.answer(b64("e=invalid-proof")) == b""
    assert login.problem
    assert not login.finished


@pytest.mark.parametrize(
    "first",
    [
        SERVER_FIRST.replace(b"rOpr", b"xOpr"),
        b"r=rOprNGfwEbeRWgbNEkqO,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        SERVER_FIRST.replace(b"4096", b"4095"),
        SERVER_FIRST.replace(b"4096", b"1"),
        SERVER_FIRST.replace(b"4096", b"1000001"),
        SERVER_FIRST.replace(b"4096", b"9999999999"),
        SERVER_FIRST.replace(b"i=4096", b"i=-1"),
        SERVER_FIRST.replace(b"s=W22ZaJ0SNY7soEsUEjb6gQ==", b"s=W"),
        b"m=ext," + SERVER_FIRST,
        b"hello",
        b"\xff" * 50,
    ],
)
def test_scram_gives_no_proof_for_a_bad_challenge(first):
    """A foreign or unextended nonce, too few or too many rounds, an extension or nonsense: no proof is sent."""
    login = vector()
    login.first()
    assert login.answer(b64(first)) is None
    assert not login.finished
    assert login.problem


@pytest.mark.parametrize(
    ("given_text", "prepared"),
    [
        ("I\u00adX", "IX"),
        ("user", "user"),
        ("USER", "USER"),
        ("\u00aa", "a"),
        ("\u2168", "IX"),
        ("a\u00a0b", "a b"),
        ("비밀", "비밀"),
        ("\u0627\u0031", "\u0627\u0031"),
        ("\u200e", "\u200e"),
    ],
)
def test_saslprep(given_text, prepared):
    """The examples of RFC 4013 §3; what it prohibits is used as it is, because refusing a login is the server's part."""
    assert scram.saslprep(given_text.encode()) == prepared.encode()


def test_scram_escapes_the_username():
    """Comma and equals sign in a username are =2C and =3D (RFC 5802 §5.1)."""
    assert scram.Client(b"a,b=c", b"p", "n").first() == b"n,,n=a=2Cb=3Dc,r=n"


def test_xoauth2():
    """XOAUTH2 sends user and token; a JSON challenge, which tells a refusal, is answered by an empty line."""
    login = exchange(Mechanism.XOAUTH2, PAIR)
    response = b64("user=sender@corp.test\x01auth=Bearer hunter2-hunter2\x01\x01")
    assert login.first() == b"AUTH XOAUTH2 " + response
    assert login.answer(b64('{"status":"401","schemes":"bearer"}')) == b""
    other = exchange(Mechanism.XOAUTH2, PAIR)
    other.first()
    assert other.answer(b"") == response
    assert other.answer(b"") is None


@pytest.mark.parametrize("mechanism", REAL)
@given(payloads=st.lists(st.one_of(st.binary(max_size=60), st.binary(max_size=40).map(base64.b64encode)), max_size=8))
@settings(max_examples=60, deadline=None)
def test_endless_prompts_end(mechanism, payloads):
    """Whatever the server asks, there are at most four answers, each one line of base64 without CR, LF or NUL."""
    login = exchange(mechanism, Credentials("us\r\ner", "pass\r\nword\x01"))
    lines = [login.first()]
    for payload in [*payloads, b"", b"", b"", b"", b""]:
        line = login.answer(payload)
        if line is None:
            assert login.problem
            break
        lines.append(line)
    else:
        pytest.fail("the exchange never ended")
    assert len(lines) <= 1 + auth.MAX_ANSWERS
    for line in lines:
        assert not set(line) & {0, 10, 13}
        base64.b64decode(line.split(b" ")[-1] if line.startswith(b"AUTH ") and line.count(b" ") == 2 else b"")


@pytest.mark.parametrize("mechanism", REAL)
def test_exchanges_show_no_credentials(mechanism):
    """repr and the sentence of a given-up exchange hold no value."""
    login = exchange(mechanism, PAIR)
    login.first()
    while login.answer(b"%%%") is not None:
        pass
    for shown in (repr(login), str(login.problem)):
        assert "hunter2" not in shown
        assert "sender" not in shown
