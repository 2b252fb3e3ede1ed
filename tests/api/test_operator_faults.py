"""An API server that refuses, fails, stalls or loses its answer, at each of the operator's writes."""

import asyncio

import liveapi as live
import pytest
from aiohttp import web
from answers import LOGIN, PLAIN, failed, passed
from proxy import Call, StoppedError

from smtpprobe.vocabulary import Reason


def refusal(code, reason, **headers):
    body = {"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": "made by the test"}
    return lambda: web.json_response(body, status=code, headers=headers)


FAULTS = {
    "409 conflict": refusal(409, "Conflict"),
    "429 with Retry-After": refusal(429, "TooManyRequests", **{"Retry-After": "1"}),
    "429 without": refusal(429, "TooManyRequests"),
    "500": refusal(500, "InternalError"),
    "503": refusal(503, "ServiceUnavailable"),
    "truncated": lambda: web.Response(status=200, body=b'{"kind": "Smtp', content_type="application/json"),
    "no json": lambda: web.Response(status=502, text="bad gateway"),
}
KINDS = ("status", "job+", "event+")


def answer(run, request):
    return failed(Reason.RELAY_DENIED)


async def check(arena, name, uid):
    body = await arena.ran(name, "slot:0", seconds=60)
    assert live.condition(body, "Ready")["reason"] == "RelayDenied"
    assert len(body["status"]["history"]) == 1
    assert len(await arena.jobs(uid)) == 1


def test_one_fault_at_each_kind_of_write():
    """Whatever one write is answered with, the run is in the status in the end, once, with one Job and one event."""

    async def scenario():
        async with live.arena(answer) as arena:
            spoiled = {}

            def fault(call: Call):
                for (kind, _), (name, make) in tuple(spoiled.items()):
                    about = name in str(call.body) or call.path.endswith(f"/{name}/status")
                    if call.kind == kind and about:
                        spoiled.pop((kind, _))
                        return make()
                return None

            arena.proxy.fault = fault
            uids = {}
            for number, (kind, title) in enumerate((k, t) for k in KINDS for t in FAULTS):
                name = f"p{number:02d}x"
                spoiled[kind, title] = (name, FAULTS[title])
                uids[name] = await arena.apply(name, {**PLAIN, "host": f"{name}.example.com"})
            total = len(uids)
            for name, uid in uids.items():
                await check(arena, name, uid)
            assert spoiled == {}
            await arena.quiet()
            events = [event["reason"] for event in await arena.events()]
            assert events.count("ProbeFailed") == total
            print(f"one fault at each kind of write: {total} of {total}")

    asyncio.run(scenario())


@pytest.mark.parametrize("kind", KINDS)
def test_answer_lost_after_the_write(kind):
    """A write that was done and whose answer got lost is not done twice."""

    async def scenario():
        async with live.arena(answer) as arena:
            lost = []

            async def lose(call: Call) -> None:
                if call.kind == kind and not lost:
                    lost.append(call)
                    raise StoppedError

            arena.proxy.after = lose
            uid = await arena.apply("p", PLAIN)
            await check(arena, "p", uid)
            assert lost
            events = await arena.events()
            assert sum((event.get("series") or {}).get("count", 1) for event in events) == len(events)

    asyncio.run(scenario())


def test_no_tight_loop_while_everything_is_refused():
    """While the API server answers every write with 500 the operator asks at most about once a second, and recovers."""

    async def scenario():
        async with live.arena(answer) as arena:
            arena.proxy.fault = lambda _: refusal(500, "InternalError")()
            uid = await arena.apply("p", PLAIN)

            async def asked():
                return len(arena.proxy.calls) >= 3

            loop = asyncio.get_running_loop()
            start = loop.time()
            await live.until(asked, 20, "three tries")
            assert loop.time() - start > 1.5
            arena.proxy.fault = lambda _: None
            await check(arena, "p", uid)

    asyncio.run(scenario())


def test_job_refused_by_quota_and_by_right():
    """A Job that a quota or missing rights refuse is outcome Error with its reason, and the last verdict stays."""

    async def scenario():
        async with live.arena(lambda _run, _request: passed()) as arena:
            quota = {"metadata": {"name": "none"}, "spec": {"hard": {"count/jobs.batch": "0"}}}
            path = f"/api/v1/namespaces/{arena.space}/resourcequotas"
            await arena.apply("before", PLAIN)
            await arena.ran("before", "slot:0")
            await arena.api.call("POST", path, quota)

            async def counted():
                found = await arena.api.get(f"{path}/none")
                return (found.get("status") or {}).get("hard")

            await live.until(counted, 20, "the quota is in force")
            await arena.run_now("before", "1")
            body = await arena.ran("before", "now:1")
            ready = live.condition(body, "Ready")
            assert (ready["status"], ready["reason"]) == ("Unknown", "ResourceQuotaExceeded")
            assert body["status"]["locations"][0]["outcome"] == "Passed"
            assert body["status"].get("consecutiveFailures", 0) == 0
            await arena.api.delete(f"{path}/none")
            await arena.run_now("before", "2")
            body = await arena.ran("before", "now:2")
            assert live.condition(body, "Ready")["status"] == "True"
            arena.proxy.fault = lambda call: refusal(403, "Forbidden")() if call.kind == "job+" else None
            await arena.run_now("before", "3")
            body = await arena.ran("before", "now:3")
            assert live.condition(body, "Ready")["reason"] == "AdmissionDenied"

    asyncio.run(scenario())


def test_limits_hold():
    """Never two runs with one account, never more than the limit to one host, and every probe gets its turn."""

    async def scenario():
        alive = {}
        most = {"login": 0, "host": 0, "all": 0}

        def hang(run, request):
            return None

        async with live.arena(hang, SMTPPROBE_MAX_RUNS="4", SMTPPROBE_MAX_RUNS_PER_HOST="2") as arena:
            for number in range(3):
                await arena.apply(f"login{number}", {**LOGIN, "host": "mail.example.com"})
                await arena.apply(f"host{number}", {**PLAIN, "host": "one.example.com"})
                await arena.apply(f"other{number}", {**PLAIN, "host": f"n{number}.example.com"})
            done = set()

            async def one_more():
                pods = [p for p in await arena.pods() if p["metadata"]["name"] not in done]
                kinds = [p["metadata"]["labels"]["smtpprobe.dev/probe"] for p in pods]
                alive.update(dict.fromkeys(kinds, True))
                most["login"] = max(most["login"], sum(kind.startswith("login") for kind in kinds))
                most["host"] = max(most["host"], sum(kind.startswith("host") for kind in kinds))
                most["all"] = max(most["all"], len(kinds))
                if len(done) < 9 and pods:
                    done.add(pods[0]["metadata"]["name"])
                    await live.end_pod(arena.api, pods[0], passed())
                return len(done) == 9

            await live.until(one_more, 60, "all nine have run")
            assert len(alive) == 9
            assert most["login"] == 1
            assert most["host"] <= 2
            assert most["all"] <= 4

    asyncio.run(scenario())
