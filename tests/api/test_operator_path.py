"""The whole path against the real API server, the tests playing the kubelet: apply → Job → pod → status."""

import asyncio
from datetime import UTC, datetime

import cluster_facts
import liveapi as live
from proxy import Proxy

from smtpprobe.model import ProbeResult
from smtpprobe.vocabulary import Outcome

FAR = {"cron": "0 0 1 1 *"}
PLAIN = {"host": "smtp.example.com", "port": 25, "mode": "plain", "schedule": FAR}


def passed() -> ProbeResult:
    now = datetime.now(UTC)
    return ProbeResult(outcome=Outcome.PASSED, started_at=now, finished_at=now, message="ok")


def test_apply_to_status():
    """A new SmtpProbe gets one Job, and what its pod wrote is its status."""

    async def scenario():
        facts = cluster_facts.load().kubernetes
        async with live.admin() as api:
            await live.prepare(api)
            async with live.namespace(api) as space, Proxy(facts.url, facts.ca_file) as proxy:
                async with (
                    live.kubelet(api, space, lambda _run, _request: passed()),
                    live.operator(proxy.url, namespaces=space) as process,
                ):
                    made = await live.apply(api, space, "p", PLAIN)

                    async def is_ready():
                        body = await api.get(live.probe_path(space, "p"))
                        return body if live.condition(body, "Ready").get("status") == "True" else None

                    body = await live.until(is_ready, 15, "Ready")
                    jobs = await live.jobs_of(api, space, made["metadata"]["uid"])
                    assert len(jobs) == 1
                    assert body["status"]["observedGeneration"] == 1
                    assert [call.kind for call in proxy.calls] == ["status", "job+", "status"]
                    assert "Traceback" not in process.text()

    asyncio.run(scenario())
