"""The tests' own hand on the API server: a small client, a played kubelet, and the operator as a process."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import ssl
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import cluster_facts
import msgspec
import yaml
from proxy import Proxy

from smtpprobe.codec import encode_result
from smtpprobe.model import ProbeRequest, ProbeResult
from smtpprobe.resource import GROUP, PLURAL, RUN_NOW_ANNOTATION, VERSION, RunRef
from smtpprobe_operator.jobs import ANNOTATION_RUN, LABEL_UID, SELECTOR

Json = dict[str, Any]
ROOT = Path(__file__).resolve().parents[2]
PROBES = f"/apis/{GROUP}/{VERSION}"
RULES = [
    {"apiGroups": [GROUP], "resources": [PLURAL], "verbs": ["get", "list", "watch"]},
    {"apiGroups": [GROUP], "resources": [f"{PLURAL}/status"], "verbs": ["patch"]},
    {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["create", "get", "delete"]},
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]},
    {"apiGroups": [""], "resources": ["events"], "verbs": ["list"]},
    {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create", "patch"]},
]


class AnswerError(Exception):
    """The API server said no."""

    def __init__(self, code: int, body: Json) -> None:
        super().__init__(f"{code}: {body.get('message')}")
        self.code = code


class Api:
    """Admin's hand: raw JSON calls."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self.url = url

    async def call(self, method: str, path: str, body: Any = None, content_type: str = "application/json") -> Json:
        headers = {"Content-Type": content_type}
        data = None if body is None else json.dumps(body)
        async with self._session.request(method, f"{self.url}{path}", data=data, headers=headers) as answer:
            text = await answer.text()
            found: Json = json.loads(text) if text.startswith("{") else {"message": text}
            if answer.status >= 300:
                raise AnswerError(answer.status, found)
            return found

    async def get(self, path: str) -> Json:
        return await self.call("GET", path)

    async def items(self, path: str) -> list[Json]:
        return list((await self.get(path))["items"])

    async def merge(self, path: str, changes: Json) -> Json:
        return await self.call("PATCH", path, changes, "application/merge-patch+json")

    async def delete(self, path: str, **options: Any) -> None:
        with suppress(AnswerError):
            await self.call("DELETE", path, options or None)


@asynccontextmanager
async def admin() -> AsyncIterator[Api]:
    """Connect as the cluster's admin."""
    facts = cluster_facts.load().kubernetes
    assert facts
    context = ssl.create_default_context(cafile=facts.ca_file)
    headers = {"Authorization": f"Bearer {token_of('admin')}"}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context, limit=0), headers=headers) as session:
        yield Api(session, facts.url)


def token_of(user: str) -> str:
    """Read a user's token from its kubeconfig."""
    facts = cluster_facts.load().kubernetes
    assert facts
    config = yaml.safe_load(Path(facts.kubeconfigs[user]).read_text())
    return str(config["users"][0]["user"]["token"])


async def prepare(api: Api) -> None:
    """Install the CRD, and give user alice exactly the operator's rights; twice is as good as once."""
    crd = yaml.safe_load((ROOT / "crds/smtpprobes.yaml").read_text())
    await _made(api, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", crd)
    role: Json = {"metadata": {"name": "smtpprobe-tests"}, "rules": RULES}
    base = "/apis/rbac.authorization.k8s.io/v1"
    await _made(api, f"{base}/clusterroles", {"apiVersion": base[6:], "kind": "ClusterRole", **role})
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "smtpprobe-tests"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "smtpprobe-tests"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "alice"}],
    }
    await _made(api, f"{base}/clusterrolebindings", binding)

    async def served() -> bool:
        try:
            await api.get(f"{PROBES}/{PLURAL}")
        except AnswerError:
            return False
        return True

    await until(served, 20, "the CRD is served")


async def _made(api: Api, path: str, body: Json) -> None:
    try:
        await api.call("POST", path, body)
    except AnswerError as answer:
        if answer.code != 409:
            raise


