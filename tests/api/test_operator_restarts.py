"""Restarts long after everything that a run left behind is gone, and watches that die."""

import asyncio
from datetime import UTC, datetime, timedelta

import liveapi as live
import msgspec
from answers import LOGIN, PLAIN, passed, refused_login

from smtpprobe.model import AuthFacts, ProbeRequest

AWAY = timedelta(hours=2)


def earlier(value, by):
    """The same JSON with every time in it moved back."""
    if isinstance(value, dict):
        return {key: _slot(key, inner, by) for key, inner in value.items()}
    if isinstance(value, list):
        return [earlier(inner, by) for inner in value]
    if isinstance(value, str) and len(value) >= 20 and value[4] == "-" and value[10] == "T":
        moved = datetime.fromisoformat(value) - by
        return moved.isoformat().replace("+00:00", "Z")
    return value


def _slot(key, value, by):
    if key == "slot" and value:
        return value - int(by.total_seconds())
    return earlier(value, by)


async def away(arena, names, by=AWAY):
    """Be gone for a while: the operator is killed, the Jobs go as after their TTL, what is remembered gets old."""
    arena.process.kill()
    await arena.process.ended()
    for job in await arena.api.items(f"/apis/batch/v1/namespaces/{arena.space}/jobs"):
        path = f"/apis/batch/v1/namespaces/{arena.space}/jobs/{job['metadata']['name']}"
        await arena.api.delete(path, propagationPolicy="Background")

    async def gone():
        return not await arena.pods()

    await live.until(gone, 30, "pods of the Jobs are gone")
    for name in names:
        status = (await arena.read(name))["status"]
        patch = [{"op": "replace", "path": "/status", "value": earlier(status, by)}]
        path = live.probe_path(arena.space, name) + "/status"
        await arena.api.call("PATCH", path, patch, "application/json-patch+json")
    await arena.process.start()
    await arena.ready()
    await arena.quiet(1.5)


def test_nothing_is_repeated_after_a_long_absence():
    """Two hours and a TTL later: once, run-now and a past cron slot run no second time, an interval at most one slot."""

    async def scenario():
        async with live.arena(lambda _run, _request: passed()) as arena:
            uids = {
                "once": await arena.apply("once", {**PLAIN, "schedule": {"once": True}}),
                "cron": await arena.apply("cron", PLAIN),
                "asked": await arena.apply("asked", PLAIN),
                "interval": await arena.apply("interval", {**PLAIN, "schedule": {"interval": "30m"}}),
            }
            await arena.ran("once", "once")
            for name in ("cron", "asked", "interval"):
                await arena.ran(name, "slot:0")
            await arena.run_now("asked", "please")
            await arena.ran("asked", "now:please")
            await arena.quiet()
            runs = len(arena.kubelet.runs)
            assert runs == 5
            await away(arena, uids)
            triggers = {name: [live.run_of(job).trigger for job in await arena.jobs(uid)] for name, uid in uids.items()}
            again = triggers.pop("interval")
            assert triggers == {"once": [], "cron": [], "asked": []}
            assert len(again) <= 1
            assert all(trigger.startswith("slot:") and trigger != "slot:0" for trigger in again)
            assert len(arena.kubelet.runs) == runs + len(again)
            text = (await arena.process.http("/metrics"))[1]
            now = datetime.now(UTC).timestamp()
            late = [
                line
                for line in text.splitlines()
                if line.startswith("smtpprobe_next_run_timestamp_seconds{") and float(line.rsplit(" ", 1)[1]) < now - 60
            ]
            assert late == [], "a restart makes nobody late"

    asyncio.run(scenario())


