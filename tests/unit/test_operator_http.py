"""The operator's HTTP on loopback: what it serves, and how it reads an API server's answers."""

import asyncio

import aiohttp
import pytest
from aiohttp import web
from kubernetes.aio import client

from smtpprobe_operator.kube import ApiError, Kube
from smtpprobe_operator.server import Server


def refusal(code, reason, message="no", **headers):
    return web.json_response({"kind": "Status", "reason": reason, "message": message}, status=code, headers=headers)


async def served(handler):
    """Start a server of the test's own; returns its runner and a client for it."""
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    configuration = client.Configuration()
    configuration.host = f"http://127.0.0.1:{runner.addresses[0][1]}"
    return runner, Kube(configuration)


def asked(handler, ask):
    async def scenario():
        runner, kube = await served(handler)
        try:
            return await ask(kube), kube.calls
        finally:
            await kube.close()
            await runner.cleanup()

    return asyncio.run(scenario())


MEANINGS = [
    (404, "NotFound", {"gone"}),
    (409, "AlreadyExists", {"exists", "conflict"}),
    (409, "Conflict", {"conflict", "passing"}),
    (422, "Invalid", {"conflict"}),
    (403, "Forbidden", set()),
    (429, "TooManyRequests", {"passing"}),
    (500, "InternalError", {"passing"}),
    (503, "ServiceUnavailable", {"passing"}),
]


@pytest.mark.parametrize(("code", "reason", "meaning"), MEANINGS)
def test_meaning_of_refusals(code, reason, meaning):
    """Each refusal means one thing: gone, there already, changed meanwhile, or worth asking again."""

    async def handler(_request):
        return refusal(code, reason)

    async def ask(kube):
        with pytest.raises(ApiError) as caught:
            await kube.job("ns", "name")
        return caught.value

    error, calls = asked(handler, ask)
    assert {name for name in ("gone", "exists", "conflict", "passing") if getattr(error, name)} == meaning
    assert calls == {("get", code): 1}


def test_retry_after_is_obeyed_once():
    """A 429 with Retry-After is waited for and asked again, and both calls are counted."""
    answers = [refusal(429, "TooManyRequests", **{"Retry-After": "1"}), web.json_response({"ok": True})]

    async def handler(_request):
        return answers.pop(0)

    async def ask(kube):
        start = asyncio.get_running_loop().time()
        return await kube.job("ns", "name"), asyncio.get_running_loop().time() - start

    (body, seconds), calls = asked(handler, ask)
    assert body == {"ok": True}
    assert seconds >= 1.0
    assert calls == {("get", 429): 1, ("get", 200): 1}


@pytest.mark.parametrize("text", ['{"kind": "Job', "[]", "<html>"])
def test_nonsense_is_an_unknown_outcome(text):
    """An answer that is no JSON object after a success leaves open whether the write was done: asking again can help."""

    async def handler(_request):
        return web.Response(text=text)

    async def ask(kube):
        with pytest.raises(ApiError) as caught:
            await kube.create_job("ns", {})
        return caught.value

    error, _ = asked(handler, ask)
    assert error.code == 0
    assert error.passing


def test_no_server_is_an_unknown_outcome():
    """A connection that is refused or breaks is code 0."""

    async def handler(request):
        request.transport.abort()

    async def ask(kube):
        with pytest.raises(ApiError) as caught:
            await kube.create_job("ns", {})
        return caught.value

    error, calls = asked(handler, ask)
    assert error.code == 0
    assert calls == {("create", 0): 1}


def test_lists_are_read_page_by_page():
    """A list is asked for in pages until there is no more, and every item comes out once."""
    pages = {"": ("a", "1"), "1": ("b", "2"), "2": ("c", "")}

    async def handler(request):
        name, following = pages[request.query.get("continue", "")]
        assert request.query["limit"] == "500"
        assert "PartialObjectMetadataList" in request.headers["Accept"]
        return web.json_response({"metadata": {"continue": following}, "items": [{"metadata": {"uid": name}}]})

    found, calls = asked(handler, lambda kube: kube.metadata())
    assert [item["uid"] for item in found] == ["a", "b", "c"]
    assert calls == {("list", 200): 3}


def test_status_is_a_json_patch_of_exactly_one_object():
    """The status goes out as JSON Patch that tests uid and resourceVersion and replaces the whole status."""
    seen = []

    async def handler(request):
        seen.append((request.method, request.path, request.headers["Content-Type"], await request.json()))
        return web.json_response({})

    asked(
        handler,
        lambda kube: kube.write_status("ns", "p", uid="u", resource_version="7", status={"observedGeneration": 1}),
    )
    method, path, content_type, body = seen[0]
    assert (method, content_type) == ("PATCH", "application/json-patch+json")
    assert path.endswith("/namespaces/ns/smtpprobes/p/status")
    assert [(op["op"], op["path"]) for op in body] == [
        ("test", "/metadata/uid"),
        ("test", "/metadata/resourceVersion"),
        ("add", "/status"),
    ]


def test_server_tells_health_and_renders_once_for_many_scrapers():
    """/livez and /readyz give 503 with the cause, /metrics is rendered once for scrapes that come together."""
    rendered = []
    causes = {"alive": "", "ready": "not yet"}

    def metrics():
        rendered.append(1)
        return b"up 1\n"

    async def scenario():
        server = Server(metrics=metrics, alive=lambda: causes["alive"], ready=lambda: causes["ready"])
        await server.start(0)

        async def get(path):
            async with session.get(f"http://127.0.0.1:{server.port}{path}") as answer:
                return answer.status, await answer.text()

        async with aiohttp.ClientSession() as session:
            assert await get("/livez") == (200, "ok\n")
            assert await get("/readyz") == (503, "not yet\n")
            causes.update(alive="dead watch", ready="")
            assert await get("/livez") == (503, "dead watch\n")
            assert await get("/readyz") == (200, "ok\n")
            scrapes = await asyncio.gather(*(get("/metrics") for _ in range(10)))
        await server.stop()
        return scrapes

    assert asyncio.run(scenario()) == [(200, "up 1\n")] * 10
    assert len(rendered) == 1
