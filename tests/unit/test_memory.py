"""What a status remembers between runs, and what the next request carries of it: experiments and forms of user names."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest
from runs_made import NOON, bad_login, error, finished, login_spec, passed, probe, refused

from smtpprobe.codec import decode_request, encode_request
from smtpprobe.memory import KEPT_EXPERIMENTS
from smtpprobe.model import AuthFacts, Experiment, ProbeRequest, ProbeResult, SecondLogin, TriedVariant, Variants
from smtpprobe.resource import Spec, Status, decode_status, encode_status
from smtpprobe.spec import to_request
from smtpprobe.status import fold
from smtpprobe.vocabulary import Reason, Stage
from smtpprobe_operator.pause import remembering

SPEC = login_spec(tryUsernameVariants=True)
EXPERIMENT = Experiment(
    name="old-tls",
    showed="a handshake with TLS 1.1 works",
    answer="old",
    decided=Reason.TLS_PROTOCOL_UNSUPPORTED,
    reason=Reason.CONNECT_RESET,
    server="198.51.100.5",
)


def at(minutes: float):
    return NOON + timedelta(minutes=minutes)


def run(status: Status, spec: Spec, result: ProbeResult, slot: int, *, generation: int = 1) -> Status:
    """Fold a run and take the status through its JSON form, as an API server does."""
    done = finished(spec, result, f"slot:{slot}", generation=generation)
    folded = fold(status, spec, generation=generation, finished=done, now=result.finished_at)
    return decode_status(encode_status(folded))


def asked(spec: Spec, status: Status, siblings: tuple[Any, ...] = ()) -> ProbeRequest:
    """The request of the next run, through its JSON form."""
    request = to_request(spec, default_helo=None, credentials_dir="/x", ca_file=None, refused=None)
    return decode_request(encode_request(remembering(request, probe(spec, status), siblings)))


def reset(*experiments: Experiment, minutes: float = 0, spec: Spec = SPEC) -> ProbeResult:
    result = refused(spec, Reason.TLS_PROTOCOL_UNSUPPORTED, Stage.TLS, at(minutes), code=None)
    return msgspec.structs.replace(result, experiments=experiments)


def two_logins(spec: Spec, minutes: float, *, second: SecondLogin, username: str | None = None) -> ProbeResult:
    result = bad_login(spec, at(minutes))
    return msgspec.structs.replace(result, auth=msgspec.structs.replace(result.auth, second=second, username=username))


REFUSED_TOO = SecondLogin(shape="address", refused=True, reason=Reason.BAD_CREDENTIALS)


def test_the_next_request_carries_what_was_found() -> None:
    """An experiment goes through status and request with the time when it was made, and is not remembered twice."""
    status = run(Status(), SPEC, reset(EXPERIMENT), 1000)
    known = asked(SPEC, status).known
    assert known == (msgspec.structs.replace(EXPERIMENT, since=at(0)),)
    status = run(status, SPEC, reset(known[0], minutes=30), 2800)
    assert asked(SPEC, status).known == known


def test_a_new_spec_and_a_pass_begin_anew() -> None:
    """What was found for another spec, or before a pass, is in no request; a suspended probe's memory stays."""
    status = run(Status(), SPEC, reset(EXPERIMENT), 1000)
    assert asked(login_spec(tryUsernameVariants=True, heloName="other.example.com"), status).known == ()
    suspended = login_spec(tryUsernameVariants=True, suspend=True)
    assert len(asked(suspended, status).known) == 1
    assert asked(SPEC, run(status, SPEC, passed(SPEC, at(30)), 2800)).known == ()


def test_an_error_keeps_what_is_known() -> None:
    """A run that could not take place forgets nothing, and remembers what it had found before it was ended."""
    status = run(Status(), SPEC, reset(EXPERIMENT), 1000)
    assert len(run(status, SPEC, error(Reason.IMAGE_PULL_FAILED, at(30)), 2800).experiments) == 1
    ended = msgspec.structs.replace(error(Reason.DEADLINE_EXCEEDED, at(30)), experiments=(EXPERIMENT,))
    assert len(run(Status(), SPEC, ended, 2800).experiments) == 1