def test_two_refused_logins_never_become_three():
    """One wrong password in two SmtpProbes: two logins in all, over restarts, hours and schedules; run-now allows one."""

    async def scenario():
        logins = []

        def server(run, request: ProbeRequest):
            if request.refused and request.refused.fingerprint == "beef":
                return msgspec.structs.replace(refused_login(), auth=AuthFacts(paused=True))
            logins.append(run)
            return refused_login("beef")

        async with live.arena(server) as arena:
            uids = {name: await arena.apply(name, LOGIN) for name in ("one", "two")}
            for name in uids:
                await arena.ran(name, "slot:0")
            assert len(logins) == 1
            for generation in range(2, 6):
                await away(arena, uids)
                for name in uids:
                    await arena.change(name, {"spec": {"timeoutSeconds": 20 + generation}})
                for name in uids:
                    await arena.ran(name, "slot:0", generation)
                assert len(logins) <= 2
            assert len(logins) == 2
            paused = [(await arena.read(name))["status"].get("auth", {}).get("paused", False) for name in uids]
            assert any(paused)
            for name in uids:
                ready = live.condition(await arena.read(name), "Authenticated")
                assert (ready["status"], ready["reason"]) == ("False", "BadCredentials"), name
            await arena.run_now("one", "please")
            await arena.ran("one", "now:please", 5)
            assert len(logins) == 3

    asyncio.run(scenario())


def test_probe_deleted_while_the_watch_was_cut():
    """A probe that went while no watch was open leaves registry and metrics at the next resync."""

    async def scenario():
        async with live.arena(lambda _run, _request: passed(), SMTPPROBE_RESYNC_SECONDS="1") as arena:
            await arena.apply("stays", PLAIN)
            await arena.apply("goes", PLAIN)
            for name in ("stays", "goes"):
                await arena.ran(name, "slot:0")

            async def shown(name):
                code, text = await arena.process.http("/metrics")
                assert code == 200
                return f'name="{name}"' in text

            await live.until(lambda: shown("goes"), 10, "goes is in the metrics")
            arena.proxy.watches_allowed = False
            arena.proxy.cut_watches()
            await arena.api.delete(live.probe_path(arena.space, "goes"))

            async def forgotten():
                return not await shown("goes")

            await live.until(forgotten, 15, "goes has left the metrics")
            assert await shown("stays")

    asyncio.run(scenario())


def test_dead_watch_fails_livez():
    """A watch that shows nothing any more, and is not closed, makes the process say that it wants to be started anew."""

    async def scenario():
        short = {"SMTPPROBE_RESYNC_SECONDS": "1", "SMTPPROBE_WATCH_GRACE_SECONDS": "2"}
        async with live.arena(lambda _run, _request: passed(), **short) as arena:
            await arena.apply("seen", PLAIN)
            await arena.ran("seen", "slot:0")
            arena.proxy.starve_watches = True
            await arena.apply("unseen", PLAIN)

            async def dead():
                return (await arena.process.http("/livez"))[0] == 503

            await live.until(dead, 20, "livez fails")
            assert (await arena.process.http("/livez"))[1].startswith("the watch has not shown")
            arena.proxy.starve_watches = False
            await arena.restart()
            await arena.ran("unseen", "slot:0")
            assert (await arena.process.http("/livez"))[0] == 200

    asyncio.run(scenario())


def test_results_that_came_while_the_operator_was_down():
    """A pod that ended while no operator was there is folded at the start of the next, and nothing runs twice."""

    async def scenario():
        async with live.arena(lambda _run, _request: None) as arena:
            uid = await arena.apply("p", PLAIN)
            pod = await arena.pod()
            arena.process.kill()
            await arena.process.ended()
            await live.end_pod(arena.api, pod, passed())
            await arena.process.start()
            body = await arena.ran("p", "slot:0")
            assert live.condition(body, "Ready")["status"] == "True"
            await arena.quiet()
            assert len(await arena.jobs(uid)) == 1
            assert arena.proxy.count("job+") == 1

    asyncio.run(scenario())


def test_a_run_outlives_its_operator():
    """A pod that runs while the operator is killed and started again is waited for, not started once more."""

    async def scenario():
        async with live.arena(lambda _run, _request: None) as arena:
            uid = await arena.apply("p", PLAIN)
            pod = await arena.pod()
            await arena.restart()
            await arena.ready()
            await arena.quiet()
            await live.end_pod(arena.api, pod, passed())
            await arena.ran("p", "slot:0")
            assert len(await arena.jobs(uid)) == 1
            assert len([call for call in arena.proxy.calls if call.kind == "job+"]) == 1

    asyncio.run(scenario())
