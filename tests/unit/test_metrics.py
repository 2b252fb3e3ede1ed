"""Metrics: a closed set, labels of closed words, values that are the status's, series that go with their probe."""

from datetime import timedelta

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families
from runs_made import NOON, bad_login, error, finished, login_spec, passed, probe, refused, skipped_login, spec

from smtpprobe.model import Certificate, TlsFacts
from smtpprobe.resource import Status
from smtpprobe.status import fold, refold, running
from smtpprobe.vocabulary import ConditionType, Outcome, Reason, Stage
from smtpprobe_operator import schedule
from smtpprobe_operator.metric_table import METRICS, PROBE_METRICS
from smtpprobe_operator.metrics import Snapshot, exposition

SPEC = login_spec()


def at(minutes):
    return NOON + timedelta(minutes=minutes)


def ran(*results, of=SPEC, **fields):
    status = Status()
    for result in results:
        end = finished(of, result, f"slot:{int(result.finished_at.timestamp())}")
        status = fold(status, of, generation=1, finished=end, now=result.finished_at)
    me = probe(of, status, **fields)
    return msgspec.structs.replace(me, status=schedule.stamp(me, status, at(0)))


def scrape(*probes, **fields):
    snapshot = Snapshot(**{"now": at(1), "opened": NOON, "probes": probes, **fields})
    families = list(text_string_to_metric_families(exposition(snapshot).decode()))
    return {
        (sample.name, *sorted((k, v) for k, v in sample.labels.items() if k not in {"namespace", "name"})): sample.value
        for family in families
        for sample in family.samples
    }


STAGE_AUTH = ("smtpprobe_stage_success", ("location", "default"), ("stage", "auth"))


def test_the_families_are_the_table_and_nothing_else():
    """Every family of the table is there with its type and help, also without a probe, and no other one is."""
    snapshot = Snapshot(now=NOON, opened=NOON)
    families = {f.name: f for f in text_string_to_metric_families(exposition(snapshot).decode())}
    expected = {metric.name.removesuffix("_total"): metric for metric in METRICS}
    assert set(families) == set(expected)
    for name, metric in expected.items():
        assert (families[name].type, families[name].documentation) == (metric.type, metric.help)


def test_labels_are_those_of_the_table_and_closed_words():
    """Each series carries exactly the table's labels; stage, reason, condition and outcome are words of the vocabulary."""
    closed = {"stage": Stage, "reason": Reason, "condition": ConditionType, "outcome": Outcome}
    hostile = msgspec.structs.replace(bad_login(SPEC), message='535 "evil" \\ text', server_ip="198.51.100.5")
    snapshot = Snapshot(
        now=NOON, opened=NOON, probes=(ran(hostile), ran(passed(SPEC, ip="203.0.113.7"), uid="b", name="b")),
        api_calls={("PATCH", 200): 3}, watch_age={"pods": 1.5},
    )  # fmt: skip
    text = exposition(snapshot).decode()
    labels = {metric.name: set(metric.labels) for metric in METRICS}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            assert set(sample.labels) == labels[sample.name], sample.name
            for label, value in sample.labels.items():
                assert label not in closed or value in set(closed[label]), (label, value)
    assert "evil" not in text
    assert "203.0.113.7" not in text
    assert "198.51.100.5" not in text


def test_a_refused_login_reads_as_its_status_does():
    """success 0, the reason, the failed stage 0 and those before it 1, counts and times as in the status."""
    me = ran(passed(SPEC, at(-30)), bad_login(SPEC, at(0)))
    found = scrape(me)
    assert found["smtpprobe_success", ("location", "default")] == 0
    assert found[STAGE_AUTH] == 0
    assert found["smtpprobe_stage_success", ("location", "default"), ("stage", "ehlo")] == 1
    assert found["smtpprobe_stage_duration_seconds", ("location", "default"), ("stage", "ehlo")] == pytest.approx(0.02)
    assert found["smtpprobe_failure_reason", ("reason", "BadCredentials")] == 1
    assert found["smtpprobe_consecutive_failures",] == me.status.consecutive_failures == 1
    assert found["smtpprobe_last_run_timestamp_seconds",] == me.status.last_run_time.timestamp()
    assert found["smtpprobe_next_run_timestamp_seconds",] == me.status.next_run_time.timestamp()
    assert found["smtpprobe_interval_seconds",] == 1800
    for condition in me.status.conditions:
        key = ("smtpprobe_condition", ("condition", condition.type))
        assert found.get(key) == {"True": 1, "False": 0}.get(condition.status)
    assert "smtpprobe_egress_authorized" not in {key[0] for key in found}


