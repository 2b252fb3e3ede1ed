"""Runs that cannot take place: named in time, nothing of the last verdict lost, back by themselves.

The Job controller, the quota and the LimitRange are real; what a kubelet would say of an image is played. All wait at
the same time, each with an operator of its own.
"""

import asyncio

import liveapi as live
from answers import PLAIN, passed

STARTED_BY_ITSELF = 90.0


async def obstacle(reason, seconds, answer, build, remove):
    """A passing probe meets an obstacle at run-now: Error with its reason; without the obstacle it passes by itself."""
    async with live.arena(answer) as arena:
        uid = await arena.apply("p", PLAIN)
        await arena.ran("p", "slot:0")
        await build(arena)
        await arena.run_now("p", "1")
        body = await arena.ran("p", "now:1", seconds=seconds)
        ready = live.condition(body, "Ready")
        assert (ready["status"], ready["reason"]) == ("Unknown", reason)
        assert body["status"]["locations"][0]["outcome"] == "Passed"
        assert live.condition(body, "Reachable")["status"] == "True"
        assert body["status"].get("consecutiveFailures", 0) == 0
        await remove(arena)
        body = await arena.wait(
            "p", lambda b: live.condition(b, "Ready").get("status") == "True", f"back after {reason}", STARTED_BY_ITSELF
        )
        assert body["status"]["lastRun"]["attempt"] == 1
        reasons = [event["reason"] for event in await arena.events()]
        assert reasons == ["ProbeError", "ProbeResumed"]
        left = sorted((run.trigger, run.attempt) for run in map(live.run_of, await arena.jobs(uid)))
        ended = [("now:1", 0)] if reason == "OutOfMemory" else []  # a run that never started is taken away
        assert left == [*ended, ("now:1", 1), ("slot:0", 0)]


def always(_run, _request):
    return passed()


async def limit_range(arena):
    limit = {"type": "Container", "max": {"memory": "32Mi"}}
    body = {"metadata": {"name": "small"}, "spec": {"limits": [limit]}}
    await arena.api.call("POST", f"/api/v1/namespaces/{arena.space}/limitranges", body)


async def no_limit_range(arena):
    await arena.api.delete(f"/api/v1/namespaces/{arena.space}/limitranges/small")


async def quota(arena):
    path = f"/api/v1/namespaces/{arena.space}/resourcequotas"
    await arena.api.call("POST", path, {"metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}})

    async def in_force():
        return ((await arena.api.get(f"{path}/none")).get("status") or {}).get("hard")

    await live.until(in_force, 60, "the quota is in force")


async def no_quota(arena):
    await arena.api.delete(f"/api/v1/namespaces/{arena.space}/resourcequotas/none")


async def nothing(_arena):
    return None


def no_image(run, _request):
    if run.trigger != "now:1" or run.attempt:
        return passed()
    waiting = {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "x"'}
    container = {"name": "probe", "image": "x", "imageID": "", "ready": False, "restartCount": 0}
    return {"phase": "Pending", "containerStatuses": [{**container, "state": {"waiting": waiting}}]}


def out_of_memory(run, _request):
    return passed() if run.trigger != "now:1" or run.attempt else live.ended("OOMKilled", 137)


def test_obstacles_are_named_and_pass():
    """LimitRange, quota, missing image and too little memory: each Error with its reason in time, one event, and back."""

    async def scenario():
        cases = [
            obstacle("AdmissionDenied", 40, always, limit_range, no_limit_range),
            obstacle("ResourceQuotaExceeded", 90, always, quota, no_quota),
            obstacle("ImagePullFailed", 90, no_image, nothing, nothing),
            obstacle("OutOfMemory", 40, out_of_memory, nothing, nothing),
        ]
        await asyncio.gather(*cases)

    asyncio.run(scenario())
