"""Who may log in: refusals counted over probes that share a Secret and a host, through restarts and copies."""

from datetime import timedelta

import msgspec
import pytest
from hypothesis import given, settings, strategies as st
from runs_made import NOON, bad_login, error, finished, login_spec, passed, probe, refused, skipped_login, spec

from smtpprobe.model import AuthFacts
from smtpprobe.refusals import after_run, login_target, total
from smtpprobe.resource import AuthPause, RunRef, Status
from smtpprobe.status import fold, run_digest
from smtpprobe.vocabulary import Reason, Stage
from smtpprobe_operator import schedule
from smtpprobe_operator.pause import login_policy, may_start

SPEC = login_spec()
TARGET = "order-mail-smtp@smtp.example.com"
SLOT, ASKED = RunRef(trigger="slot:1", generation=1), RunRef(trigger="now:x", generation=1)


def at(minutes: float):
    return NOON + timedelta(minutes=minutes)


def after(pause: AuthPause, *results, shared=()) -> AuthPause:
    for result in results:
        pause = after_run(pause, SPEC, result, at=result.finished_at, shared=shared)
    return pause


def having(auth: AuthPause, **fields):
    return probe(SPEC, Status(auth=auth), **fields)


@pytest.mark.parametrize(
    "reason", [Reason.ACCOUNT_LOCKED, Reason.AUTH_THROTTLED, Reason.AUTH_DISABLED, Reason.APP_PASSWORD_REQUIRED]
)
def test_reasons_that_another_try_makes_worse_pause_at_once(reason):
    """One refusal that says locked, throttled, disabled or app password wanted is enough."""
    pause = after(AuthPause(), bad_login(SPEC, at(0), reason=reason))
    assert (pause.paused, pause.refused, pause.since, pause.reason) == (True, 1, at(0), reason)


def test_other_refusals_pause_after_two_in_a_row():
    """The first refusal pauses nothing, the second does, and the pause knows since when."""
    one = after(AuthPause(), bad_login(SPEC, at(0)))
    two = after(one, bad_login(SPEC, at(30), salt="5b"))
    assert (one.paused, one.refused) == (False, 1)
    assert (two.paused, two.refused, two.since, two.last_attempt) == (True, 2, at(30), at(30))


def test_a_success_forgets_every_refusal():
    """235 clears the pause and is remembered with its time."""
    pause = after(AuthPause(), bad_login(SPEC, at(0)), bad_login(SPEC, at(30), salt="5b"), passed(SPEC, at(60)))
    assert pause == AuthPause(target=TARGET, last_success=at(60))


def test_changed_credentials_count_from_one():
    """The same salt with another fingerprint is another password: its first refusal is the first."""
    pause = after(AuthPause(), bad_login(SPEC, at(0)), bad_login(SPEC, at(30), fingerprint="cafe"))
    assert (pause.refused, pause.paused) == (1, False)


def test_another_salt_cannot_be_compared_and_counts_on():
    """A fingerprint with another salt proves no change, so the careful count goes on."""
    pause = after(AuthPause(), bad_login(SPEC, at(0)), bad_login(SPEC, at(30), salt="77", fingerprint="cafe"))
    assert (pause.refused, pause.paused) == (2, True)


def test_what_sent_no_login_changes_nothing():
    """A temporary refusal, a run that ended before AUTH, and an Error without AUTH leave the count as it is."""
    one = after(AuthPause(), bad_login(SPEC, at(0)))
    temporary = refused(SPEC, Reason.SERVICE_UNAVAILABLE, Stage.AUTH, at(20), code=454, auth=AuthFacts(sent=True))
    early = refused(SPEC, Reason.CONNECT_TIMEOUT, Stage.CONNECT, at(40), code=None)
    assert after(one, temporary, early, error(Reason.POD_LOST, at(60))) == one


