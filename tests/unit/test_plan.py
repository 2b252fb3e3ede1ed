"""The tables of a session: which stages in which order, and how long each may take."""

import itertools

import pytest

from smtpprobe.plan import Step, by_port, limits, stages
from smtpprobe.vocabulary import Depth, Mode, Stage

SESSIONS = (Mode.PLAIN, Mode.STARTTLS, Mode.SMTPS)


def words(mode: Mode, depth: Depth, *, login: bool = True) -> str:
    return " ".join(f"{step.stage}{'+' if step.after_tls else ''}" for step in stages(mode, depth, login=login))


@pytest.mark.parametrize(
    "mode, depth, expected",
    [
        (Mode.PLAIN, Depth.GREETING, "dns connect greeting"),
        (Mode.PLAIN, Depth.EHLO, "dns connect greeting ehlo"),
        (Mode.PLAIN, Depth.TLS, "dns connect greeting ehlo"),
        (Mode.PLAIN, Depth.AUTH, "dns connect greeting ehlo auth"),
        (Mode.PLAIN, Depth.ENVELOPE, "dns connect greeting ehlo auth mail rcpt"),
        (Mode.STARTTLS, Depth.GREETING, "dns connect greeting"),
        (Mode.STARTTLS, Depth.EHLO, "dns connect greeting ehlo"),
        (Mode.STARTTLS, Depth.TLS, "dns connect greeting ehlo starttls tls ehlo+"),
        (Mode.STARTTLS, Depth.MESSAGE, "dns connect greeting ehlo starttls tls ehlo+ auth+ mail+ rcpt+ data+ dot+"),
        (Mode.SMTPS, Depth.GREETING, "dns connect tls greeting+"),
        (Mode.SMTPS, Depth.TLS, "dns connect tls greeting+ ehlo+"),
        (Mode.SMTPS, Depth.AUTH, "dns connect tls greeting+ ehlo+ auth+"),
    ],
)
def test_stages(mode: Mode, depth: Depth, expected: str) -> None:
    """Each mode and depth has its row of stages; what follows TLS is marked."""
    assert words(mode, depth) == expected


@pytest.mark.parametrize("mode, depth", list(itertools.product(SESSIONS, Depth)))
def test_no_login_without_credentials(mode: Mode, depth: Depth) -> None:
    """Without credentials no step is auth, and nothing else is left out."""
    with_login, without = stages(mode, depth), stages(mode, depth, login=False)
    assert without == tuple(step for step in with_login if step.stage is not Stage.AUTH)


@pytest.mark.parametrize("depth", Depth)
def test_starttls_never_logs_in_before_tls(depth: Depth) -> None:
    """In the TLS modes nothing but greeting, EHLO and STARTTLS is said in plaintext."""
    for mode in (Mode.STARTTLS, Mode.SMTPS):
        clear = {step.stage for step in stages(mode, depth) if not step.after_tls}
        assert clear <= {Stage.DNS, Stage.CONNECT, Stage.GREETING, Stage.EHLO, Stage.STARTTLS, Stage.TLS}


def test_limits_of_a_minute() -> None:
    """The limits of the default total of 60 s are those that the documentation names."""
    assert limits()._asdict() == {
        "total": 60,
        "dns": 5,
        "connect": 10,
        "connect_all": 15,
        "greeting": 35,
        "greeting_latest": 48,
        "tls": 10,
        "reply": 20,
        "dot": 30,
        "quit": 2,
        "pause": 2,
    }


@pytest.mark.parametrize("total", [1.0, 3.0, 10.0, 59.0])
def test_smaller_totals_scale(total: float) -> None:
    """A smaller total shortens every limit by the same factor."""
    for name, seconds in limits(total)._asdict().items():
        assert seconds == pytest.approx(limits()._asdict()[name] * total / 60)


def test_larger_totals_wait_for_slow_servers() -> None:
    """A larger total gives greeting and replies more time, and a dead name server or address none."""
    large, default = limits(300), limits()
    assert large.greeting == 5 * default.greeting
    assert large.reply == 5 * default.reply
    assert (large.dns, large.connect, large.quit) == (default.dns, default.connect, default.quit)


@pytest.mark.parametrize(
    "port, mode",
    [(465, Mode.SMTPS), (2465, Mode.SMTPS), (587, Mode.STARTTLS), (25, Mode.STARTTLS), (2525, Mode.STARTTLS)],
)
def test_by_port(port: int, mode: Mode) -> None:
    """Implicit TLS belongs to 465 and 2465 alone."""
    assert by_port(port) is mode


def test_steps_are_values() -> None:
    """Steps compare by what they say."""
    assert Step(Stage.EHLO, after_tls=True) != Step(Stage.EHLO)
