"""Which runs may log in: so that two wrong passwords never become three logins. (Skeleton: signatures hold.)"""

from collections.abc import Sequence
from datetime import datetime

from smtpprobe.model import RefusedLogin
from smtpprobe.resource import RunRef
from smtpprobe_operator.registry import Probe


def login_policy(me: Probe, siblings: Sequence[Probe], now: datetime, *, run: RunRef) -> RefusedLogin | None:
    """Return the refused credentials that this run must not try again, or None where it may log in.

    ``siblings`` as ``Registry.siblings``. Paused, or refused less than 15 minutes ago, counted over all of them;
    run-now allows one login.
    """
    raise NotImplementedError


def may_start(me: Probe, siblings: Sequence[Probe], in_flight: int) -> bool:
    """Whether a run may start beside ``in_flight`` others with the same namespace, Secret and host.

    In flight is every Job whose result is not folded yet. One at a time until the last login succeeded, then two.
    """
    raise NotImplementedError