def test_a_login_without_a_known_end_counts():
    """AUTH was sent and the pod was ended before an answer: that was a login as far as the server's count goes."""
    lost = msgspec.structs.replace(
        error(Reason.DEADLINE_EXCEEDED, at(0)), auth=AuthFacts(sent=True, refused=True, salt="5a", fingerprint="beef")
    )
    pause = after(AuthPause(), lost)
    assert (pause.refused, pause.reason) == (1, "Unknown")
    assert "no answer is known" in (pause.message or "")


def lost_pod(when, mark: str):
    facts = AuthFacts(sent=True, refused=True, salt=mark)
    return msgspec.structs.replace(error(Reason.OUT_OF_MEMORY, when, "out of memory"), auth=facts)


def test_a_lost_pod_counts_as_a_login_until_one_succeeds():
    """Refused, then a pod that was killed: no third login. The same lost pod read again counts once; 235 forgets it."""
    one = after(AuthPause(), bad_login(SPEC, at(0)))
    two = after(one, lost_pod(at(30), "aa"))
    assert (two.refused, two.paused, two.fingerprint) == (2, True, None)
    assert after(two, lost_pod(at(30), "aa")) == two
    told = login_policy(having(two), (), at(9000), run=SLOT)
    assert told is not None
    assert (told.salt, told.fingerprint) == ("aa", "")
    assert after(two, passed(SPEC, at(60))) == AuthPause(target=TARGET, last_success=at(60))
    assert after_run(two, spec(), lost_pod(at(40), "bb"), at=at(40)).refused == 0


def test_lost_pods_of_siblings_add_up():
    """Two probes lose one pod each in the same second, as a node goes: two logins, so no third."""
    a = after(AuthPause(), lost_pod(at(0), "aa"))
    b = after(AuthPause(), lost_pod(at(0), "bb"))
    assert total((a, b)) == 2
    assert login_policy(having(a, uid="a"), (having(b, uid="b"),), at(60), run=SLOT) is not None
    assert login_policy(having(a, uid="a"), (), at(60), run=SLOT) is None


def test_the_session_after_lost_pods_says_which_credentials_are_paused():
    """Nobody knows what a lost pod sent: the next session sends nothing, and from then on a changed Secret is noticed."""
    two = after(AuthPause(), lost_pod(at(0), "aa"), lost_pod(at(30), "bb"))
    facts = AuthFacts(paused=True, salt="bb", fingerprint="beef")
    three = after(two, msgspec.structs.replace(skipped_login(SPEC, at(60)), auth=facts))
    assert three == msgspec.structs.replace(two, fingerprint="beef")
    told = login_policy(having(three), (), at(61), run=SLOT)
    assert told is not None
    assert told.fingerprint == "beef"


def test_the_retry_after_a_lost_pod_waits_15_minutes():
    """Not 30 s: the login may have been sent. An Error without a container that ran is retried after 30 s as ever."""
    for result, seconds in ((lost_pod(NOON, "aa"), 900), (error(Reason.POD_LOST, NOON), 30)):
        status = fold(Status(), SPEC, generation=1, finished=finished(SPEC, result), now=NOON)
        assert schedule.next_run(probe(SPEC, status), NOON) == NOON + timedelta(seconds=seconds)


def test_a_lost_pod_that_is_read_again_after_a_success_counts_no_more():
    """A restart reads the pods of the last hour again: a login that was lost before the last success stays forgotten."""
    gone = finished(SPEC, lost_pod(at(0), "aa"), "slot:1")
    status = fold(Status(), SPEC, generation=1, finished=gone, now=at(0))
    status = fold(status, SPEC, generation=1, finished=finished(SPEC, passed(SPEC, at(15)), "slot:1801"), now=at(15))
    assert fold(status, SPEC, generation=1, finished=gone, now=at(20)) is status