def test_a_stage_that_was_not_reached_has_no_series():
    """After a refused connection there is no auth series: absent, neither 0 nor 1."""
    found = scrape(ran(refused(SPEC, Reason.CONNECT_REFUSED, Stage.CONNECT, code=None)))
    assert found["smtpprobe_stage_success", ("location", "default"), ("stage", "connect")] == 0
    assert STAGE_AUTH not in found


def test_auth_stays_0_through_the_pause():
    """In the fourth and the tenth run, without a login, stage auth is 0, the pause 1 and failures go on counting."""
    runs = [bad_login(SPEC, at(0)), bad_login(SPEC, at(30), salt="5b")] + [
        skipped_login(SPEC, at(60 + 30 * n)) for n in range(8)
    ]
    for length in (4, 10):
        found = scrape(ran(*runs[:length]))
        assert found[STAGE_AUTH] == 0
        assert found["smtpprobe_auth_paused",] == 1
        assert found["smtpprobe_consecutive_failures",] == length
        assert found["smtpprobe_failure_reason", ("reason", "BadCredentials")] == 1


def test_a_session_that_ends_before_the_login_does_not_lift_the_pause():
    """While logins are paused a closed port leaves Authenticated False and stage auth 0, so that the alert stays."""
    path = refused(SPEC, Reason.CONNECT_TIMEOUT, Stage.CONNECT, at(0), code=None)
    me = ran(bad_login(SPEC, at(-60)), bad_login(SPEC, at(-30)), path)
    found = scrape(me)
    assert found[STAGE_AUTH] == 0
    assert found["smtpprobe_condition", ("condition", "Authenticated")] == 0
    assert found["smtpprobe_failure_reason", ("reason", "ConnectTimeout")] == 1
    condition = next(c for c in me.status.conditions if c.type is ConditionType.AUTHENTICATED)
    assert condition.reason == "BadCredentials"
    assert "11:30" in condition.message
    once = scrape(ran(bad_login(SPEC, at(-30)), path))
    assert STAGE_AUTH not in once


def test_an_error_keeps_the_last_answer_and_shows_its_reason():
    """A run that could not take place changes success, stages and last run in nothing; the reason is the Error's."""
    before = scrape(ran(passed(SPEC, at(-30))))
    after = scrape(ran(passed(SPEC, at(-30)), error(Reason.IMAGE_PULL_FAILED, at(0))))
    for key, value in before.items():
        if key[0] in {"smtpprobe_success", "smtpprobe_stage_success", "smtpprobe_last_run_timestamp_seconds"}:
            assert after[key] == value
    assert after["smtpprobe_failure_reason", ("reason", "ImagePullFailed")] == 1
    assert ("smtpprobe_condition", ("condition", "Ready")) not in after


def test_an_answer_for_another_spec_speaks_for_no_session_of_this_one():
    """A new host that no session has reached shows no success, stages or certificate of the old host's session."""
    me = ran(passed(SPEC, at(-30)))
    other = login_spec(host="other.example.com")
    end = finished(other, error(Reason.IMAGE_PULL_FAILED, at(0)), generation=2)
    for status in (
        running(me.status, other, generation=2, now=at(0)),
        fold(me.status, other, generation=2, finished=end, now=at(0)),
    ):
        found = scrape(probe(other, status, generation=2))
        told = {"smtpprobe_success", "smtpprobe_stage_success", "smtpprobe_stage_duration_seconds"}
        assert not [key for key in found if key[0] in told]


