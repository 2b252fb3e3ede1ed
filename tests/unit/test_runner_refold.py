"""What the runner writes and counts: a spec change without a run, and runs that became no last run."""

import asyncio
from datetime import timedelta

import msgspec
from runs_made import NOON, bad_login, error, finished, login_spec, probe, refused, spec

from smtpprobe.resource import Status
from smtpprobe.status import fold
from smtpprobe.vocabulary import Outcome, Reason, Stage
from smtpprobe_operator.flights import Flights
from smtpprobe_operator.registry import Registry, from_body
from smtpprobe_operator.runner import Runner
from smtpprobe_operator.settings import Settings

HELO = "shop.example.com"


def test_a_change_of_the_schedule_keeps_the_ehlo_name_in_the_advice():
    """Where the chart sets the EHLO name, advice still names it after a change that needs no run."""
    before = spec()
    failed = finished(before, refused(before, Reason.HELO_REJECTED, Stage.EHLO), "slot:0")
    status = fold(Status(), before, generation=1, finished=failed, now=NOON, helo=HELO)
    assert status.advice is not None
    assert HELO in status.advice.text
    settings = Settings(probe_image="probe", helo_name=HELO)
    flights = Flights(max_runs=1, max_per_host=1)
    runner = Runner(None, Registry(), settings, flights, lambda: NOON + timedelta(minutes=1))  # type: ignore[arg-type]
    changed = probe(spec(schedule={"interval": "2h"}), status, generation=2)
    after = runner._refolded(changed)
    assert after is not None
    assert after.observed_generation == 2
    assert after.advice == status.advice
    assert runner._refolded(msgspec.structs.replace(changed, spec=spec(suspend=True))).advice == status.advice


class OneProbe:
    """An API server with one SmtpProbe, whose status it keeps."""

    def __init__(self) -> None:
        named = {"host": "smtp.example.com", "port": 587, "mode": "starttls"}
        spec = {**named, "credentialsSecretRef": {"name": "order-mail-smtp"}}
        self.meta = {"uid": "u", "namespace": "shop", "name": "p", "creationTimestamp": "2026-11-22T11:00:00Z"}
        self.version = 1
        self.body = {"spec": spec, "status": {}}

    def read(self):
        meta = {**self.meta, "generation": 1, "resourceVersion": str(self.version)}
        return from_body({**self.body, "metadata": meta})

    async def write_status(self, _namespace, _name, *, uid, resource_version, status):
        assert (uid, resource_version) == ("u", str(self.version))
        self.version += 1
        self.body = {**self.body, "status": status}
        return {**self.body, "metadata": {**self.meta, "generation": 1, "resourceVersion": str(self.version)}}

    async def create_event(self, _namespace, _body):
        return None


def test_only_a_run_that_became_the_last_run_is_counted():
    """A superseded run's refused login and the late word of a run that was given up count as logins, not as runs."""
    kube, registry = OneProbe(), Registry()
    registry.put(kube.read())
    settings, flights = Settings(probe_image="probe"), Flights(max_runs=1, max_per_host=1)
    runner = Runner(kube, registry, settings, flights, lambda: NOON + timedelta(minutes=9))  # type: ignore[arg-type]
    mine, old = login_spec(), login_spec(port=25, allowPlaintextAuth=True, mode="plain")
    given_up = finished(mine, error(Reason.IMAGE_PULL_FAILED, NOON), "slot:0")
    late = finished(mine, bad_login(mine, NOON + timedelta(minutes=1)), "slot:0")
    dropped = finished(old, bad_login(old, NOON + timedelta(minutes=2), salt="5b"), "slot:0", generation=0)
    for run in (given_up, late, dropped):
        asyncio.run(runner._finish("u", run))
    assert registry.get("u").status.auth.refused == 2
    assert dict(runner.runs) == {("u", Outcome.ERROR): 1}