def test_a_result_that_comes_after_its_run_was_given_up_still_counts_its_login():
    """The run is in the status as an Error, then its pod reports a refused login: counted once, the verdict stays."""
    gone = finished(SPEC, error(Reason.POD_LOST, at(3)), "slot:1")
    given_up = fold(Status(), SPEC, generation=1, finished=gone, now=at(3))
    late = finished(SPEC, bad_login(SPEC, at(2)), "slot:1")
    counted = fold(given_up, SPEC, generation=1, finished=late, now=at(4))
    assert (counted.auth.refused, counted.auth.fingerprint) == (1, "beef")
    assert msgspec.structs.replace(counted, auth=given_up.auth) == given_up
    assert fold(counted, SPEC, generation=1, finished=late, now=at(5)) is counted


def test_a_result_that_was_folded_never_counts_its_login_again():
    """After a restart the pods of the last hour are read again: neither the last nor an older one counts twice."""
    status = Status()
    ends = [finished(SPEC, bad_login(SPEC, at(n)), f"slot:{1800 * n + 1}") for n in (0, 30)]
    for n, end in zip((0, 30), ends, strict=True):
        status = fold(status, SPEC, generation=1, finished=end, now=at(n))
    for end in ends:
        assert fold(status, SPEC, generation=1, finished=end, now=at(40)) is status
    assert status.auth.refused == 2


def test_another_secret_or_host_starts_with_a_clean_record():
    """What is remembered of one Secret and host says nothing about another, and without credentials nothing is counted."""
    two = after(AuthPause(), bad_login(SPEC, at(0)), bad_login(SPEC, at(30), salt="5b"))
    for other in (login_spec(host="mail.example.net"), login_spec(credentialsSecretRef={"name": "new"})):
        pause = after_run(two, other, error(Reason.POD_LOST), at=at(40))
        assert msgspec.structs.replace(pause, others=()) == AuthPause(target=login_target(other))
    assert msgspec.structs.replace(after_run(two, spec(), passed(spec()), at=at(40)), others=()) == AuthPause()


def test_a_host_that_is_named_again_opens_no_third_login():
    """Refused twice at A, then B, no login, C and A again: still paused at A, before its first run there and after."""
    two = after(AuthPause(), bad_login(SPEC, at(0)), bad_login(SPEC, at(30), salt="5b"))
    pause = two
    for n, other in enumerate((login_spec(host="b.example.net"), spec(), login_spec(host="c.example.net"))):
        pause = after_run(pause, other, bad_login(other, at(40 + n), salt=f"6{n}"), at=at(40 + n))
    told = login_policy(having(pause), (), at(120), run=SLOT)
    assert told is not None
    assert (told.salt, told.fingerprint) == ("5b", "beef")
    back = after(pause, skipped_login(SPEC, at(121)))
    assert (back.paused, back.refused, back.target) == (True, 2, TARGET)
    assert [record.target for record in back.others] == [f"order-mail-smtp@{host}.example.net" for host in "cb"]


def test_four_accounts_are_remembered_and_no_more():
    """The list of former accounts is bounded, the newest first, without the server's words."""
    pause = AuthPause()
    for n in range(6):
        of = login_spec(host=f"h{n}.example.net")
        pause = after_run(pause, of, bad_login(of, at(n), salt=f"6{n}"), at=at(n))
    assert [record.target for record in pause.others] == [f"order-mail-smtp@h{n}.example.net" for n in (4, 3, 2)]
    assert {record.message for record in pause.others} == {None}


def test_a_paused_probe_is_told_which_credentials_not_to_try():
    """The request carries salt, fingerprint, reason and time of the last refusal, for as long as the pause lasts."""
    me = having(after(AuthPause(), bad_login(SPEC, at(0)), bad_login(SPEC, at(30), salt="5b")))
    for minutes in (31, 60, 60 * 24 * 365):
        told = login_policy(me, (), at(minutes), run=SLOT)
        assert told is not None
        assert (told.salt, told.fingerprint, told.reason, told.since) == ("5b", "beef", "BadCredentials", at(30))


def test_refused_logins_are_at_least_15_minutes_apart():
    """Between the first and the second refusal no login is sent for 15 minutes."""
    me = having(after(AuthPause(), bad_login(SPEC, at(0))))
    assert login_policy(me, (), at(14.9), run=SLOT) is not None
    assert login_policy(me, (), at(15), run=SLOT) is None


