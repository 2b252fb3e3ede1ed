"""How many runs of one probe fail2ban may see in ten minutes, by the operator's own schedule, pauses and status."""

from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import count

import msgspec
from jails import FIND_SECONDS
from runs_made import NOON, bad_login, error, probe, refused, skipped_login

from smtpprobe.model import AuthFacts, ProbeResult
from smtpprobe.resource import Spec
from smtpprobe.status import Finished, fold
from smtpprobe.vocabulary import Reason, Stage
from smtpprobe_operator import schedule
from smtpprobe_operator.pause import login_policy

DAY = timedelta(hours=24)
SESSION = timedelta(seconds=2)
# What a run comes to: of its spec, its time, its number, and whether it may log in
Ending = Callable[[Spec, datetime, int, bool], ProbeResult]


def no(spec: Spec, at: datetime, _number: int, _login: bool) -> ProbeResult:
    """The server refuses a recipient."""
    return refused(spec, Reason.RELAY_DENIED, Stage.RCPT, at)


def wrong_password(spec: Spec, at: datetime, _number: int, login: bool) -> ProbeResult:
    """The login is refused, where it is sent."""
    return bad_login(spec, at) if login else skipped_login(spec, at)


def lost(spec: Spec, at: datetime, number: int, login: bool) -> ProbeResult:
    """The pod is lost after its session: nobody hears what the server said."""
    facts = AuthFacts(sent=True, refused=True, salt=f"{number:02x}")
    sent = spec.credentials_secret_ref is not None and login
    return msgspec.structs.replace(error(Reason.POD_LOST, at), auth=facts if sent else AuthFacts())


def half_lost(spec: Spec, at: datetime, number: int, login: bool) -> ProbeResult:
    """Every second pod is lost, the others hear the server's no."""
    heard = wrong_password if spec.credentials_secret_ref is not None else no
    return (lost if number % 2 == 0 else heard)(spec, at, number, login)


def most_runs(spec: Spec, ending: Ending, *, uid: str = "uid") -> int:
    """The most sessions that could be refused in ten minutes of a day: those that log in where the spec has a login."""
    me, seen, at = probe(spec, uid=uid), [], NOON
    for number in count():
        due = schedule.due(me, at)
        assert due is not None
        may = login_policy(me, (), at, run=due.run) is None
        if may or spec.credentials_secret_ref is None:
            seen.append(at)
        end = at + SESSION
        result = msgspec.structs.replace(ending(spec, end, number, may), started_at=at, finished_at=end)
        status = fold(me.status, spec, generation=1, finished=Finished(run=due.run, result=result), now=end)
        me = msgspec.structs.replace(me, status=status)
        following = schedule.next_run(me, end)
        assert following is not None
        at = max(following, end)
        if at > NOON + DAY:
            break
    window = timedelta(seconds=FIND_SECONDS)
    return max(sum(first <= other <= first + window for other in seen) for first in seen)