@asynccontextmanager
async def namespace(api: Api, **labels: str) -> AsyncIterator[str]:
    """Make a namespace of the test's own."""
    name = f"smtpprobe-test-{uuid.uuid4().hex[:8]}"
    await api.call("POST", "/api/v1/namespaces", {"metadata": {"name": name, "labels": labels}})
    try:
        yield name
    finally:
        await api.delete(f"/api/v1/namespaces/{name}")


async def until(condition: Callable[[], Awaitable[Any]], seconds: float, what: str) -> Any:
    """Wait for a condition with a deadline; returns what the condition returned."""
    try:
        async with asyncio.timeout(seconds):
            while not (found := await condition()):
                await asyncio.sleep(0.05)
            return found
    except TimeoutError:
        raise AssertionError(f"not within {seconds:g} s: {what}") from None


# ------------------------------------------------------------------------------------------------------- the kubelet

Answers = Callable[[RunRef, ProbeRequest], "ProbeResult | Json | None"]


@dataclass
class PlayedKubelet:
    """Ends pods of a namespace as a kubelet would; `answer` gives a result, a raw pod status, or None: it hangs."""

    api: Api
    namespace: str
    answer: Answers
    runs: list[RunRef] = field(default_factory=list)
    requests: list[ProbeRequest] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)

    async def run(self) -> None:
        path = f"/api/v1/namespaces/{self.namespace}/pods?labelSelector={SELECTOR}"
        while True:
            with suppress(AnswerError):
                for pod in await self.api.items(path):
                    await self._play(pod)
            await asyncio.sleep(0.05)

    async def _play(self, pod: Json) -> None:
        meta = pod["metadata"]
        if meta["name"] in self.seen or (pod.get("status") or {}).get("phase") in {"Succeeded", "Failed"}:
            return
        run = msgspec.json.decode(meta["annotations"][ANNOTATION_RUN], type=RunRef)
        env = {item["name"]: item["value"] for item in pod["spec"]["containers"][0]["env"]}
        request = msgspec.json.decode(env["SMTPPROBE_REQUEST"].replace("$$", "$"), type=ProbeRequest)
        self.seen.add(meta["name"])
        self.runs.append(run)
        self.requests.append(request)
        answer = self.answer(run, request)
        if answer is not None:
            await end_pod(self.api, pod, answer)


async def end_pod(api: Api, pod: Json, answer: ProbeResult | Json) -> None:
    """Write a pod's end into its status: a result, or a whole status of the test's choice."""
    status = answer if isinstance(answer, dict) else _succeeded(encode_result(answer).decode())
    path = f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}/status"
    await api.merge(path, {"status": status})


def _succeeded(message: str) -> Json:
    return ended("Completed", 0, message, phase="Succeeded")


def ended(reason: str, code: int, message: str = "", phase: str = "Failed", **more: Any) -> Json:
    """Make the status of a pod whose container ended."""
    terminated = {"exitCode": code, "reason": reason, "message": message}
    container = {
        "name": "probe",
        "image": "x",
        "imageID": "x",
        "ready": False,
        "restartCount": 0,
        "state": {"terminated": terminated},
    }
    return {"phase": phase, "containerStatuses": [container], **more}


@asynccontextmanager
async def kubelet(api: Api, space: str, answer: Answers) -> AsyncIterator[PlayedKubelet]:
    """Play the kubelet while the block runs."""
    player = PlayedKubelet(api, space, answer)
    task = asyncio.create_task(player.run())
    try:
        yield player
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


# ------------------------------------------------------------------------------------------------------ the operator


