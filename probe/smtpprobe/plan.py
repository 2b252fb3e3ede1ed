"""What a session does, as tables: the steps of each mode and depth, and the time that each may take."""

from typing import NamedTuple

from smtpprobe.vocabulary import Depth, Mode, Stage

DEFAULT_TOTAL = 60.0
SLOW_GREETING = 5.0
# No more recipients are asked after so many refusals, the one of an experiment counted: fail2ban counts each, and bars
# an address that production shares after five in ten minutes.
REFUSED_RECIPIENTS = 2


class Step(NamedTuple):
    """One step of the walk; ``after_tls`` marks what is said again on the encrypted channel."""

    stage: Stage
    after_tls: bool = False


class Limits(NamedTuple):
    """Seconds. ``total`` holds for the whole run, ``greeting_latest`` is counted from its start.

    ``pause`` lies between two connections to one server, ``reserve`` is the time kept for experiments.
    """

    total: float
    dns: float
    connect: float
    connect_all: float
    greeting: float
    greeting_latest: float
    tls: float
    reply: float
    dot: float
    quit: float
    pause: float


_OPEN = (Step(Stage.DNS), Step(Stage.CONNECT))
_HELLO = (Step(Stage.GREETING), Step(Stage.EHLO))
_BEFORE_LOGIN: dict[Mode, tuple[Step, ...]] = {
    Mode.PLAIN: (*_OPEN, *_HELLO),
    Mode.STARTTLS: (*_OPEN, *_HELLO, Step(Stage.STARTTLS), Step(Stage.TLS), Step(Stage.EHLO, after_tls=True)),
    Mode.SMTPS: (*_OPEN, Step(Stage.TLS), Step(Stage.GREETING, after_tls=True), Step(Stage.EHLO, after_tls=True)),
}
_LAST_BEFORE_LOGIN: dict[Depth, frozenset[Stage]] = {
    Depth.GREETING: frozenset({Stage.GREETING}),
    Depth.EHLO: frozenset({Stage.EHLO}),
}
_LOGIN = (Step(Stage.AUTH, after_tls=True),)
_ENVELOPE = (Step(Stage.MAIL, after_tls=True), Step(Stage.RCPT, after_tls=True))
_MESSAGE = (Step(Stage.DATA, after_tls=True), Step(Stage.DOT, after_tls=True))


def stages(mode: Mode, depth: Depth, *, login: bool = True) -> tuple[Step, ...]:
    """Return the steps in their order, without ``quit``, which follows wherever the session ends.

    Depth ``greeting`` and ``ehlo`` stop at the first such stage; ``tls`` ends with the EHLO that follows the handshake,
    in mode plain with the only one. ``login`` is false where a request has no credentials.
    """
    before = _BEFORE_LOGIN[mode]
    last = _LAST_BEFORE_LOGIN.get(depth)
    if last is not None:
        end = next(index for index, step in enumerate(before) if step.stage in last)
        return before[: end + 1]
    steps = before
    if depth is not Depth.TLS and login:
        steps += _LOGIN
    if depth in {Depth.ENVELOPE, Depth.MESSAGE}:
        steps += _ENVELOPE
    if depth is Depth.MESSAGE:
        steps += _MESSAGE
    return tuple(step._replace(after_tls=False) for step in steps) if mode is Mode.PLAIN else steps


def limits(total: float = DEFAULT_TOTAL) -> Limits:
    """Return the limits of a run of ``total`` seconds: those of 60 s, scaled down with a smaller total.

    A larger total gives slow servers more time (greeting, handshake, replies), never a dead name server or address.
    """
    factor = total / DEFAULT_TOTAL
    down = min(factor, 1.0)
    return Limits(
        total=total,
        dns=5 * down,
        connect=10 * down,
        connect_all=15 * down,
        greeting=35 * factor,
        greeting_latest=total - 12 * down,
        tls=10 * factor,
        reply=20 * factor,
        dot=30 * factor,
        quit=2 * down,
        pause=2 * down,
    )


def by_port(port: int) -> Mode:
    """Return the mode that a port number stands for (RFC 8314 §3.3, and Amazon's 2465)."""
    return Mode.SMTPS if port in {465, 2465} else Mode.STARTTLS
