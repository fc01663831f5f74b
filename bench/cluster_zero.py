"""Functions on Knative from zero pods, each beside the same with a pod that is there, and beside an empty function."""

import asyncio
import contextlib
import hashlib
import json
import os
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from bench.cluster_place import DEADLINE_S, POOL, WATCH_INTERVAL_S, Place, image, own_address_towards, place
from bench.loads import Outcomes
from bench.product import NOT_YET_OUTPUT, Unexpected
from bench.report import Part, figure, measured
from bench.statistics import p50_under
from caesarion.adapters.kubernetes_api import Json
from caesarion.ids import new_id
from tests.chat.scripted_model import Say, scripted_always

NAME = "functions from zero, through Knative"
EMPTY = Path(__file__).with_name("empty_function.py")
CODE = "print(1)"
FROM_ZERO_LIMIT_MS = 1000
SERVICES = "/apis/serving.knative.dev/v1/namespaces/{}/services"
GATEWAY = "/api/v1/namespaces/rig-gateway/services/gateway"
EMPTY_COMMAND = ["/opt/function/bin/python", "-m", "functions_framework", "--source", "/opt/empty/main.py"]
ROLE = [
    {"apiGroups": [""], "resources": ["pods", "secrets"], "verbs": ["*"]},
    {"apiGroups": ["apps"], "resources": ["replicasets"], "verbs": ["get"]},
]


@dataclass(frozen=True, slots=True)
class Functions:
    """The functions of a namespace, and a client of them."""

    there: Place
    http: aiohttp.ClientSession
    gateway: str
    hosts: dict[str, str]
    key: str

    def ask(self, name: str, method: str, path: str, document: object = None) -> Any:
        """Send a request to a function; the answer is to be entered."""
        headers = {"Host": self.hosts[name], "Authorization": f"Bearer {self.key}"}
        return self.http.request(method, self.gateway + path, json=document, headers=headers)

    async def at_zero(self, name: str) -> None:
        """Return when a function has no pod that stays, and the pool is at rest."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                found = await self.there.pods(f"serving.knative.dev/service={name}")
                if all("deletionTimestamp" in pod["metadata"] for pod in found):
                    break
                await asyncio.sleep(WATCH_INTERVAL_S)
        await self.there.at_rest()

    async def answered(self, name: str) -> float:
        """Return when a function has answered (time.perf_counter)."""
        async with self.ask(name, "GET", "/health/live") as answer:
            await _checked(answer)
        return time.perf_counter()

    async def first_output(self) -> float:
        """Make a session, run code in it, and return when its first output came."""
        async with self.ask("execute", "POST", "/sessions") as answer:
            session = json.loads(await _checked(answer))["id"]
        first_s: float | None = None
        async with self.ask("execute", "POST", f"/sessions/{session}/executions", {"code": CODE}) as answer:
            async for line in answer.content:
                if first_s is None and json.loads(line).get("type") not in (*NOT_YET_OUTPUT, None):
                    first_s = time.perf_counter()
        await self._close(session)
        if first_s is None:
            raise Unexpected("there was no output")
        return first_s

    async def first_token(self) -> float:
        """Say something in a new session and return when the answer's first token came."""
        session = new_id("s")
        message = {"id": new_id("u"), "role": "user", "parts": [{"type": "text", "text": "hello"}]}
        first_s: float | None = None
        async with self.ask("chat", "POST", "/api/chat", {"id": session, "messages": [message]}) as answer:
            async for line in answer.content:
                if first_s is None and b'"text-delta"' in line:
                    first_s = time.perf_counter()
        await self._close(session)
        if first_s is None:
            raise Unexpected(f"there was no answer but status {answer.status}")
        return first_s

    async def _close(self, session: str) -> None:
        async with self.ask("execute", "DELETE", f"/sessions/{session}") as answer:
            await _checked(answer)


async def measure(*, quick: bool) -> Part:
    """Wait for zero, ask, and ask again, each so often."""
    count = 1 if quick else 5
    async with place(2) as there:
        model_host = own_address_towards((await there.pods(""))[0]["status"]["podIP"])
        with scripted_always(lambda body: Say(["a ", "short ", "answer"]), host=model_host) as model:
            async with _functions(there, model.url) as functions:
                empty = await _zero_and_there(functions, "empty", lambda: functions.answered("empty"), count)
                alone = await _zero_and_there(functions, "execute", lambda: functions.answered("execute"), count)
                output = await _zero_and_there(functions, "execute", functions.first_output, count)
                token = await _zero_and_there(functions, "chat", functions.first_token, count)
    zero_ms = measured(alone[0])
    figures = [
        figure(
            "execute from zero, to its first answer", "ms", zero_ms, "an empty function from zero", measured(empty[0]),
            [p50_under(zero_ms.samples, FROM_ZERO_LIMIT_MS)],
        ),
        figure("execute with a pod", "ms", measured(alone[1]), "an empty function", measured(empty[1])),
        *(
            figure(f"{name} from zero", "ms", measured(zero), "with a pod that is there", measured(warm))
            for name, (zero, warm) in {"new session to first output": output, "chat to first token": token}.items()
        ),
    ]  # fmt: skip
    notes = (
        "through the cluster's gateway; a pool of 2 sandboxes waits; the chat makes a new session, too",
        "all are of one image in kind, so the empty function starts functions-framework and nothing of ours",
    )
    return Part(NAME, tuple(figures), notes)


