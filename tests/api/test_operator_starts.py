"""The operator as a process against the real API server: how it starts, what it may do, how it ends."""

import asyncio

import cluster_facts
import liveapi as live
from proxy import Proxy

FAR = {"cron": "0 0 1 1 *"}
PLAIN = {"host": "smtp.example.com", "port": 25, "mode": "plain", "schedule": FAR}


def run(coroutine):
    return asyncio.run(coroutine)


def facts():
    found = cluster_facts.load().kubernetes
    assert found
    return found


async def ready(process):
    async def answers():
        assert process.process.returncode is None
        try:
            return (await process.http("/readyz"))[0] == 200
        except (OSError, IndexError):
            return False

    await live.until(answers, 20, "readyz")


def test_ready_with_the_rights_of_the_chart():
    """With exactly the chart's rights the operator gets ready, is alive, and ends with 0 after SIGTERM."""

    async def scenario():
        async with live.admin() as api:
            await live.prepare(api)
            async with live.namespace(api) as space, Proxy(facts().url, facts().ca_file) as proxy:
                async with live.operator(proxy.url, namespaces=space) as process:
                    await ready(process)
                    assert (await process.http("/livez")) == (200, "ok\n")
                    assert proxy.calls == []
                    assert await process.stop() == 0
                    assert "Traceback" not in process.text()

    run(scenario())
