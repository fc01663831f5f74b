"""Sandboxes as pods of a Kubernetes cluster. Nothing is kept in memory: any replica does the next step of any session.

A pool is a ReplicaSet of pods that wait. To claim one is a single write that takes it out of the pool; which pod is the
session's is decided by the write of the session's Secret (`caesarion.pod_sessions`). Of two who make, wake, suspend or
close a session at once one succeeds with that, and the other looks again, so nobody holds a lock that a crash would
leave locked. What a crash leaves are pods and checkpoints that no session names: orphans.
"""

import asyncio
import contextlib
import json
import logging
import secrets
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from types import TracebackType

from caesarion import pods
from caesarion.adapters.checkpoints import Checkpoints, to_the_end, unseal
from caesarion.adapters.kubernetes_api import Api, Json
from caesarion.adapters.kubernetes_pods import Pods
from caesarion.adapters.kubernetes_sessions import PodSessions
from caesarion.adapters.sandbox_http import ForeignSandbox, SandboxClient, SandboxUnreachable
from caesarion.errors import CaesarionError, ConfigError, SandboxUnavailable, SessionNotFound, TooLarge
from caesarion.ids import PrincipalId, SandboxName, SessionKey
from caesarion.pod_sessions import PodSession, Suspending
from caesarion.pod_tokens import pod_token
from caesarion.ports import Endpoint, ObjectStore, Orphan, Sandbox, SandboxState, SessionSpec, Start
from caesarion.settings import KubernetesSettings

logger = logging.getLogger(__name__)

HEARTBEAT_S = 5.0
UNHEARD_S = 20.0  # after which whoever suspends or wakes a session counts as gone
MAX_ENV_BYTES = 128 * 1024
MIN_KEY_CHARACTERS = 32


