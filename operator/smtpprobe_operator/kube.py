"""The Kubernetes API as raw JSON: the only file that imports ``kubernetes``.

Its models refuse fields that they do not know, so bodies go in and come out as plain dicts. Nothing is repeated here
except after 429: whoever asks knows whether asking twice is safe.
"""

import asyncio
import json
import logging
import os
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any, TypedDict, Unpack
from urllib.parse import urlencode

import aiohttp
import msgspec
from kubernetes.aio import client, config
from kubernetes.aio.client.exceptions import ApiException

from smtpprobe.resource import GROUP, PLURAL, VERSION
from smtpprobe_operator.bucket import TokenBucket

LOG = logging.getLogger("smtpprobe.kube")
JSON = "application/json"
JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
METADATA_LIST = f"{JSON};as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,{JSON}"
TIMEOUT_SECONDS = 15.0
PAGE = 500

Json = dict[str, Any]


class ApiError(Exception):
    """The API server said no, or did not answer (code 0: it may or may not have done what was asked).

    ``reason`` is metav1.Status.reason, ``retry_after`` seconds where the server named them.
    """

    def __init__(self, code: int, reason: str, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(f"{code} {reason}: {message}"[:500])
        self.code = code
        self.reason = reason
        self.message = message
        self.retry_after = retry_after

    @property
    def gone(self) -> bool:
        return self.code == 404

    @property
    def exists(self) -> bool:
        return self.code == 409 and self.reason == "AlreadyExists"

    @property
    def conflict(self) -> bool:
        """A ``test`` of a JSON Patch failed (422 Invalid), or somebody else wrote between (409)."""
        return self.code in {409, 422}

    @property
    def not_permitted(self) -> bool:
        """The operator has no right to this: said by the authorizer, not by quota, policy or a namespace that ends."""
        return self.code == 401 or (self.code == 403 and " cannot " in self.message)

    @property
    def passing(self) -> bool:
        """Asking again later can help and nothing is known against the request itself.

        A 409 that is no AlreadyExists on a create comes from two requests that met in one quota.
        """
        return self.code in {0, 408, 429} or self.code >= 500 or (self.code == 409 and not self.exists)


class _More(TypedDict, total=False):
    """What a call may say beside its method and path; ``verb`` is the name to count it under."""

    query: Json
    body: Any
    content_type: str
    accept: str
    verb: str


class _Call(msgspec.Struct, frozen=True, kw_only=True):
    method: str
    path: str
    query: Json = msgspec.field(default_factory=dict)
    body: Any = None
    content_type: str = JSON
    accept: str = JSON
    verb: str = ""


class Kube:
    """One client for all calls; ``calls`` counts them by verb and code for the metrics."""

    def __init__(self, configuration: client.Configuration, *, qps: float = 20.0, burst: int = 40) -> None:
        self._configuration = configuration
        self._api = client.ApiClient(configuration)
        self._bucket = TokenBucket(rate=qps, burst=burst, clock=time.monotonic)
        self.calls: Counter[tuple[str, int]] = Counter()

    async def close(self) -> None:
        await self._api.close()  # type: ignore[no-untyped-call]

    async def call(self, method: str, path: str, **more: Unpack[_More]) -> Json:
        """Make one call and return the JSON answer; raises ``ApiError``. A 429 with Retry-After is waited for once."""
        call = _Call(method=method, path=path, **more)
        try:
            return await self._once(call)
        except ApiError as error:
            if error.not_permitted:
                LOG.warning("not permitted, compare the operator's ClusterRole with the chart's: %s", error)
            if error.code != 429 or error.retry_after is None:
                raise
            await asyncio.sleep(min(error.retry_after, 30.0))
        return await self._once(call)

    async def _once(self, call: "_Call") -> Json:
        await self._bucket.take()
        url = f"{self._configuration.host}{call.path}" + (f"?{urlencode(call.query)}" if call.query else "")
        headers = {"Accept": call.accept, "Content-Type": call.content_type, "User-Agent": "smtpprobe-operator"}
        code = 0
        try:
            await self._api.update_params_for_auth(headers, [], ["BearerToken"], call.path, call.method, call.body)
            response = await self._api.call_api(
                call.method,
                url,
                header_params=headers,
                body=call.body,
                _request_timeout=aiohttp.ClientTimeout(TIMEOUT_SECONDS),
            )
            data = await response.read()  # type: ignore[no-untyped-call]
            code = response.status
        except (aiohttp.ClientError, TimeoutError, OSError, ssl.SSLError, ApiException) as error:
            raise ApiError(0, type(error).__name__, str(error) or "no answer in time") from error
        finally:
            self.calls[call.verb or _VERBS[call.method], code] += 1
        return _answer(code, data, response.headers.get("Retry-After"))

    async def pages(self, path: str, *, query: Json | None = None, accept: str = JSON) -> AsyncIterator[Json]:
        """Walk a list page by page, each item as a dict."""
        token = ""
        while True:
            asked = {**(query or {}), "limit": PAGE, **({"continue": token} if token else {})}
            page = await self.call("GET", path, query=asked, accept=accept, verb="list")
            for item in page.get("items") or []:
                yield item
            token = (page.get("metadata") or {}).get("continue") or ""
            if not token:
                return

    # ------------------------------------------------------------------------------------------- what we ask for

    async def metadata(self, namespace: str | None = None) -> list[Json]:
        """Return the metadata of every SmtpProbe."""
        path = _path(f"/apis/{GROUP}/{VERSION}", namespace, PLURAL)
        return [item["metadata"] async for item in self.pages(path, accept=METADATA_LIST)]

    async def probe(self, namespace: str, name: str) -> Json:
        return await self.call("GET", _path(f"/apis/{GROUP}/{VERSION}", namespace, PLURAL, name))

    async def write_status(self, namespace: str, name: str, *, uid: str, resource_version: str, status: Json) -> Json:
        """Replace the whole status of exactly this object in exactly this version; ``ApiError.conflict`` otherwise.

        ``add`` on a member that exists replaces it (RFC 6902 §4.1), and works where there is no status yet.
        """
        body = [
            {"op": "test", "path": "/metadata/uid", "value": uid},
            {"op": "test", "path": "/metadata/resourceVersion", "value": resource_version},
            {"op": "add", "path": "/status", "value": status},
        ]
        path = _path(f"/apis/{GROUP}/{VERSION}", namespace, PLURAL, name, "status")
        return await self.call("PATCH", path, body=body, content_type=JSON_PATCH)

    async def create_job(self, namespace: str, job: Json) -> Json:
        return await self.call("POST", _path("/apis/batch/v1", namespace, "jobs"), body=job)

    async def job(self, namespace: str, name: str) -> Json:
        return await self.call("GET", _path("/apis/batch/v1", namespace, "jobs", name))

    async def delete_job(self, namespace: str, name: str) -> None:
        """Delete a Job and, through the garbage collector, its pods; one that is gone already is fine."""
        try:
            await self.call(
                "DELETE", _path("/apis/batch/v1", namespace, "jobs", name), body={"propagationPolicy": "Background"}
            )
        except ApiError as error:
            if not error.gone:
                raise

    async def pods(self, namespace: str | None, selector: str) -> list[Json]:
        return [pod async for pod in self.pages(_path("/api/v1", namespace, "pods"), query={"labelSelector": selector})]

    async def events_of(self, namespace: str, kind: str, name: str) -> list[Json]:
        query = {"fieldSelector": f"involvedObject.kind={kind},involvedObject.name={name}"}
        return [event async for event in self.pages(_path("/api/v1", namespace, "events"), query=query)]

    async def event(self, namespace: str, name: str) -> Json | None:
        """Return one event by its name; by a list, which is a right that the operator has anyway."""
        query = {"fieldSelector": f"metadata.name={name}"}
        async for event in self.pages(_path("/api/v1", namespace, "events"), query=query):
            return event
        return None

    async def create_event(self, namespace: str, event: Json) -> Json:
        return await self.call("POST", _path("/apis/events.k8s.io/v1", namespace, "events"), body=event)

    async def patch_event(self, namespace: str, name: str, changes: Json) -> Json:
        path = _path("/apis/events.k8s.io/v1", namespace, "events", name)
        return await self.call("PATCH", path, body=changes, content_type=MERGE_PATCH)


_VERBS = {"POST": "create", "PATCH": "patch", "DELETE": "delete", "GET": "get", "PUT": "update"}


def _path(base: str, namespace: str | None, *rest: str) -> str:
    return "/".join((base, *(("namespaces", namespace) if namespace else ()), *rest))


def _answer(code: int, data: bytes, retry_after: str | None) -> Json:
    try:
        answer = json.loads(data) if data else {}
    except ValueError as error:
        raise ApiError(0 if code < 300 else code, "NotJson", f"answer of {len(data)} bytes is no JSON") from error
    if not isinstance(answer, dict):
        raise ApiError(0 if code < 300 else code, "NotJson", "answer is no JSON object")
    if code < 300:
        return answer
    seconds = float(retry_after) if retry_after and retry_after.isdecimal() else None
    raise ApiError(code, str(answer.get("reason", "")), str(answer.get("message", "")), retry_after=seconds)


async def connect(
    *, load_in_cluster: Callable[..., None] = config.load_incluster_config, qps: float = 20.0, burst: int = 40
) -> Kube:
    """Connect as the pod's service account, else as KUBECONFIG says."""
    configuration = client.Configuration()
    if os.environ.get("KUBERNETES_SERVICE_HOST") and not os.environ.get("KUBECONFIG"):
        load_in_cluster(client_configuration=configuration)
    else:
        await config.load_kube_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    return Kube(configuration, qps=qps, burst=burst)