def test_a_suspended_probe_promises_nothing():
    """While suspended there is no interval, no next run and no failure reason."""
    me = ran(bad_login(SPEC, at(0)))
    off = login_spec(suspend=True)
    me = msgspec.structs.replace(me, spec=off, status=refold(me.status, off, generation=2, now=at(1)), generation=2)
    names = {key[0] for key in scrape(me)}
    assert not names & {
        "smtpprobe_interval_seconds",
        "smtpprobe_next_run_timestamp_seconds",
        "smtpprobe_failure_reason",
    }
    assert "smtpprobe_success" in names


def test_a_probe_without_credentials_has_no_pause():
    """auth_paused exists for probes with a login only."""
    of = spec()
    assert ("smtpprobe_auth_paused",) not in scrape(ran(passed(of), of=of))
    assert scrape(ran(passed(SPEC)))["smtpprobe_auth_paused",] == 0


def test_the_certificate_of_the_server_itself_is_dated():
    """certificate_not_after is the leaf's, not that of an issuer."""
    names = {"subject": "CN=x", "issuer": "CN=y", "not_before": at(-60)}
    chain = (Certificate(not_after=at(60), **names), Certificate(not_after=at(600), **names))
    result = msgspec.structs.replace(passed(SPEC), tls=TlsFacts(protocol="TLSv1.3", verified=True, chain=chain))
    found = scrape(ran(result))
    key = ("smtpprobe_certificate_not_after_timestamp_seconds", ("location", "default"))
    assert found[key] == at(60).timestamp()


def test_counters_and_the_operators_own_are_the_snapshots():
    """runs_total counts by outcome from 0; flights, lateness, watch age and API calls are what the snapshot says."""
    me = ran(passed(SPEC))
    found = scrape(
        me,
        runs={(me.uid, Outcome.PASSED): 7, ("gone", Outcome.FAILED): 3},
        runs_in_flight=2,
        lateness=4.5,
        slots_skipped=6,
        watch_age={"pods": 1.5, "smtpprobes": 2.5},
        api_calls={("POST", 201): 9, ("PATCH", 0): 1},
    )
    assert [found["smtpprobe_runs_total", ("outcome", o)] for o in Outcome] == [7, 0, 0]
    assert found["smtpprobe_operator_runs_in_flight",] == 2
    assert found["smtpprobe_operator_schedule_lateness_seconds",] == 4.5
    assert found["smtpprobe_operator_slots_skipped_total",] == 6
    assert found["smtpprobe_operator_watch_age_seconds", ("resource", "pods")] == 1.5
    assert found["smtpprobe_operator_api_calls_total", ("code", "201"), ("verb", "POST")] == 9


def test_series_vanish_with_their_probe():
    """Without the probe no series carries its name, although the counters still know its uid."""
    me = ran(bad_login(SPEC))
    snapshot = Snapshot(now=NOON, opened=NOON, runs={(me.uid, Outcome.FAILED): 1})
    assert b"order-mail" not in exposition(snapshot)


def test_a_status_that_somebody_broke_does_not_break_the_scrape():
    """TLS facts or stages that nobody can read cost their own series, not the answer to Prometheus."""
    me = ran(passed(SPEC))
    broken = msgspec.structs.replace(me.status.locations[0], tls={"chain": [{"notAfter": "never"}]})
    me = msgspec.structs.replace(me, status=msgspec.structs.replace(me.status, locations=(broken,)))
    found = scrape(me)
    assert found["smtpprobe_success", ("location", "default")] == 1


def test_the_table_says_when_a_series_is_absent():
    """Alerts and documentation need to know of each probe metric when it is not there; only counters always are."""
    assert all(metric.absent or metric.type == "counter" for metric in PROBE_METRICS)
    assert all(metric.name.endswith("_total") is (metric.type == "counter") for metric in METRICS)