class KubernetesSandboxes:
    """The `Sandboxes` port on a cluster. To be used from one event loop."""

    def __init__(
        self, settings: KubernetesSettings, store: ObjectStore, *, checkpoint_limit_bytes: int | None = None
    ) -> None:
        if len(settings.sandbox_key.reveal()) < MIN_KEY_CHARACTERS:
            raise ConfigError(
                f"CAESARION_SANDBOX_KEY must be a secret of at least {MIN_KEY_CHARACTERS} characters, the same for all "
                "functions. Make one with `openssl rand -hex 32`."
            )
        self._key = settings.sandbox_key
        self._api = Api()
        self._pods = Pods(self._api, settings.namespace, settings.pool)
        self._sessions = PodSessions(self._api, settings.namespace)
        self._checkpoints = Checkpoints(store, limit_bytes=checkpoint_limit_bytes)
        self._claims: dict[SessionKey, asyncio.Lock] = {}

    async def __aenter__(self) -> "KubernetesSandboxes":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def ready(self) -> None:
        """Return when a session could be given a sandbox at once."""
        await self._pods.pool_is_ready()

    async def claim(self, key: SessionKey, spec: SessionSpec | None = None, *, deadline_s: float) -> Sandbox:
        if spec is not None and len(json.dumps(spec.env)) > MAX_ENV_BYTES:
            raise TooLarge(f"The session's variables are larger than {MAX_ENV_BYTES} bytes together.")
        try:
            async with asyncio.timeout(deadline_s):
                async with self._alone(key):
                    return await self._claimed(key, spec)
        except TimeoutError as exc:
            raise SandboxUnavailable(f"No sandbox was ready within {deadline_s:g} s.", retry_after_s=5) from exc

    async def get(self, key: SessionKey) -> Sandbox | None:
        session, found = await self._look(key)
        return self._sandbox(session, _pod_of(session, found)) if session is not None else None

    async def list(self, principal: PrincipalId | None) -> Sequence[Sandbox]:
        found, sessions = await asyncio.gather(self._pods.claimed(principal), self._sessions.list(principal))
        by_uid = {pod["metadata"]["uid"]: pod for pod in found}
        shown = [self._sandbox(session, by_uid.get(session.pod_uid)) for session in sessions]
        return [sandbox for sandbox in shown if sandbox is not None]

    async def suspend(self, key: SessionKey, *, unused_since: datetime | None = None) -> bool:
        while True:
            session, found = await self._look(key)
            if session is None:
                return False
            if session.stored:
                return unused_since is None
            pod = _pod_of(session, found)
            if pod is None:
                return False
            if _is_suspended_by_somebody(session):
                if unused_since is not None:
                    return False
                await self._until_changed(session, found, UNHEARD_S)
                continue
            if session.checkpoint:
                await self._checkpoints.remove(session.checkpoint)
            mark = Suspending(secrets.token_hex(8), datetime.now(UTC))
            name = f"{key.digest}-{secrets.token_hex(4)}"
            marked = await to_the_end(self._sessions.write(replace(session, suspending=mark, checkpoint=name)))
            if marked is not None:
                return await self._suspend_marked(marked, pod, unused_since)
            if unused_since is not None:
                return False

    async def release(self, key: SessionKey, *, suspended_since: datetime | None = None) -> bool:
        session, found = await self._look(key)
        if suspended_since is not None and session is not None:
            still = session.suspended_at is not None and session.suspended_at <= suspended_since
            if not still or _wakers(found):
                return False
        return await to_the_end(self._forget(session, found, unchanged=suspended_since is not None))

    async def orphans(self) -> Sequence[Orphan]:
        found, sessions, kept = await asyncio.gather(
            self._pods.claimed(None), self._sessions.list(None), self._checkpoints.kept()
        )
        owned = {session.pod_uid for session in sessions}
        named = {session.checkpoint for session in sessions}
        living = {pod["metadata"]["uid"] for pod in found if not pods.is_gone(pod)}
        orphans = [
            Orphan("sandbox", pod["metadata"]["name"], pods.claimed_at(pod))
            for pod in found
            if pod["metadata"]["uid"] not in owned and "deletionTimestamp" not in pod["metadata"]
        ]
        orphans += [Orphan("checkpoint", name, since) for name, since in kept.items() if name not in named]
        for session in sessions:
            if session.suspended_at is not None and session.checkpoint not in kept:
                orphans.append(Orphan("session", session.key.digest, session.suspended_at))
            elif session.suspended_at is None and session.pod_uid not in living:
                orphans.append(Orphan("session", session.key.digest, session.created_at))
        return sorted(orphans, key=lambda orphan: orphan.since)

    async def remove_orphan(self, orphan: Orphan) -> bool:
        match orphan.kind:
            case "sandbox":
                return await self._remove_sandbox(orphan.name)
            case "session":
                session = await self._sessions.of_digest(orphan.name)
                if session is None or await self._is_whole(session):
                    return False
                return await self._sessions.delete(session, unchanged=True)
            case "checkpoint":
                session = await self._sessions.of_digest(orphan.name.partition("-")[0])
                if session is not None and session.checkpoint == orphan.name:
                    return False
                if not await self._checkpoints.exists(orphan.name):
                    return False
                await self._checkpoints.remove(orphan.name)
                return True

    async def aclose(self) -> None:
        await self._pods.aclose()
        await self._api.aclose()

    async def _look(self, key: SessionKey) -> tuple[PodSession | None, Sequence[Json]]:
        """Return what is written of a session, and the pods that have its label.

        Both are read at once, so a pod may seem lost that came or went between the two; then they are read again.
        """
        session, found = await asyncio.gather(self._sessions.read(key), self._pods.of(key))
        while session is not None and not session.stored and _pod_of(session, found) is None:
            found = await self._pods.of(key)
            again = await self._sessions.read(key)
            if again == session:
                break
            session = again
        return session, found

    async def _claimed(self, key: SessionKey, spec: SessionSpec | None) -> Sandbox:
        claimed = await self._begin(key, spec, None, ()) if spec is not None and spec.new else None
        while claimed is None:
            session, found = await self._look(key)
            pod = _pod_of(session, found)
            if session is not None and pod is not None:
                if (sandbox := self._running(session, found)) is not None:
                    claimed = sandbox if await self._is_handed_over(session, pod) else None
                elif session.suspending is None:
                    claimed = await self._revive(session, pod)
                elif _is_suspended_by_somebody(session):
                    await self._until_changed(session, found, UNHEARD_S)
                else:
                    await self._go_on(session, pod)
            elif session is None or not session.stored:
                if spec is None:
                    raise _not_found(key)
                claimed = await self._begin(key, spec, session, found)
            elif _wakers(found):
                await self._until_changed(session, found, HEARTBEAT_S)
            else:
                claimed = await self._wake(session)
        return claimed

    async def _begin(
        self, key: SessionKey, spec: SessionSpec, lost: PodSession | None, found: Sequence[Json]
    ) -> Sandbox | None:
        """Give a new session a sandbox, or one whose pod and all in it was lost (`lost`); None is to look again.

        It is handed over while the session is written down. When only the latter comes about, the next claim, or the
        first request that the sandbox refuses, hands it over.
        """
        begun = [pod for pod in found if not pods.is_gone(pod) and not pods.is_waking(pod)]
        taken = begun[0] if begun else await self._pods.take(key, "new")
        start = "waited" if begun else _start(taken)
        pod = await self._pods.ready(taken)
        if pod is None:
            return None
        session = PodSession(
            key=key,
            created_at=datetime.now(UTC),
            idle_timeout_s=spec.idle_timeout_s,
            env=dict(spec.env),
            checkpoint=lost.checkpoint if lost is not None else "",
            version=lost.version if lost is not None else "",
        )
        handed_over = asyncio.ensure_future(self._hand_over(session, pod))
        try:
            written = await self._settle(_with_pod(session, pod), pod)
            if written is None or not await handed_over:
                return None
        finally:
            handed_over.cancel()
            await asyncio.gather(handed_over, return_exceptions=True)
        return self._running(written, [pod], start)

    async def _revive(self, session: PodSession, pod: Json) -> Sandbox | None:
        """Hand the sandbox of a session, whose processes were started again, over to it anew; None is to look again."""
        ready = await self._pods.ready(pod)
        if ready is None or not await self._hand_over(session, ready):
            return None
        written = await to_the_end(self._sessions.write(_with_pod(session, ready)))
        return self._running(written, [ready], "woken") if written is not None else None

    async def _wake(self, session: PodSession) -> Sandbox | None:
        """Restore a suspended session into a sandbox of its own; None is to look again."""
        taken = await self._taken_to_wake(session.key)
        try:
            async with self._kept_waking(taken):
                pod = await self._pods.ready(taken)
                if pod is None:
                    return None
                async with self._asked(pod) as client:
                    await self._checkpoints.restore(session.checkpoint, client)
                if not await self._hand_over(session, pod):
                    return None
        except BaseException as error:
            await to_the_end(self._pods.remove(taken))
            if isinstance(error, CaesarionError) and await self._sessions.read(session.key) != session:
                logger.info("somebody else was quicker", extra={"session_digest": session.key.digest})
                return None
            raise
        woken = replace(_with_pod(session, pod), suspended_at=None, suspending=None)
        written = await self._settle(woken, pod)
        if written is None:
            return None
        with contextlib.suppress(SandboxUnavailable):  # else it is removed when the session ends
            await self._checkpoints.remove(written.checkpoint)
            await to_the_end(self._sessions.write(replace(written, checkpoint="")))
        return self._running(written, [pod], "woken")

    async def _taken_to_wake(self, key: SessionKey) -> Json:
        """Return a pod that others see is there to wake this session; who gives up meanwhile leaves none."""
        taking = asyncio.ensure_future(self._pods.take(key, "waking"))
        try:
            return await asyncio.shield(taking)
        except asyncio.CancelledError:
            with contextlib.suppress(SandboxUnavailable):
                await to_the_end(self._pods.remove(await taking))
            raise

    @contextlib.asynccontextmanager
    async def _kept_waking(self, pod: Json) -> AsyncIterator[None]:
        """Show others that a session is still being restored into this pod."""

        async def renew() -> None:
            while True:
                await asyncio.sleep(HEARTBEAT_S)
                with contextlib.suppress(SandboxUnavailable):
                    await self._pods.show_life(pod)

        renewing = asyncio.create_task(renew())
        try:
            yield
        finally:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)

    async def _settle(self, session: PodSession, pod: Json) -> PodSession | None:
        """Write down that this pod is the session's; where somebody else was quicker with another one, remove it."""
        return await to_the_end(self._settled(session, pod))

    async def _settled(self, session: PodSession, pod: Json) -> PodSession | None:
        written = await self._sessions.write(session)
        if written is not None:
            return written
        now = await self._sessions.read(session.key)
        if now is not None and now.pod_uid == session.pod_uid:
            return now  # our own write, whose answer was lost, or that of another who joined us at this pod
        await self._pods.remove(pod)
        return None

    async def _is_handed_over(self, session: PodSession, pod: Json) -> bool:
        """Hand the sandbox of a session over, as whoever made it may have ended before; False is to look again."""
        try:
            return await self._hand_over(session, pod)
        except SandboxUnreachable:
            if await self._sessions.read(session.key) != session:
                return False
            raise

    async def _hand_over(self, session: PodSession, pod: Json) -> bool:
        """Give a sandbox its token, time limit and variables. Idempotent.

        Returns False when somebody else has given it a token before; then it is removed.
        """
        document = {
            "session": session.key.session,
            "idle_timeout_s": session.idle_timeout_s,
            "env": dict(session.env),
        }
        try:
            async with self._asked(pod) as client:
                await client.call("POST", "/v1/claim", document=document)
        except ForeignSandbox:
            logger.error("a sandbox that waited has a token already", extra={"pod": pod["metadata"]["name"]})
            await to_the_end(self._pods.remove(pod))
            return False
        return True

    async def _suspend_marked(self, marked: PodSession, pod: Json, unused_since: datetime | None) -> bool:
        mark = _Mark(self._sessions, marked)
        async with self._asked(pod) as client:
            try:
                async with mark.kept():
                    saved = await self._checkpoints.save(marked.checkpoint, client, unused_since=unused_since)
            except BaseException:
                await to_the_end(self._go_on(mark.session, pod))
                raise
            if not saved:
                await to_the_end(self._sessions.write(replace(mark.session, suspending=None, checkpoint="")))
                return False
        return await to_the_end(self._end_suspended(mark.session, pod))

    async def _end_suspended(self, marked: PodSession, pod: Json) -> bool:
        """Let the checkpoint be all there is of a session; what of the pod is not removed here is an orphan."""
        stored = replace(marked, suspended_at=datetime.now(UTC), suspending=None, pod_uid="", life="")
        written = await self._sessions.write(stored)
        if written is None:
            now = await self._sessions.read(marked.key)
            if now is None or now.checkpoint != marked.checkpoint:
                await self._checkpoints.remove(marked.checkpoint)
            if now is None or not now.stored or now.checkpoint != marked.checkpoint:
                logger.warning("a session was not suspended", extra={"session_digest": marked.key.digest})
                return False
        try:
            await self._pods.remove(pod)
        except SandboxUnavailable as error:
            logger.warning("a suspended sandbox was not removed", extra={"reason": error.message})
        return True

    async def _go_on(self, marked: PodSession, pod: Json) -> None:
        """Leave a session as it was. While its sandbox is sealed the mark stays, so that the next claim unseals it."""
        async with self._asked(pod) as client:
            if not await unseal(client):
                await asyncio.sleep(pods.DELETE_GRACE_S)
                return
        await self._sessions.write(replace(marked, suspending=None))

    async def _forget(self, session: PodSession | None, found: Sequence[Json], *, unchanged: bool) -> bool:
        if session is not None:
            if session.checkpoint:
                await self._checkpoints.remove(session.checkpoint)
            if not await self._sessions.delete(session, unchanged=unchanged):
                return False
        await asyncio.gather(*(self._pods.remove(pod) for pod in found))
        return True

    async def _remove_sandbox(self, name: str) -> bool:
        pod = await self._pods.named(name)
        digest = pod["metadata"].get("labels", {}).get(pods.SESSION_LABEL) if pod is not None else None
        if pod is None or digest is None:
            return False
        session = await self._sessions.of_digest(digest)
        if session is not None and session.pod_uid == pod["metadata"]["uid"]:
            return False
        await self._pods.remove(pod)
        return True

    async def _is_whole(self, session: PodSession) -> bool:
        if session.stored:
            return await self._checkpoints.exists(session.checkpoint)
        pod = await self._pods.named(session.pod)
        return pod is not None and pod["metadata"]["uid"] == session.pod_uid and not pods.is_gone(pod)

    async def _until_changed(self, session: PodSession, found: Sequence[Json], at_most_s: float) -> None:
        """Return when a session or its pods are not what they were, or after some time."""
        waits = [
            asyncio.ensure_future(self._sessions.changed(session)),
            asyncio.ensure_future(self._pods.changed(session.key, found)),
        ]
        try:
            await asyncio.wait(waits, timeout=at_most_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    @contextlib.asynccontextmanager
    async def _alone(self, key: SessionKey) -> AsyncIterator[None]:
        """Let one claim of a session after the other through in this process, as they would only do the same."""
        lock = self._claims.setdefault(key, asyncio.Lock())
        async with lock:
            yield
        if not lock.locked():
            self._claims.pop(key, None)

    @contextlib.asynccontextmanager
    async def _asked(self, pod: Json) -> AsyncIterator[SandboxClient]:
        endpoint = self._endpoint(pod)
        if endpoint is None:
            raise SandboxUnavailable("The session's sandbox has no address.", retry_after_s=1)
        client = SandboxClient(endpoint)
        try:
            yield client
        finally:
            await client.aclose()

    def _endpoint(self, pod: Json) -> Endpoint | None:
        base_url = pods.base_url(pod)
        if base_url is None:
            return None
        return Endpoint(pod_token(self._key.reveal(), pod["metadata"]["uid"]), base_url=base_url)

    def _running(self, session: PodSession, found: Sequence[Json], start: Start = "own") -> Sandbox | None:
        """Return the session's sandbox if it has all that the session gave it, and nobody suspends it."""
        sandbox = self._sandbox(session, _pod_of(session, found))
        if sandbox is None or sandbox.state != "ready" or session.suspending is not None:
            return None
        return replace(sandbox, start=start)

    def _sandbox(self, session: PodSession, pod: Json | None) -> Sandbox | None:
        """Return the session's sandbox as it is, or None when all of it was lost with its pod."""
        state: SandboxState = "suspended"
        if not session.stored:
            if pod is None or pods.is_gone(pod):
                return None
            if _is_suspended_by_somebody(session):
                state = "starting"
            elif pods.life(pod) == session.life:
                state = "ready"
        return Sandbox(
            name=SandboxName(session.pod),
            key=session.key,
            state=state,
            created_at=session.created_at,
            idle_timeout_s=session.idle_timeout_s,
            endpoint=self._endpoint(pod) if pod is not None and state == "ready" else None,
            suspended_at=session.suspended_at,
            stored=session.suspended_at is not None,
        )


class _Mark:
    """The mark of a suspension under way, renewed so that others see that it goes on."""

    def __init__(self, sessions: PodSessions, marked: PodSession) -> None:
        self._sessions = sessions
        self.session = marked

    @contextlib.asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Renew the mark. Raises SandboxUnavailable when somebody took it away, as nobody was heard for too long."""
        lost: SandboxUnavailable | None = None
        worker = asyncio.current_task()

        async def renew() -> None:
            nonlocal lost
            while True:
                await asyncio.sleep(HEARTBEAT_S)
                with contextlib.suppress(SandboxUnavailable):
                    if not await to_the_end(self._renewed()):
                        lost = SandboxUnavailable("The session was taken into use while it was suspended.")
                        if worker is not None:
                            worker.cancel()
                        return

        renewing = asyncio.create_task(renew())
        try:
            yield
        except asyncio.CancelledError:
            if lost is not None and worker is not None:
                worker.uncancel()
                raise lost from None
            raise
        finally:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)

    async def _renewed(self) -> bool:
        if self.session.suspending is None:
            return False
        heard = replace(self.session.suspending, heard_at=datetime.now(UTC))
        written = await self._sessions.write(replace(self.session, suspending=heard))
        if written is not None:
            self.session = written
        return written is not None


def _pod_of(session: PodSession | None, found: Sequence[Json]) -> Json | None:
    """Return the session's pod among those with its label, unless it is gone."""
    if session is None or not session.pod_uid:
        return None
    mine = (pod for pod in found if pod["metadata"]["uid"] == session.pod_uid and not pods.is_gone(pod))
    return next(mine, None)


def _start(taken: Json) -> Start:
    """Return how a pod was come by: it was of the pool, ready or not yet, or it was made and has a name of ours."""
    if pods.is_ready(taken):
        return "warm"
    return "waited" if "generateName" in taken["metadata"] else "cold"


def _with_pod(session: PodSession, pod: Json) -> PodSession:
    metadata = pod["metadata"]
    return replace(session, pod=metadata["name"], pod_uid=metadata["uid"], life=pods.life(pod) or "")


def _is_suspended_by_somebody(session: PodSession) -> bool:
    if session.suspending is None:
        return False
    return (datetime.now(UTC) - session.suspending.heard_at).total_seconds() < UNHEARD_S


def _wakers(found: Sequence[Json]) -> Sequence[Json]:
    """Return the pods into which a session is being restored, as far as one can tell."""
    now = datetime.now(UTC)
    waking = [pod for pod in found if pods.is_waking(pod) and not pods.is_gone(pod)]
    return [pod for pod in waking if (now - pods.heard_at(pod)).total_seconds() < UNHEARD_S]


def _not_found(key: SessionKey) -> SessionNotFound:
    return SessionNotFound(f"There is no session {key.session!r}. Make it with POST /sessions or .../initialize.")
