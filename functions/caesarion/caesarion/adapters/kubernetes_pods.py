"""The pods that are sandboxes: taken from the pool, waited for, and removed."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime

from caesarion import pods
from caesarion.adapters.kubernetes_api import Api, ApiError, Json, Params
from caesarion.errors import SandboxUnavailable
from caesarion.ids import PrincipalId, SessionKey
from caesarion.pods import Purpose

logger = logging.getLogger(__name__)

GONE_DEADLINE_S = 30.0
LOOK_AGAIN_S = 0.2


class Pods:
    """The sandboxes' pods of one namespace, those of one pool among them."""

    def __init__(self, api: Api, namespace: str, pool: str) -> None:
        self._api = api
        self._pool = pool
        self._path = f"/api/v1/namespaces/{namespace}/pods"
        self._pool_path = f"/apis/apps/v1/namespaces/{namespace}/replicasets/{pool}"
        self._seen_waiting: Sequence[Json] = ()
        self._watching: asyncio.Task[None] | None = None

    async def aclose(self) -> None:
        """End the watch of the pool."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)

    async def of(self, key: SessionKey) -> Sequence[Json]:
        """Return the pods that have a session's label, those on their way out among them."""
        found, _ = await self._api.list(self._path, _labelled(pods.SESSION_LABEL, key.digest))
        return found

    async def claimed(self, principal: PrincipalId | None) -> Sequence[Json]:
        """Return all pods that have a session's label."""
        if principal is None:
            selector: Params = {"labelSelector": pods.SESSION_LABEL}
        else:
            selector = _labelled(pods.PRINCIPAL_LABEL, pods.principal_label(principal))
        found, _ = await self._api.list(self._path, selector)
        return found

    async def named(self, name: str) -> Json | None:
        """Return a pod, or None when there is none of this name."""
        return await self._api.get(f"{self._path}/{name}")

    def seen_waiting(self) -> Sequence[Json]:
        """Return the pods of the pool as they were seen last, nothing at first. From then on the pool is watched.

        They may have changed since, or others may have come: who takes one is refused then, and `take` looks again.
        """
        if self._watching is None or self._watching.done():
            self._watching = asyncio.create_task(self._watch_pool(), name="watch the pool")
        return self._seen_waiting

    async def take(self, key: SessionKey, purpose: Purpose) -> Json:
        """Give a session a pod of the pool or, when none is to be had, a new one; it need not be ready yet.

        Of two who want the same pod one gets it, as the write of the other is refused.
        """
        seen = [pod for pod in self.seen_waiting() if pods.is_ready(pod)]
        if (taken := await self._taken(key, purpose, seen)) is not None:
            return taken
        found, _ = await self._api.list(self._path, _labelled(pods.POOL_LABEL, self._pool))
        if (taken := await self._taken(key, purpose, found)) is not None:
            return taken
        return await self._new(key, purpose)

    async def ready(self, pod: Json) -> Json | None:
        """Return a pod once its kernels answer, or None when it ended first."""
        if pods.is_ready(pod) and pods.life(pod) is not None:
            return pod
        async for seen in self._followed({"fieldSelector": f"metadata.name={pod['metadata']['name']}"}):
            now = next((one for one in seen if one["metadata"]["uid"] == pod["metadata"]["uid"]), None)
            if now is None or pods.is_gone(now):
                return None
            if pods.is_ready(now) and pods.life(now) is not None:
                return now
            if (trouble := pods.trouble(now)) is not None:
                logger.warning("a pod does not start", extra={"pod": now["metadata"]["name"], "reason": trouble[:500]})
        return None

    async def pool_is_ready(self) -> None:
        """Return once a pod of the pool waits ready, at once where the pool wants none."""
        pool = await self._api.get(self._pool_path)
        if pool is None or not pool["spec"].get("replicas", 1):
            return
        async for seen in self._followed(_labelled(pods.POOL_LABEL, self._pool)):
            if any(pods.is_ready(pod) for pod in seen):
                return

    async def changed(self, key: SessionKey, before: Sequence[Json]) -> None:
        """Return once the pods of a session are not those of `before` any more."""
        known = {(pod["metadata"]["uid"], pods.is_gone(pod)) for pod in before}
        async for seen in self._followed(_labelled(pods.SESSION_LABEL, key.digest)):
            if {(pod["metadata"]["uid"], pods.is_gone(pod)) for pod in seen} != known:
                return

    async def show_life(self, pod: Json) -> None:
        """Write down that somebody is at work on a pod."""
        patch = {"metadata": {"annotations": pods.heard(datetime.now(UTC))}}
        await self._api.patch(f"{self._path}/{pod['metadata']['name']}", patch)

    async def remove(self, pod: Json) -> None:
        """End a pod and return when it is gone. Idempotent."""
        name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
        options = {"gracePeriodSeconds": pods.DELETE_GRACE_S, "preconditions": {"uid": uid}}
        try:
            if await self._api.delete(f"{self._path}/{name}", options) is None:
                return
        except ApiError as error:
            if error.answered != 409:  # a later pod has this name
                raise
            return
        try:
            async with asyncio.timeout(GONE_DEADLINE_S):
                async for seen in self._followed({"fieldSelector": f"metadata.name={name}"}):
                    if all(one["metadata"]["uid"] != uid for one in seen):
                        return
        except TimeoutError as exc:
            raise SandboxUnavailable("The session's sandbox did not end in time.", retry_after_s=5) from exc

    async def _taken(self, key: SessionKey, purpose: Purpose, waiting: Sequence[Json]) -> Json | None:
        """Give a session one of these pods, or return None when all of them have changed."""
        for pod in pods.candidates(waiting, key):
            uid = pod["metadata"]["uid"]
            self._seen_waiting = [one for one in self._seen_waiting if one["metadata"]["uid"] != uid]
            patch = pods.claim_patch(pod, key, datetime.now(UTC), purpose)
            try:
                return await self._api.patch(f"{self._path}/{pod['metadata']['name']}", patch)
            except ApiError as error:
                if error.answered not in (404, 409):
                    raise
            if purpose == "new" and (mine := [one for one in await self.of(key) if not pods.is_gone(one)]):
                return mine[0]  # somebody else makes this session too, or our own write was done after all
        return None

    async def _watch_pool(self) -> None:
        try:
            async for seen in self._followed(_labelled(pods.POOL_LABEL, self._pool)):
                self._seen_waiting = seen
        except SandboxUnavailable as error:  # who looks next begins it anew
            logger.info("the pool is not watched", extra={"reason": error.message})
        finally:
            self._seen_waiting = ()

    async def _new(self, key: SessionKey, purpose: Purpose) -> Json:
        pool = await self._api.get(self._pool_path)
        if pool is None:
            logger.error("there is no pool of sandboxes", extra={"pool": self._pool})
            raise SandboxUnavailable("There is no pool of sandboxes in the cluster.")
        logger.info("no pod waits, one is made", extra={"session_digest": key.digest})
        manifest = pods.cold_pod(pool, key, datetime.now(UTC), purpose)
        try:
            return await self._api.create(self._path, manifest)
        except ApiError as error:
            name = manifest["metadata"].get("name")
            if error.answered != 409 or name is None:
                raise
            made = await self.named(name)
            if made is not None and not pods.is_gone(made):
                return made  # by somebody else who makes this session too
            if made is not None:  # the session's last one, which is on its way out
                await self.remove(made)
            return await self._new(key, purpose)

    async def _followed(self, selector: Params) -> AsyncIterator[Sequence[Json]]:
        """Yield the pods of a selector, now and after each change, for ever."""
        while True:
            found, version = await self._api.list(self._path, selector)
            known = {pod["metadata"]["uid"]: pod for pod in found}
            yield list(known.values())
            async for kind, pod in self._api.watch(self._path, selector, version):
                if kind == "DELETED":
                    known.pop(pod["metadata"]["uid"], None)
                else:
                    known[pod["metadata"]["uid"]] = pod
                yield list(known.values())
            await asyncio.sleep(LOOK_AGAIN_S)


def _labelled(name: str, value: str) -> Params:
    return {"labelSelector": f"{name}={value}"}
