"""The Kubernetes API as JSON, through the aio side of the official client, which is imported on first use.

The client brings the cluster's address, its certificates, and tokens that are read again before they run out. Its
models are left alone: to make a typed pod of an answer takes longer than the answer.
"""

import asyncio
import contextlib
import importlib
import json
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Mapping
from typing import TYPE_CHECKING, Any

from caesarion.errors import SandboxUnavailable

if TYPE_CHECKING:
    from kubernetes.aio.client import ApiClient

logger = logging.getLogger(__name__)

Json = dict[str, Any]
Params = Mapping[str, str | int]

CONNECT_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 15.0
WATCH_TIMEOUT_S = 240
PAGE = 500
MERGE_PATCH = "application/merge-patch+json"
METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
BACKOFF_S = (0.05, 0.2, 0.5, 1.0, 2.0)
TRY_AGAIN = (429, 500, 502, 503, 504)
LARGE_BYTES = 200_000


class ApiError(SandboxUnavailable):
    """A refusal of the API server, with its HTTP status. Where nobody expects it, there is no sandbox to be had."""

    def __init__(self, answered: int, reason: str) -> None:
        super().__init__(f"The cluster's API server refused ({answered} {reason}).", retry_after_s=5)
        self.answered = answered


class Api:
    """Requests to the API server. To be used from one event loop.

    One that could not be sent, or that the server is too busy for, is sent again, each within a few seconds; a write
    that was done and whose answer was lost is then answered with a conflict, which callers settle by looking again.
    """

    def __init__(self) -> None:
        self._opening = asyncio.Lock()
        self._client: ApiClient | None = None

    async def get(self, path: str, params: Params | None = None) -> Json | None:
        """Return an object, or None when there is none."""
        return await self._unless_missing(self.request("GET", path, params=params))

    async def list(
        self, path: str, params: Params | None = None, *, metadata_only: bool = False
    ) -> tuple[list[Json], str]:
        """Return all objects of a list, in pieces the server can give at once, and the list's version."""
        items: list[Json] = []
        more: Json = {}
        while True:
            page = await self.request(
                "GET",
                path,
                params={**(params or {}), "limit": PAGE, **more},
                accept=METADATA_LIST if metadata_only else "application/json",
            )
            items += page["items"] or ()
            following = page["metadata"].get("continue")
            if not following:
                return items, page["metadata"]["resourceVersion"]
            more = {"continue": following}

    async def create(self, path: str, manifest: Json) -> Json:
        """Create an object. Raises ApiError 409 when there is one of its name."""
        return await self.request("POST", path, body=manifest)

    async def replace(self, path: str, manifest: Json) -> Json:
        """Replace an object. Raises ApiError 409 when it has changed, 404 when it is gone."""
        return await self.request("PUT", path, body=manifest)

    async def patch(self, path: str, patch: Json) -> Json:
        """Change an object. Raises ApiError 409 when it has changed, 404 when it is gone."""
        return await self.request("PATCH", path, body=patch, content_type=MERGE_PATCH)

    async def delete(self, path: str, options: Json | None = None) -> Json | None:
        """Begin to remove an object; returns it, or None when there is none. Raises ApiError 409 for another one."""
        return await self._unless_missing(self.request("DELETE", path, body=options or {}))

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        body: Json | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> Json:
        """Send a request and return its decoded answer. Raises ApiError, or SandboxUnavailable after some attempts."""
        headers = {"Accept": accept, "Content-Type": content_type}
        failure: Exception
        for attempt, pause_s in enumerate((*BACKOFF_S, None)):
            try:
                async with asyncio.timeout(ANSWER_TIMEOUT_S):
                    status, text = await self._sent(method, path, params, headers, body)
                if 200 <= status < 300:
                    return await _decoded(text)
                failure = _refusal(status, text)
                if status not in TRY_AGAIN:
                    raise failure
            except ApiError:
                raise
            except Exception as exc:
                if not _is_connection_failure(exc):
                    raise
                failure = exc
            if pause_s is None:
                break
            logger.info("the API server is asked again", extra={"attempt": attempt, "reason": repr(failure)[:300]})
            await asyncio.sleep(pause_s)
        logger.error("the API server does not answer", extra={"reason": repr(failure)[:500]})
        raise SandboxUnavailable("The cluster's API server does not answer.", retry_after_s=5) from failure

    async def watch(self, path: str, params: Params, version: str) -> AsyncIterator[tuple[str, Json]]:
        """Yield what happens to objects of a list after this version of it: ``ADDED``, ``MODIFIED`` or ``DELETED``.

        Ends when the server ends it, when the connection breaks, or when the version is too old to be followed; the
        caller then looks anew.
        """
        asked = {**params, "watch": "1", "resourceVersion": version, "timeoutSeconds": WATCH_TIMEOUT_S}
        try:
            answer = await self._call("GET", path, asked, {"Accept": "application/json"}, None)
            try:
                if answer.status != 200:
                    return
                async for line in answer.content:
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        return
                    yield event["type"], event["object"]
            finally:
                if answer.connection is not None and answer.connection.transport is not None:
                    answer.connection.transport.abort()
                answer.close()
        except Exception as exc:
            if not _is_connection_failure(exc):
                raise

    async def aclose(self) -> None:
        """Close the connections."""
        client, self._client = self._client, None
        connections = client.rest_client.pool_manager if client is not None else None
        if connections is not None and connections.connector is not None:
            await connections.connector.close(abort_ssl=True)  # else it would wait for the server's farewell
            await connections.close()

    async def _unless_missing(self, request: Awaitable[Json]) -> Json | None:
        try:
            return await request
        except ApiError as error:
            if error.answered == 404:
                return None
            raise

    async def _sent(
        self, method: str, path: str, params: Params | None, headers: Mapping[str, str], body: Json | None
    ) -> tuple[int, bytes]:
        answer = await self._call(method, path, params, headers, body)
        try:
            return answer.status, await answer.read()
        finally:
            answer.release()

    async def _call(
        self, method: str, path: str, params: Params | None, headers: Mapping[str, str], body: Json | None
    ) -> Any:
        client = await self._opened()
        import aiohttp

        request = await client.param_serialize(
            method,
            path,
            query_params=list((params or {}).items()),
            header_params=dict(headers),
            body=body,
            auth_settings=["BearerToken"],
        )
        limits = aiohttp.ClientTimeout(total=None, connect=CONNECT_TIMEOUT_S)
        return (await client.call_api(*request, _request_timeout=limits)).response

    async def _opened(self) -> "ApiClient":
        if self._client is None:
            async with self._opening:
                if self._client is None:
                    self._client = await _open()
        return self._client