def test_run_now_allows_one_login():
    """Run-now logs in through the pause once: not again when its attempt ended in Error after AUTH was sent."""
    auth = after(AuthPause(), bad_login(SPEC, at(0)), bad_login(SPEC, at(30), salt="5b"))
    me = having(auth)
    assert login_policy(me, (), at(31), run=ASKED) is None
    retry = msgspec.structs.replace(ASKED, attempt=1)

    def folded(result):
        run = msgspec.structs.replace(finished(SPEC, result, "now:x"), node=None)
        return probe(SPEC, fold(me.status, SPEC, generation=1, finished=run, now=at(41)))

    assert login_policy(folded(error(Reason.POD_LOST, at(40))), (), at(42), run=retry) is None
    sent = msgspec.structs.replace(
        error(Reason.DEADLINE_EXCEEDED, at(40)), auth=AuthFacts(sent=True, refused=True, salt="5c", fingerprint="beef")
    )
    assert login_policy(folded(sent), (), at(42), run=retry) is not None


def test_siblings_share_the_pause():
    """One refusal each makes two: both probes are paused, the third that never logged in too."""
    a = having(after(AuthPause(), bad_login(SPEC, at(0))), uid="a")
    b_auth = after(AuthPause(), bad_login(SPEC, at(20), salt="6b"), shared=(a.status.auth,))
    b, c = having(b_auth, uid="b"), having(AuthPause(), uid="c")
    assert b_auth.paused
    for me, others in ((a, (b, c)), (b, (a, c)), (c, (a, b))):
        assert login_policy(me, others, at(60), run=SLOT) is not None
    alone = having(AuthPause(), uid="d")
    assert login_policy(alone, (), at(60), run=SLOT) is None


def test_the_pause_outlives_the_probe_that_earned_it():
    """A run that skipped its login for a sibling's refusals remembers them: deleting the sibling opens no third login."""
    a = after(AuthPause(), bad_login(SPEC, at(0)), bad_login(SPEC, at(30), salt="5b"))
    b = after(AuthPause(), skipped_login(SPEC, at(40)), shared=(a,))
    assert b.paused
    assert login_policy(having(b), (), at(60), run=SLOT) is not None


def test_a_copied_refusal_counts_once():
    """A sibling's copy of one refusal does not make two of it."""
    a = after(AuthPause(), bad_login(SPEC, at(0)))
    b = after(AuthPause(), skipped_login(SPEC, at(5)), shared=(a,))
    assert total((a, b)) == 1
    assert login_policy(having(b, uid="b"), (having(a, uid="a"),), at(20), run=SLOT) is None


def test_a_siblings_success_lifts_the_pause():
    """The admin unlocked the account and one probe logged in: the others try again, but not for ever."""
    good = having(AuthPause(target=TARGET, last_success=at(60)), uid="good")
    twice = after(AuthPause(), bad_login(SPEC, at(0)), bad_login(SPEC, at(30), salt="5b"))
    assert login_policy(having(twice), (good,), at(61), run=SLOT) is None
    thrice = after(twice, bad_login(SPEC, at(50), salt="5c"))
    assert login_policy(having(thrice), (good,), at(61), run=SLOT) is not None


def test_one_run_with_a_login_at_a_time_until_one_succeeded():
    """Nothing is known or the last login was refused: one in flight; it succeeded: two; no credentials: no limit."""
    me, good = having(AuthPause()), having(AuthPause(target=TARGET, last_success=at(0)))
    refused_later = having(after(good.status.auth, bad_login(SPEC, at(10))))
    assert [may_start(me, (), n) for n in (0, 1)] == [True, False]
    assert [may_start(me, (good,), n) for n in (0, 1, 2)] == [True, True, False]
    assert [may_start(me, (good, refused_later), n) for n in (0, 1)] == [True, False]
    assert may_start(probe(spec()), (), 50)


