"""Changes while a run is under way, and while the operator cannot see or cannot write."""

import asyncio

import liveapi as live
from answers import LOGIN, PLAIN, failed, passed, refused_login
from proxy import Call

from smtpprobe.vocabulary import Reason


def hanging(run, request):
    return None


def test_spec_change_during_a_run():
    """A new spec during a run: Running and Reconciling at once, the old Job deleted, its verdict dropped, one new run."""

    async def scenario():
        asked = []

        def answer(run, request):
            asked.append(request.port)
            return failed(Reason.RELAY_DENIED) if request.port == 2525 else None

        async with live.arena(answer) as arena:
            uid = await arena.apply("p", PLAIN)
            await arena.pod()
            first = await arena.jobs(uid)
            await arena.change("p", {"spec": {"port": 2525}})
            body = await arena.wait(
                "p", lambda b: live.condition(b, "Reconciling").get("observedGeneration") == 2, "generation 2 announced"
            )
            assert live.condition(body, "Ready")["status"] == "Unknown"
            assert live.condition(body, "Ready")["reason"] == "Running"
            body = await arena.ran("p", "slot:0", generation=2)
            assert live.condition(body, "Ready")["reason"] == "RelayDenied"
            await arena.quiet()
            jobs = await arena.jobs(uid)
            assert [live.run_of(job).generation for job in jobs] == [2]
            assert first[0]["metadata"]["name"] != jobs[0]["metadata"]["name"]
            assert asked == [25, 2525]
            assert [entry["generation"] for entry in body["status"]["history"]] == [2]

    asyncio.run(scenario())


def test_refused_login_of_a_superseded_run_counts():
    """The pod of an old spec that was refused by the server before it ended counts as a login, and as nothing else."""

    async def scenario():
        async with live.arena(lambda _run, request: passed() if request.timeout_seconds == 30 else None) as arena:
            uid = await arena.apply("p", LOGIN)
            pod = await arena.pod()
            node = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": pod["metadata"]["name"]}}
            target = {"apiVersion": "v1", "kind": "Node", "name": "played"}
            path = f"/api/v1/namespaces/{arena.space}/pods/{pod['metadata']['name']}"
            await arena.api.call("POST", f"{path}/binding", {**node, "target": target})
            await arena.change("p", {"spec": {"timeoutSeconds": 30}})

            async def deleted():
                return "deletionTimestamp" in (await arena.api.get(path))["metadata"]

            await live.until(deleted, 10, "the old pod is being deleted")
            await live.end_pod(arena.api, pod, refused_login())  # the pod obeyed SIGTERM and wrote what it had
            body = await arena.wait("p", lambda b: b["status"].get("auth", {}).get("refused") == 1, "the login counted")
            assert body["status"].get("history", []) == []
            await arena.api.delete(path, gracePeriodSeconds=0)
            body = await arena.ran("p", "slot:0", generation=2)
            assert live.condition(body, "Ready")["status"] == "True"
            assert body["status"]["auth"]["refused"] == 1
            assert arena.kubelet.requests[-1].refused is not None
            assert [live.run_of(job).generation for job in await arena.jobs(uid)] == [2]

    asyncio.run(scenario())


def test_suspend_and_schedule_during_a_run():
    """Suspension, its end and another schedule during a run start no other one; its result counts for the spec of now."""

    async def scenario():
        async with live.arena(hanging) as arena:
            uid = await arena.apply("p", PLAIN)
            pod = await arena.pod()
            await arena.change("p", {"spec": {"suspend": True}})
            await arena.wait("p", lambda b: live.condition(b, "Ready").get("reason") == "Suspended", "Suspended")
            await arena.change("p", {"spec": {"suspend": False}})
            await arena.change("p", {"spec": {"schedule": {"cron": "0 0 2 1 *"}}})
            await arena.quiet(0.5)
            await live.end_pod(arena.api, pod, passed())
            body = await arena.wait("p", lambda b: live.condition(b, "Ready").get("status") == "True", "Ready")
            assert body["status"]["observedGeneration"] == 4
            assert all(c["observedGeneration"] == 4 for c in body["status"]["conditions"])
            assert "-01-02T" in body["status"]["nextRunTime"]
            await arena.quiet()
            assert len(await arena.jobs(uid)) == 1
            await arena.change("p", {"spec": {"egress": {"expectedCIDRs": ["203.0.113.0/24"]}}})
            await arena.wait("p", lambda b: b["status"]["observedGeneration"] == 5, "folded anew")
            await arena.quiet()
            assert len(await arena.jobs(uid)) == 1
            assert arena.proxy.count("job+") == 1

    asyncio.run(scenario())


