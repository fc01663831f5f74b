"""What is written down about sessions in the cluster: a Secret each, changed by one writer at a time."""

import asyncio
import logging
from collections.abc import Sequence

from caesarion import pod_sessions
from caesarion.adapters.kubernetes_api import Api, ApiError, Params
from caesarion.ids import PrincipalId, SessionKey
from caesarion.pod_sessions import PodSession
from caesarion.pods import NAME_LABEL, PRINCIPAL_LABEL, principal_label

logger = logging.getLogger(__name__)

LOOK_AGAIN_S = 0.2


class PodSessions:
    """The sessions of one namespace. A write that is refused, as somebody else wrote first, gives None."""

    def __init__(self, api: Api, namespace: str) -> None:
        self._api = api
        self._path = f"/api/v1/namespaces/{namespace}/secrets"

    async def read(self, key: SessionKey) -> PodSession | None:
        """Return what is written of a session."""
        return await self.of_digest(key.digest)

    async def of_digest(self, digest: str) -> PodSession | None:
        """Return what is written of the session with this digest."""
        found = await self._api.get(f"{self._path}/{pod_sessions.secret_name(digest)}")
        return pod_sessions.session_of(found) if found is not None else None

    async def list(self, principal: PrincipalId | None) -> Sequence[PodSession]:
        """Return all sessions, of one principal or of everybody, oldest first and without their variables."""
        selector = f"{NAME_LABEL}={pod_sessions.SESSION_NAME}"
        if principal is not None:
            selector += f",{PRINCIPAL_LABEL}={principal_label(principal)}"
        found, _ = await self._api.list(self._path, {"labelSelector": selector}, metadata_only=True)
        sessions = []
        for one in found:
            try:
                sessions.append(pod_sessions.session_of(one))
            except (KeyError, ValueError):
                logger.warning("a Secret is no session that we wrote", extra={"secret": one["metadata"]["name"]})
        return sorted(sessions, key=lambda session: session.created_at)

    async def write(self, session: PodSession) -> PodSession | None:
        """Write a session down, new (without a version) or in place of the version it was read as."""
        manifest = pod_sessions.secret(session)
        try:
            if session.version:
                written = await self._api.replace(f"{self._path}/{manifest['metadata']['name']}", manifest)
            else:
                written = await self._api.create(self._path, manifest)
        except ApiError as error:
            if error.answered in (404, 409):
                return None
            raise
        return pod_sessions.session_of(written)

    async def delete(self, session: PodSession, *, unchanged: bool) -> bool:
        """Forget a session, with `unchanged` only the version it was read as; returns whether it is gone."""
        conditions = {"preconditions": {"resourceVersion": session.version}} if unchanged else {}
        try:
            await self._api.delete(f"{self._path}/{pod_sessions.secret_name(session.key.digest)}", conditions)
        except ApiError as error:
            if error.answered == 409:
                return False
            raise
        return True

    async def changed(self, session: PodSession) -> None:
        """Return once something else is written of a session than was read."""
        selector: Params = {"fieldSelector": f"metadata.name={pod_sessions.secret_name(session.key.digest)}"}
        while True:
            found, version = await self._api.list(self._path, selector, metadata_only=True)
            if not found or found[0]["metadata"]["resourceVersion"] != session.version:
                return
            async for _ in self._api.watch(self._path, selector, version):
                return
            await asyncio.sleep(LOOK_AGAIN_S)
