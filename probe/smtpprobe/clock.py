"""The time that a run has: each limit from now on, never beyond the end of the whole."""

from time import monotonic
from typing import NamedTuple

from smtpprobe.plan import Limits
from smtpprobe.wire import Limit


class Clock(NamedTuple):
    """The limits of a run that began at ``began`` (the monotonic clock).

    ``alone`` where it is all that its process does, so that a wait may hold up the process for a moment.
    """

    began: float
    limits: Limits
    alone: bool = False

    def limit(self, name: str, seconds: float) -> Limit:
        """Return a limit from now on, or that of the whole run where it comes first."""
        now, end = monotonic(), self.began + self.limits.total
        if now + seconds <= end:
            return Limit(now + seconds, f"{seconds:.3g} s (limit {name})")
        return Limit(end, f"{self.limits.total:.3g} s (limit total)")

    def reply(self) -> Limit:
        """Return the limit of an ordinary reply."""
        return self.limit("reply", self.limits.reply)