async def _zero_and_there(
    functions: Functions, name: str, action: Callable[[], Awaitable[float]], count: int
) -> tuple[Outcomes, Outcomes]:
    """Do something with a function that has no pod, and again when it has one."""
    zero, warm = Outcomes(), Outcomes()
    for _ in range(count):
        await functions.at_zero(name)
        await _kept(action, zero)
        await functions.there.at_rest()
        await _kept(action, warm)
    return zero, warm


async def _kept(action: Callable[[], Awaitable[float]], outcomes: Outcomes) -> None:
    began_s = time.perf_counter()
    try:
        outcomes.samples_ms.append((await action() - began_s) * 1000)
    except Exception as exc:
        outcomes.failures.append(f"{type(exc).__name__}: {exc}"[:300])


async def _checked(answer: aiohttp.ClientResponse) -> bytes:
    body = await answer.read()
    if answer.status >= 300:
        raise Unexpected(f"{answer.method} {answer.url.path} gave {answer.status}: {body[:200]!r}")
    return body


@contextlib.asynccontextmanager
async def _functions(there: Place, model_url: str) -> AsyncIterator[Functions]:
    """Put the functions into the namespace of the pool and give them once they are ready."""
    key = secrets.token_urlsafe(32)
    namespace = there.name
    for path, manifest in (
        (f"/api/v1/namespaces/{namespace}/serviceaccounts", {"kind": "ServiceAccount", "apiVersion": "v1"}),
        (f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/roles", _role()),
        (f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings", _role_binding(namespace)),
        (f"/api/v1/namespaces/{namespace}/configmaps", _empty_source()),
    ):
        await there.api.create(path, {**manifest, "metadata": {"name": "bench"}})
    settings = {
        "CAESARION_SANDBOXES": "kubernetes",
        "CAESARION_KUBERNETES_NAMESPACE": namespace,
        "CAESARION_KUBERNETES_POOL": POOL,
        "CAESARION_SANDBOX_KEY": there.sandbox_key,
        "CAESARION_API_KEYS": f"bench:{hashlib.sha256(key.encode()).hexdigest()}",
        "CAESARION_HOME": "/tmp/home",
        "OPENAI_BASE_URL": model_url,
        "OPENAI_API_KEY": "bench",
    }
    services = SERVICES.format(namespace)
    for name in ("empty", "execute", "chat"):
        await there.api.create(services, _service(name, settings))
    hosts = {name: await _host(there, f"{services}/{name}") for name in ("empty", "execute", "chat")}
    timeout = aiohttp.ClientTimeout(total=DEADLINE_S)
    async with aiohttp.ClientSession(timeout=timeout) as http:
        yield Functions(there, http, await _gateway(there, hosts["empty"]), hosts, key)


async def _host(there: Place, path: str) -> str:
    """Return a service's host name once it is ready."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            found = await there.api.get(path) or {}
            conditions = found.get("status", {}).get("conditions", ())
            if any(one["type"] == "Ready" and one["status"] == "True" for one in conditions):
                return str(urlsplit(found["status"]["url"]).netloc)
            await asyncio.sleep(WATCH_INTERVAL_S)


async def _gateway(there: Place, host: str) -> str:
    """Return where services answer: CAESARION_TEST_GATEWAY, the gateway of the cluster of tests, or their own name."""
    if named := os.environ.get("CAESARION_TEST_GATEWAY"):
        return f"http://{named}"
    gateway = await there.api.get(GATEWAY)
    return f"http://{gateway['spec']['clusterIP'] if gateway is not None else host}"


def _service(name: str, settings: dict[str, str]) -> Json:
    container: Json = {
        "image": image("execute" if name == "empty" else name),
        "env": [{"name": variable, "value": value} for variable, value in settings.items()],
        "readinessProbe": {"httpGet": {"path": "/health/live"}},
    }
    spec: Json = {"serviceAccountName": "bench", "enableServiceLinks": False, "containers": [container]}
    if name == "empty":
        container["command"], container["args"] = EMPTY_COMMAND, ["--target", "empty", "--asgi"]
        container["volumeMounts"] = [{"name": "source", "mountPath": "/opt/empty"}]
        spec["volumes"] = [{"name": "source", "configMap": {"name": "bench"}}]
    return {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"template": {"spec": spec}},
    }


def _role() -> Json:
    return {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "rules": ROLE}


def _role_binding(namespace: str) -> Json:
    subjects: Sequence[Json] = [{"kind": "ServiceAccount", "name": "bench", "namespace": namespace}]
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "bench"}
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "roleRef": role,
        "subjects": subjects,
    }


def _empty_source() -> Json:
    return {"apiVersion": "v1", "kind": "ConfigMap", "data": {"main.py": EMPTY.read_text(encoding="utf-8")}}