async def _open() -> "ApiClient":
    """Return a client of the cluster around this pod, or of the one that KUBECONFIG names."""
    client: Any = await asyncio.to_thread(importlib.import_module, "kubernetes.aio.client")
    config: Any = importlib.import_module("kubernetes.aio.config")
    configuration = client.Configuration()
    try:
        if "KUBECONFIG" in os.environ or "KUBERNETES_SERVICE_HOST" not in os.environ:
            named = os.environ.get("KUBECONFIG") or None  # as it is now; the client knows what it was at its import
            await config.load_kube_config(config_file=named, client_configuration=configuration)
        else:
            config.load_incluster_config(client_configuration=configuration)
    except (config.ConfigException, OSError) as exc:
        logger.error("no cluster is configured", extra={"reason": str(exc)[:500]})
        raise SandboxUnavailable("No Kubernetes cluster is configured. The log of the functions says more.") from exc
    configuration.retries = None
    opened: ApiClient = await asyncio.to_thread(client.ApiClient, configuration)
    return opened


def _is_connection_failure(error: Exception) -> bool:
    import aiohttp

    return isinstance(error, OSError | TimeoutError | aiohttp.ClientError)


async def _decoded(text: bytes) -> Json:
    found = json.loads(text) if len(text) < LARGE_BYTES else await asyncio.to_thread(json.loads, text)
    return dict(found)


def _refusal(status: int, text: bytes) -> ApiError:
    reason, message = "", ""
    with contextlib.suppress(ValueError, AttributeError):
        answer = json.loads(text)
        reason, message = str(answer.get("reason", "")), str(answer.get("message", ""))
    if status not in (404, 409):
        logger.error("the API server refused", extra={"status": status, "reason": f"{reason}: {message}"[:500]})
    return ApiError(status, reason)
