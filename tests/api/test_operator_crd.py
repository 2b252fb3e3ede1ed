"""The operator over the whole cluster, and without the kind that it is for."""

import asyncio

import liveapi as live
from answers import PLAIN, passed

CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/smtpprobes.smtpprobe.dev"


def always(_run, _request):
    return passed()


def test_one_operator_serves_all_namespaces():
    """Without a list of namespaces probes of every namespace run, each with its own result."""

    async def scenario():
        async with live.arena(always, SMTPPROBE_WATCH_NAMESPACES="") as arena, live.namespace(arena.api) as other:
            async with live.kubelet(arena.api, other, always) as second:
                await arena.apply("p", PLAIN)
                await live.apply(arena.api, other, "p", {**PLAIN, "port": 2525})
                await arena.ran("p", "slot:0")

                async def ran():
                    body = await arena.api.get(live.probe_path(other, "p"))
                    return live.condition(body, "Ready").get("status") == "True"

                await live.until(ran, 60, "the probe of the other namespace has run")
                assert [request.port for request in second.requests] == [2525]
                assert [request.port for request in arena.kubelet.requests] == [25]

    asyncio.run(scenario())


def test_ends_when_its_kind_goes():
    """When the CRD is deleted the operator ends with 3 and says what to apply; when it is back everything works."""

    async def scenario():
        async with live.arena(always, SMTPPROBE_RESYNC_SECONDS="1") as arena:
            await arena.apply("p", PLAIN)
            await arena.ran("p", "slot:0")
            await arena.api.delete(CRD)
            try:
                assert await asyncio.wait_for(arena.process.ended(), 60) == 3
                assert "apply crds/smtpprobes.yaml" in arena.process.text()
            finally:

                async def gone():
                    try:
                        await arena.api.get(CRD)
                    except live.AnswerError:
                        return True
                    return False

                await live.until(gone, 60, "the CRD is gone")
                await live.prepare(arena.api)
            await arena.process.start()
            await arena.ready()
            await arena.apply("p", PLAIN)
            await arena.ran("p", "slot:0")

    asyncio.run(scenario())