def test_the_memory_is_bounded() -> None:
    """A server with ever new addresses fills no status: the newest eight are kept."""
    status = Status()
    for number in range(20):
        one = msgspec.structs.replace(EXPERIMENT, server=f"198.51.100.{number}")
        status = run(status, SPEC, reset(one, minutes=30 * number), 1000 + 1800 * number)
    assert [one.server for one in status.experiments] == [
        f"198.51.100.{number}" for number in range(19, 19 - KEPT_EXPERIMENTS, -1)
    ]


# ------------------------------------------------------------------------------------------------- forms of user names


def test_two_refusals_of_one_run_pause() -> None:
    """A wrong password with the option is two refused logins in one run: paused after it, and no third login."""
    status = run(Status(), SPEC, two_logins(SPEC, 0, second=REFUSED_TOO), 1000)
    assert (status.auth.refused, status.auth.paused) == (2, True)
    assert asked(SPEC, status).variants == Variants(refused=2, tried=_tried(status))


def _tried(status: Status) -> TriedVariant:
    variant = status.auth.variant
    assert variant is not None
    fields = msgspec.structs.asdict(variant)
    del fields["spec_digest"]
    return TriedVariant(**fields)


def test_a_form_that_works_is_remembered() -> None:
    """One refusal, not paused; the form, with the mark of the credentials, is in the next request of this spec only."""
    worked = SecondLogin(shape="address", succeeded=True)
    status = run(Status(), SPEC, two_logins(SPEC, 0, second=worked, username="sender@example.com"), 1000)
    assert (status.auth.refused, status.auth.paused) == (1, False)
    variants = asked(SPEC, status).variants
    assert variants is not None
    assert variants.tried is not None
    assert (variants.tried.username, variants.tried.succeeded) == ("sender@example.com", True)
    assert (variants.tried.salt, variants.tried.fingerprint) == ("5a", "beef")
    other = login_spec(tryUsernameVariants=True, heloName="other.example.com")
    assert asked(other, status).variants == Variants(refused=1)


def test_a_success_keeps_what_was_tried() -> None:
    """After a login that passed the same credentials are not tried in another form once more."""
    status = run(Status(), SPEC, two_logins(SPEC, 0, second=REFUSED_TOO), 1000)
    status = run(status, SPEC, passed(SPEC, at(30)), 2800)
    variants = asked(SPEC, status).variants
    assert variants is not None
    assert variants.refused == 0
    assert variants.tried is not None


def test_refusals_of_siblings_stand() -> None:
    """What other probes with the same Secret and host were refused leaves no room for a second login."""
    status = run(Status(), SPEC, bad_login(SPEC, at(0)), 1000)
    sibling = probe(SPEC, status, uid="other", name="other")
    assert asked(SPEC, Status(), (sibling,)).variants == Variants(refused=1)


@pytest.mark.parametrize("option, count", [(True, 2), (False, 1)])
def test_a_lost_pod_may_have_sent_two(option: bool, count: int) -> None:
    """A pod that was lost counts as many logins as its spec allowed."""
    spec = login_spec(tryUsernameVariants=option)
    lost = msgspec.structs.replace(
        error(Reason.OUT_OF_MEMORY, at(0)), auth=AuthFacts(sent=True, refused=True, salt="aa")
    )
    assert run(Status(), spec, lost, 1000).auth.refused == count


def test_a_lock_that_the_second_login_met_pauses_at_once() -> None:
    """Where the other form is answered with a lock, logins pause whatever the first answer was."""
    locked = SecondLogin(shape="address", refused=True, reason=Reason.ACCOUNT_LOCKED)
    assert run(Status(), SPEC, two_logins(SPEC, 0, second=locked), 1000).auth.paused


def test_no_option_no_leave() -> None:
    """Without the option a request carries no leave for a second login."""
    assert asked(login_spec(), Status()).variants is None