@dataclass
class OperatorProcess:
    """The real operator as a process; `start` after `kill` is a restart."""

    url: str
    namespaces: str = ""
    ca_file: str | None = None
    environment: dict[str, str] = field(default_factory=dict)
    port: int = 0

    def __post_init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="smtpprobe-operator-")
        self.log = Path(self._folder.name) / "log"
        self._kubeconfig = Path(self._folder.name) / "kubeconfig"
        cluster: Json = {"server": self.url}
        if self.ca_file:
            cluster["certificate-authority"] = self.ca_file
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": "u", "user": {"token": token_of("alice")}}],
        }
        self._kubeconfig.write_text(yaml.safe_dump(config))
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it; its log is appended to."""
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": self._folder.name,
            "KUBECONFIG": str(self._kubeconfig),
            "SMTPPROBE_PROBE_IMAGE": "localhost/smtpprobe-probe:test",
            "SMTPPROBE_HTTP_PORT": "0",
            "SMTPPROBE_WATCH_NAMESPACES": self.namespaces,
            "SMTPPROBE_JOBS_PER_SECOND": "20",
            **self.environment,
        }
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "smtpprobe_operator", env=environment, stdout=log, stderr=log, cwd=ROOT
            )

    def kill(self) -> None:
        """SIGKILL, at once."""
        if self.process and self.process.returncode is None:
            with suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGKILL)

    async def ended(self) -> int:
        assert self.process
        return await self.process.wait()

    async def stop(self) -> int:
        """SIGTERM, and wait for the end."""
        assert self.process
        if self.process.returncode is None:
            self.process.terminate()
        return await self.process.wait()

    def close(self) -> None:
        self._folder.cleanup()

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    async def http(self, path: str) -> tuple[int, str]:
        """Ask the operator's own HTTP server."""
        port = [line.rsplit(" ", 1)[1] for line in self.text().splitlines() if "listening on port" in line][-1]
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}{path}") as answer:
            return answer.status, await answer.text()


@asynccontextmanager
async def operator(url: str, **more: Any) -> AsyncIterator[OperatorProcess]:
    """Run the operator while the block runs; its log is shown where the block fails."""
    process = OperatorProcess(url, **more)
    await process.start()
    try:
        yield process
    except BaseException:
        print(process.text()[-6000:])
        raise
    finally:
        process.kill()
        await process.ended()
        process.close()


# ---------------------------------------------------------------------------------------------------------- resources


def probe_path(space: str, name: str = "") -> str:
    return f"{PROBES}/namespaces/{space}/{PLURAL}" + (f"/{name}" if name else "")


async def apply(api: Api, space: str, name: str, spec: Json, annotations: dict[str, str] | None = None) -> Json:
    """Create a SmtpProbe."""
    body = {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "SmtpProbe",
        "metadata": {"name": name, "annotations": annotations or {}},
        "spec": spec,
    }
    return await api.call("POST", probe_path(space), body)


async def jobs_of(api: Api, space: str, uid: str) -> list[Json]:
    """Return the Jobs of a probe, with the runs in their annotations."""
    return await api.items(f"/apis/batch/v1/namespaces/{space}/jobs?labelSelector={LABEL_UID}={uid}")


def run_of(job: Json) -> RunRef:
    return msgspec.json.decode(job["metadata"]["annotations"][ANNOTATION_RUN], type=RunRef)


def condition(body: Json, kind: str) -> Json:
    """Return one condition of a resource, empty where it is not there."""
    for found in (body.get("status") or {}).get("conditions") or []:
        if found["type"] == kind:
            return dict(found)
    return {}


# ------------------------------------------------------------------------------------------------------------- arena


