"""A status that follows a spec change without a run: the same words as after the run."""

from datetime import timedelta

import msgspec
from runs_made import NOON, finished, probe, refused, spec

from smtpprobe.resource import Status
from smtpprobe.status import fold
from smtpprobe.vocabulary import Reason, Stage
from smtpprobe_operator.flights import Flights
from smtpprobe_operator.registry import Registry
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