def test_suspended_probe_finishes_and_starts_nothing():
    """A run under way when its probe is suspended ends in the status, and run-now starts no other one."""

    async def scenario():
        async with live.arena(hanging) as arena:
            uid = await arena.apply("p", PLAIN)
            pod = await arena.pod()
            await arena.change("p", {"spec": {"suspend": True}})
            await arena.wait("p", lambda b: live.condition(b, "Ready").get("reason") == "Suspended", "Suspended")
            await live.end_pod(arena.api, pod, passed())
            body = await arena.ran("p", "slot:0", generation=1)
            assert live.condition(body, "Ready")["reason"] == "Suspended"
            await arena.run_now("p", "1")
            await arena.quiet()
            assert len(await arena.jobs(uid)) == 1

    asyncio.run(scenario())


def test_old_keys_never_survive_a_new_verdict():
    """After a recovery nothing of the failure stands beside the new verdict but history and outages."""

    async def scenario():
        def answer(run, request):
            return passed() if run.trigger.startswith("now") else failed(Reason.RELAY_DENIED)

        async with live.arena(answer) as arena:
            await arena.apply("p", PLAIN)
            body = await arena.ran("p", "slot:0")
            assert {"failedStage", "replyCode", "advice"} <= body["status"].keys()
            stray = {"status": {"stray": 1, "failedStage": "rcpt"}}
            await arena.api.merge(live.probe_path(arena.space, "p") + "/status", stray)
            await arena.run_now("p", "1")
            body = await arena.ran("p", "now:1")
            assert not {"failedStage", "replyCode", "advice", "stray"} & body["status"].keys()
            assert body["status"].get("consecutiveFailures", 0) == 0

    asyncio.run(scenario())


def test_namesake_gets_its_own_result_only():
    """A probe deleted and made anew under its name while its result is being written never gets that result."""

    async def scenario():
        def answer(run, request):
            return failed(Reason.RELAY_DENIED) if request.port == 25 else passed()

        async with live.arena(answer) as arena:
            swapped, begun = asyncio.Event(), []

            async def swap(call: Call) -> None:
                done = "RelayDenied" in str(call.body)
                if call.kind == "status" and done and not begun:
                    begun.append(call)
                    await arena.api.delete(live.probe_path(arena.space, "p"))
                    await arena.apply("p", {**PLAIN, "port": 2525})
                    swapped.set()

            arena.proxy.before = swap
            await arena.apply("p", PLAIN)
            await asyncio.wait_for(swapped.wait(), 20)
            body = await arena.ran("p", "slot:0")
            assert live.condition(body, "Ready")["status"] == "True"
            assert len(body["status"]["history"]) == 1
            assert "RelayDenied" not in str(body["status"])

    asyncio.run(scenario())


def test_deleted_probe_leaves_nothing():
    """A probe deleted during its run takes Job and pod with it, and the operator writes nothing more about it."""

    async def scenario():
        async with live.arena(hanging) as arena:
            uid = await arena.apply("p", PLAIN)
            await arena.pod()
            await arena.api.delete(live.probe_path(arena.space, "p"))

            async def gone():
                return not await arena.jobs(uid) and not await arena.pods()

            await live.until(gone, 30, "Job and pod are gone")
            await arena.quiet()
            assert 'p"' not in (await arena.process.http("/metrics"))[1]
            assert "Traceback" not in arena.process.text()

    asyncio.run(scenario())