@dataclass
class Arena:
    """One namespace with an operator of its own behind a proxy, and a kubelet played by the test."""

    api: Api
    space: str
    proxy: Proxy
    process: OperatorProcess
    kubelet: PlayedKubelet

    async def apply(self, name: str, spec: Json, **annotations: str) -> str:
        """Create a SmtpProbe; returns its uid."""
        made = await apply(self.api, self.space, name, spec, annotations)
        return str(made["metadata"]["uid"])

    async def read(self, name: str) -> Json:
        return await self.api.get(probe_path(self.space, name))

    async def change(self, name: str, changes: Json) -> Json:
        return await self.api.merge(probe_path(self.space, name), changes)

    async def run_now(self, name: str, value: str) -> None:
        await self.change(name, {"metadata": {"annotations": {RUN_NOW_ANNOTATION: value}}})

    async def wait(self, name: str, holds: Callable[[Json], Any], what: str, seconds: float = 60.0) -> Json:
        """Wait until a probe's body has what is asked; returns the body."""

        async def look() -> Json | None:
            body = await self.read(name)
            return body if holds(body) else None

        found: Json = await until(look, seconds, what)
        return found

    async def ran(self, name: str, trigger: str, generation: int = 1, seconds: float = 60.0) -> Json:
        """Wait until a run is the last one in the status; returns the body."""

        def holds(body: Json) -> bool:
            last = (body.get("status") or {}).get("lastRun") or {}
            return (last.get("trigger"), last.get("generation")) == (trigger, generation)

        return await self.wait(name, holds, f"{trigger} of generation {generation} in the status", seconds)

    async def jobs(self, uid: str) -> list[Json]:
        return await jobs_of(self.api, self.space, uid)

    async def pods(self) -> list[Json]:
        return await self.api.items(f"/api/v1/namespaces/{self.space}/pods?labelSelector={SELECTOR}")

    async def pod(self, seconds: float = 10.0) -> Json:
        """Wait for the first pod that has not ended; returns it."""

        async def look() -> Json | None:
            alive = [
                p for p in await self.pods() if (p.get("status") or {}).get("phase") not in {"Succeeded", "Failed"}
            ]
            return alive[0] if alive else None

        found: Json = await until(look, seconds, "a pod")
        return found

    async def events(self) -> list[Json]:
        """Return our own events, oldest first."""
        path = f"/apis/events.k8s.io/v1/namespaces/{self.space}/events"
        ours = [e for e in await self.api.items(path) if e.get("reportingController") == "smtpprobe.dev/operator"]
        return sorted(ours, key=lambda event: str(event["eventTime"]))

    async def ready(self) -> None:
        """Wait until the operator works."""

        async def answers() -> bool:
            assert self.process.process
            assert self.process.process.returncode is None, "the operator has ended"
            try:
                return (await self.process.http("/readyz"))[0] == 200
            except (OSError, IndexError):
                return False

        await until(answers, 60, "readyz")

    async def quiet(self, seconds: float = 1.0) -> None:
        """Wait until the operator has written nothing for a while."""
        loop = asyncio.get_running_loop()
        written, since = len(self.proxy.calls), loop.time()

        async def still() -> bool:
            nonlocal written, since
            if len(self.proxy.calls) != written:
                written, since = len(self.proxy.calls), loop.time()
            return loop.time() - since >= seconds

        await until(still, 30, "no writes any more")

    async def restart(self) -> None:
        """SIGKILL and start again."""
        self.process.kill()
        await self.process.ended()
        await self.process.start()


@asynccontextmanager
async def arena(answer: Answers, *, start: bool = True, **environment: str) -> AsyncIterator[Arena]:
    """Set up a namespace, a proxy, a kubelet and an operator; its log is shown where the block fails."""
    facts = cluster_facts.load().kubernetes
    assert facts
    async with admin() as api:
        await prepare(api)
        async with (
            namespace(api) as space,
            Proxy(facts.url, facts.ca_file) as proxy,
            kubelet(api, space, answer) as player,
        ):
            process = OperatorProcess(proxy.url, namespaces=space, environment=environment)
            there = Arena(api, space, proxy, process, player)
            try:
                if start:
                    await process.start()
                    await there.ready()
                yield there
            except BaseException:
                print(process.text()[-6000:] if process.log.exists() else "the operator was never started")
                raise
            finally:
                if process.process:
                    process.kill()
                    await process.ended()
                process.close()