EVENTS = st.lists(
    st.tuples(
        st.integers(0, 2),  # which probe
        st.sampled_from(["start", "finish", "lost", "delete and make anew", "supersede", "lost, superseded"]),
        st.integers(1, 1500),  # seconds that pass
    ),
    min_size=5,
    max_size=80,
)


@settings(max_examples=200, deadline=None)
@given(events=EVENTS, probes=st.integers(1, 3), good_first=st.booleans())
def test_two_wrong_passwords_never_become_three_logins(events, probes, good_first):
    """Any interleaving of up to three probes with one Secret, deletions and dropped results: two refused logins at most."""
    world = _World(probes, good_first=good_first)
    for which, what, seconds in events:
        world.now += timedelta(seconds=seconds)
        world.do(which % probes, what)
    for which in range(probes):
        world.do(which, "finish")
    assert world.refused <= 2
    if not good_first:
        assert world.logins <= 2


class _World:
    """A mail server that counts, pods that compare fingerprints, and statuses as the only memory."""

    def __init__(self, probes: int, *, good_first: bool) -> None:
        self.now = NOON
        self.logins = self.refused = self.made = 0
        self.good = good_first
        self.flights: dict[int, tuple] = {}
        start = AuthPause(target=TARGET, last_success=NOON) if good_first else AuthPause()
        self.auth = [start] * probes
        if good_first:
            self.good = False  # from here on the password is wrong: somebody changed it on the server

    def do(self, which: int, what: str) -> None:
        me, siblings = self._probes(which)
        if what == "start" and which not in self.flights and may_start(me, siblings, len(self.flights)):
            self.made += 1
            told = login_policy(me, siblings, self.now, run=RunRef(trigger=f"slot:{self.made}", generation=1))
            self.flights[which] = (told, self.made, self._session(told))
        elif what == "finish" and which in self.flights:
            self._fold(which, me, siblings, SPEC)
        elif what in ("supersede", "lost, superseded") and which in self.flights:
            self._fold(which, me, siblings, login_spec(port=465, mode="smtps"), lost="lost" in what)
        elif what == "lost" and which in self.flights:
            self._fold(which, me, siblings, SPEC, lost=True)
        elif (
            what == "delete and make anew" and which not in self.flights and len(self.auth) > 1 and self._shared(which)
        ):
            self.auth[which] = AuthPause()

    def _shared(self, which: int) -> bool:
        """Deletion forgets what nobody else knows: only a record that a sibling holds too may go here."""
        mine = self.auth[which]
        others = [auth for n, auth in enumerate(self.auth) if n != which]
        return not mine.refused or any(auth.salt == mine.salt for auth in others)

    def _probes(self, which: int):
        made = [having(auth, uid=str(n)) for n, auth in enumerate(self.auth)]
        return made[which], tuple(known for n, known in enumerate(made) if n != which)

    def _session(self, told):
        """The pod's part: skip what was refused before, else log in and be refused."""
        if told is not None and not told.fingerprint:
            facts = AuthFacts(paused=True, salt=told.salt, fingerprint=_mark(told.salt))
            return msgspec.structs.replace(skipped_login(SPEC, self.now), auth=facts)
        if told is not None and told.fingerprint == _mark(told.salt):
            return skipped_login(SPEC, self.now)
        self.logins += 1
        self.refused += 1
        salt = told.salt if told else f"salt{self.made}"
        return bad_login(SPEC, self.now, salt=salt, fingerprint=_mark(salt))

    def _fold(self, which, me, siblings, seen, *, lost: bool = False) -> None:
        _, number, result = self.flights.pop(which)
        result = lost_pod(self.now, f"lost{number}") if lost else result
        run = msgspec.structs.replace(finished(SPEC, result, f"slot:{number}").run, spec_digest=run_digest(seen))
        end = msgspec.structs.replace(finished(SPEC, result), run=run)
        shared = tuple(sibling.status.auth for sibling in siblings)
        status = fold(me.status, SPEC, generation=1, finished=end, now=self.now, shared=shared)
        self.auth[which] = status.auth


def _mark(salt: str) -> str:
    return f"wrong/{salt}"
