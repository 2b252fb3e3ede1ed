"""The alerts over hours of an operator's life: the real scheduler, fold and metrics at a played clock, then promtool."""

import math
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from charts import alert_rules
from prometheus_client.parser import text_string_to_metric_families
from runs_made import bad_login, error, finished, passed, skipped_login, spec

from smtpprobe.model import ProbeResult
from smtpprobe.resource import Spec, Status
from smtpprobe.status import fold, refold
from smtpprobe.vocabulary import Reason
from smtpprobe_operator import schedule
from smtpprobe_operator.metrics import Snapshot, exposition
from smtpprobe_operator.pause import login_policy
from smtpprobe_operator.registry import Probe

START = datetime(2026, 11, 22, tzinfo=UTC)
LOGIN = {"credentialsSecretRef": {"name": "order-mail-smtp"}}
Answer = Callable[[Spec, datetime, bool], ProbeResult | None]
TICK = timedelta(minutes=1)


class Life:
    """One probe and its operator, a minute at a time; each minute is scraped once."""

    def __init__(self, answer: Answer, **fields: Any) -> None:
        of = spec(**fields)
        self.answer = answer
        self.now = self.opened = START
        self.probe = Probe(
            uid="u1", namespace="shop", name="mail", generation=1, resource_version="1", created=START, spec=of
        )
        self.minutes: list[dict[str, float]] = []
        self.runs: list[int] = []

    def live(self, minutes: int, *, away: bool = False) -> None:
        """Let time pass; ``away`` is a time without an operator."""
        for _ in range(minutes):
            if not away:
                self._run()
            self.minutes.append({} if away else dict(self._scrape()))
            self.now += TICK

    def restart(self) -> None:
        """A new operator process: it knows the statuses and nothing else."""
        self.opened = self.now

    def suspend(self) -> None:
        """Somebody suspends the probe."""
        of = msgspec.structs.replace(self.probe.spec, suspend=True)
        status = refold(self.probe.status, of, generation=2, now=self.now)
        self.probe = msgspec.structs.replace(self.probe, spec=of, status=status, generation=2)

    def _run(self) -> None:
        due = schedule.due(self.probe, self.now)
        if due is None:
            return
        of: Spec = self.probe.spec
        paused = login_policy(self.probe, (), self.now, run=due.run) is not None
        result = self.answer(of, self.now, paused)
        if result is None:
            return
        self.runs.append(len(self.minutes))
        end = finished(of, result, due.run.trigger, attempt=due.run.attempt)
        status = fold(self.probe.status, of, generation=self.probe.generation, finished=end, now=self.now)
        status = schedule.stamp(self.probe, status, self.now)
        self.probe = msgspec.structs.replace(self.probe, status=status)

    def _scrape(self) -> Iterator[tuple[str, float]]:
        text = exposition(Snapshot(now=self.now, opened=self.opened, probes=(self.probe,))).decode()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
                # promtool's clock begins at 0.
                moved = START.timestamp() if sample.name.endswith("_timestamp_seconds") else 0
                yield f"{sample.name}{{{labels}}}", sample.value - moved

    def series(self) -> list[dict[str, str]]:
        """All scrapes as promtool's input; what vanishes from a scrape is marked stale, as Prometheus does."""
        names = sorted({name for minute in self.minutes for name in minute})
        made = []
        for name in names:
            words, before = [], False
            for minute in self.minutes:
                value = minute.get(name)
                words.append("stale" if value is None and before else "_" if value is None else number(value))
                before = value is not None
            made.append({"series": name, "values": " ".join(words)})
        return made

    def check(self, folder: Path, expected: dict[str, dict[int, bool]]) -> None:
        """Ask promtool whether these alerts fire in these minutes."""
        labels = {
            "SmtpProbeAuthFailing": {"severity": "critical", "location": "default", "stage": "auth"},
            "SmtpProbeFailing": {"severity": "warning", "location": "default"},
            "SmtpProbeStale": {"severity": "warning"},
        }
        cases = [
            {
                "eval_time": f"{minute}m",
                "alertname": alert,
                "exp_alerts": [{"exp_labels": {"namespace": "shop", "name": "mail", **labels[alert]}}] if fires else [],
            }
            for alert, minutes in expected.items()
            for minute, fires in minutes.items()
        ]
        rules = alert_rules()
        for group in rules["groups"]:
            for rule in group["rules"]:
                del rule["annotations"]
        (folder / "rules.yml").write_text(yaml.safe_dump(rules))
        test = {"interval": "1m", "input_series": self.series(), "alert_rule_test": cases}
        suite = {"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": [test]}
        (folder / "tests.yml").write_text(yaml.safe_dump(suite))
        command = ["promtool", "test", "rules", str(folder / "tests.yml")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def number(value: float) -> str:
    return str(int(value)) if math.isfinite(value) and value == int(value) else repr(value)


def wrong_password(of: Spec, now: datetime, paused: bool) -> ProbeResult:
    return skipped_login(of, now) if paused else bad_login(of, now)


def right(of: Spec, now: datetime, paused: bool) -> ProbeResult:
    return passed(of, now)


def no_image(of: Spec, now: datetime, paused: bool) -> ProbeResult:
    return error(Reason.IMAGE_PULL_FAILED, now)


def never(of: Spec, now: datetime, paused: bool) -> None:
    return None


def test_wrong_password_fires_through_the_pause(tmp_path: Path) -> None:
    """A wrong password: two logins, then the pause, and SmtpProbeAuthFailing fires in the fourth and the tenth run."""
    logins = []

    def answer(of: Spec, now: datetime, paused: bool) -> ProbeResult:
        logins.append(not paused)
        return wrong_password(of, now, paused)

    life = Life(answer, **LOGIN)
    while len(life.runs) < 10:
        life.live(10)
        assert len(life.minutes) < 2000
    life.live(20)
    assert sum(logins) == 2
    after = {run: life.runs[run - 1] + 7 for run in (1, 2, 4, 10)}
    life.check(
        tmp_path,
        {
            "SmtpProbeAuthFailing": {after[1]: False, after[2]: True, after[4]: True, after[10]: True},
            "SmtpProbeFailing": {after[4]: False, after[10]: False},
            "SmtpProbeStale": {after[4]: False, after[10]: False},
        },
    )


def test_mended_password_resolves_it(tmp_path: Path) -> None:
    """Once the login passes, the alert ends with that run."""
    life = Life(wrong_password, **LOGIN)
    life.live(200)
    life.answer = right
    life.live(200)
    life.check(tmp_path, {"SmtpProbeAuthFailing": {199: True, 399: False}, "SmtpProbeFailing": {399: False}})


def test_suspending_ends_it(tmp_path: Path) -> None:
    """A suspended probe raises nothing, however bad its last result was."""
    life = Life(wrong_password, **LOGIN)
    life.live(200)
    life.suspend()
    life.live(400)
    quiet = {210: False, 599: False}
    life.check(
        tmp_path,
        {"SmtpProbeAuthFailing": {199: True, **quiet}, "SmtpProbeFailing": quiet, "SmtpProbeStale": quiet},
    )


@pytest.mark.parametrize(
    "plan",
    [{"interval": "30m"}, {"interval": "6h"}, {"cron": "0 3 * * *"}, {"once": True}],
    ids=["30m", "6h", "cron", "once"],
)
@pytest.mark.parametrize("away", [20, 1500])
def test_restart_is_no_staleness(plan: dict[str, Any], away: int, tmp_path: Path) -> None:
    """An operator that was away, for minutes or for a day, comes back without any alert, whatever the schedule."""
    life = Life(right, schedule=plan)
    life.live(70)
    life.live(away, away=True)
    life.restart()
    life.live(200)
    minutes = range(70 + away, 270 + away, 7)
    life.check(tmp_path, {"SmtpProbeStale": dict.fromkeys(minutes, False), "SmtpProbeFailing": {269 + away: False}})


@pytest.mark.parametrize("plan", [{"interval": "30m"}, {"cron": "*/30 * * * *"}], ids=["interval", "cron"])
def test_stuck_probe_is_stale(plan: dict[str, Any], tmp_path: Path) -> None:
    """A probe whose runs never end is stale after three intervals, also where the operator was restarted between."""
    life = Life(right, schedule=plan)
    life.live(70)
    life.answer = never
    life.live(200)
    life.restart()
    life.live(240)
    life.check(tmp_path, {"SmtpProbeStale": {60: False, 100: False, 220: True, 280: False, 500: True}})


def test_never_answered_is_stale(tmp_path: Path) -> None:
    """A new probe that never gets its first answer is stale too, also one that should run once."""
    for index, plan in enumerate(({"interval": "30m"}, {"once": True})):
        life = Life(never, schedule=plan)
        life.live(180)
        folder = tmp_path / str(index)
        folder.mkdir()
        life.check(folder, {"SmtpProbeStale": {10: False, 179: True}})


def test_runs_that_cannot_take_place_are_stale_not_failing(tmp_path: Path) -> None:
    """An image that cannot be pulled is no mail failure: the answer becomes stale, and nothing says that mail fails."""
    life = Life(right)
    life.live(70)
    life.answer = no_image
    life.live(240)
    life.check(tmp_path, {"SmtpProbeStale": {60: False, 300: True}, "SmtpProbeFailing": {300: False}})


def test_once_that_fails_fires(tmp_path: Path) -> None:
    """The only run of a probe that runs once is enough for the alert."""
    life = Life(wrong_password, schedule={"once": True}, **LOGIN)
    life.live(60)
    assert len(life.runs) == 1
    life.check(tmp_path, {"SmtpProbeAuthFailing": {50: True}, "SmtpProbeStale": {50: False}})


def test_status_is_where_it_begins() -> None:
    """A life begins without any result: no series says that something failed."""
    life = Life(never)
    life.live(1)
    assert life.probe.status == Status()
    assert not [name for name in life.minutes[0] if name.startswith(("smtpprobe_success", "smtpprobe_failure_reason"))]
