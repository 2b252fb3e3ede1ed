"""Runs under way: one a probe, few at a time, few to one host."""

from collections.abc import Iterator
from datetime import datetime, timedelta

import msgspec

from smtpprobe.discovery import AT_A_TIME
from smtpprobe.found import looks
from smtpprobe.resource import RunRef, Spec
from smtpprobe_operator.harvest import START_DEADLINE_SECONDS
from smtpprobe_operator.jobs import POD_MARGIN_SECONDS, job_name
from smtpprobe_operator.registry import LoginKey, Probe, login_key


class Flight(msgspec.Struct, kw_only=True):
    """One run under way. ``login`` is the account that it may log in to, ``checks`` how often it was looked after.

    ``connections`` is how many it may have open to its host at a time.
    """

    uid: str
    namespace: str
    job: str
    run: RunRef
    host: str
    started: datetime
    pod_deadline: float
    login: LoginKey | None = None
    connections: int = 1
    checks: int = 0


def flight_of(probe: Probe, spec: Spec, run: RunRef, started: datetime) -> Flight:
    """Describe a run of a probe as it is now."""
    return Flight(
        uid=probe.uid,
        namespace=probe.namespace,
        job=job_name(probe.uid, run),
        run=run,
        host=host_key(spec),
        started=started,
        pod_deadline=float(spec.timeout_seconds + POD_MARGIN_SECONDS),
        login=login_key(probe),
        connections=connections(probe, spec),
    )


def connections(probe: Probe, spec: Spec) -> int:
    """Return how many connections at a time the next run of a probe may have to its host."""
    return AT_A_TIME if looks(spec, probe.status, probe.generation) else 1


def host_key(spec: Spec) -> str:
    return spec.host.lower().rstrip(".")


class Flights:
    """The runs under way, by the uid of their probe."""

    def __init__(self, *, max_runs: int, max_per_host: int) -> None:
        self._max_runs = max_runs
        self._max_per_host = max_per_host
        self._flights: dict[str, Flight] = {}
        self._lingering: dict[str, Flight] = {}

    def full(self) -> bool:
        return len(self._flights) >= self._max_runs

    def host_free(self, host: str, more: int = 1) -> bool:
        """Whether a run with ``more`` connections at a time to this host may start now; a lone one always may."""
        used = sum(flight.connections for flight in self._flights.values() if flight.host == host)
        return not used or used + more <= self._max_per_host

    def logins(self, login: LoginKey | None, now: datetime) -> int:
        """How many runs may be logging in to this account now, those that linger included."""
        self._lingering = {job: flight for job, flight in self._lingering.items() if _alive(flight, now)}
        known = (*self._flights.values(), *self._lingering.values())
        return sum(1 for flight in known if login is not None and flight.login == login)

    def linger(self, flight: Flight) -> None:
        """Keep an ended run's login in the count until its pod has been heard of, or must be dead.

        A node that does not answer keeps its pods running, whatever the API server was told to delete.
        """
        if flight.login is not None:
            self._lingering[flight.job] = flight

    def heard_of(self, job: str) -> None:
        """Stop counting the login of a run whose pod has finished: from now on its result counts."""
        self._lingering.pop(job, None)

    def start(self, flight: Flight) -> None:
        self._flights[flight.uid] = flight

    def get(self, uid: str) -> Flight | None:
        return self._flights.get(uid)

    def end(self, uid: str) -> Flight | None:
        return self._flights.pop(uid, None)

    def __iter__(self) -> Iterator[Flight]:
        return iter(tuple(self._flights.values()))

    def __len__(self) -> int:
        return len(self._flights)


def _alive(flight: Flight, now: datetime) -> bool:
    return now - flight.started < timedelta(seconds=START_DEADLINE_SECONDS + flight.pod_deadline)
