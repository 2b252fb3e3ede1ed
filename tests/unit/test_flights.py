"""Limits on runs under way, and the log's form."""

import logging
from datetime import UTC, datetime, timedelta

import msgspec

from smtpprobe.resource import RunRef
from smtpprobe.spec import parse
from smtpprobe_operator.flights import Flights, connections, flight_of, host_key
from smtpprobe_operator.jobs import job_name
from smtpprobe_operator.logs import OneLine
from smtpprobe_operator.registry import from_body

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def probe(uid, host="a.example.com", secret=None):
    spec = {"host": host, "port": 587, "mode": "starttls", "timeoutSeconds": 40}
    if secret:
        spec["credentialsSecretRef"] = {"name": secret}
    meta = {"uid": uid, "namespace": "ns", "name": uid, "creationTimestamp": "2026-01-01T00:00:00Z"}
    return from_body({"metadata": meta, "spec": spec})


def start(flights, *args, **kwargs):
    me = probe(*args, **kwargs)
    flights.start(flight_of(me, me.spec, RunRef(trigger="slot:0", generation=1), NOW))


def test_limits_are_counted_over_all_and_by_host():
    """All runs count for the limit, those to one host for its own, however it is spelled; an end makes room."""
    flights = Flights(max_runs=3, max_per_host=2)
    start(flights, "1", "a.example.com")
    start(flights, "2", "A.example.com.")
    assert not flights.host_free(host_key(probe("x").spec))
    assert flights.host_free("b.example.com")
    start(flights, "3", "b.example.com")
    assert flights.full()
    flights.end("1")
    assert not flights.full()
    assert flights.host_free("a.example.com")


def test_a_run_that_looks_at_ports_counts_as_two_to_its_host():
    """Mode auto without a port has two connections at a time: it starts where both are free, or alone."""
    looking = msgspec.structs.replace(probe("auto"), spec=parse({"host": "a.example.com", "mode": "auto"}).spec)
    assert connections(looking, looking.spec) == 2
    assert connections(probe("1"), probe("1").spec) == 1
    flights = Flights(max_runs=9, max_per_host=2)
    assert flights.host_free("a.example.com", 2)
    start(flights, "1", "a.example.com")
    assert not flights.host_free("a.example.com", 2)
    assert flights.host_free("a.example.com")
    flights.end("1")
    flights.start(flight_of(looking, looking.spec, RunRef(trigger="slot:0", generation=1), NOW))
    assert not flights.host_free("a.example.com")
    assert Flights(max_runs=9, max_per_host=1).host_free("a.example.com", 2)


def test_logins_are_counted_by_account():
    """Runs with the same namespace, Secret and host count as logins to one account; runs without a Secret do not."""
    flights = Flights(max_runs=9, max_per_host=9)
    start(flights, "1", secret="s")
    start(flights, "2", secret="s")
    start(flights, "3", secret="t")
    start(flights, "4")
    assert flights.logins(("ns", "s", "a.example.com"), NOW) == 2
    assert flights.logins(None, NOW) == 0


def test_login_of_a_pod_that_does_not_go_counts_until_it_is_heard_of_or_dead():
    """A superseded run whose node is silent holds its account's turn, at most until its pod's own deadline; others do not."""
    flights = Flights(max_runs=9, max_per_host=9)
    for uid, secret in (("1", "s"), ("2", "s"), ("3", None)):
        me = probe(uid, secret=secret)
        flights.linger(flight_of(me, me.spec, RunRef(trigger="slot:0", generation=1), NOW))
    account = ("ns", "s", "a.example.com")
    assert flights.logins(account, NOW) == 2
    assert not flights.full()
    flights.heard_of(job_name("1", RunRef(trigger="slot:0", generation=1)))
    assert flights.logins(account, NOW + timedelta(seconds=189)) == 1
    assert flights.logins(account, NOW + timedelta(seconds=190)) == 0


def test_pod_deadline_follows_the_timeout():
    """A run's pod has 30 seconds more than its session."""
    me = probe("1")
    assert flight_of(me, me.spec, RunRef(trigger="once", generation=1), NOW).pod_deadline == 70


def test_log_lines_are_one_line_and_bounded():
    """A message with line breaks, or with a hundred thousand names in it, becomes one bounded line."""
    record = logging.LogRecord("x", logging.INFO, "", 0, "a\nb %s", ("uid " * 100_000,), None)
    line = OneLine().format(record)
    assert "\n" not in line
    assert len(line) < 700
    assert "characters" in line
