"""Sandboxes as Kubernetes objects: the pool and its pods written as dicts, and pods read. Pure.

A pod that waits has the label of its pool; a claimed one has its session's instead, so that the pool lets go of it.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from caesarion.clock import parse_rfc3339, rfc3339
from caesarion.ids import PrincipalId, SessionKey
from caesarion.settings import MIB, SandboxSettings

Manifest = dict[str, Any]
Purpose = Literal["new", "waking"]

DOMAIN = "caesarion.dev"
NAME_LABEL = "app.kubernetes.io/name"
SANDBOX_NAME = "caesarion-sandbox"
POOL_LABEL = f"{DOMAIN}/pool"
SESSION_LABEL = f"{DOMAIN}/session"
PRINCIPAL_LABEL = f"{DOMAIN}/principal"
CLAIMED_AT = f"{DOMAIN}/claimed-at"
HEARD_AT = f"{DOMAIN}/heard-at"
PURPOSE = f"{DOMAIN}/purpose"
PORT = 8080
USER = 65532
UPLOAD_TYPES = ("csv", "txt", "json", "py")
PYTHON = ("/opt/sandbox/bin/python", "-X", "frozen_modules=on", "-m", "sandbox_server.pod")
SHARED = (("files", "/uploaded_files"), ("packages", "/packages"), ("ipc", "/ipc"))
SCRATCH = (("tmp", "/tmp"), ("home", "/home/user"))  # noqa: S108 - paths inside the sandbox
SOCKETS = "@caesarion"  # of the network that both containers share; gVisor's do not share sockets in folders
SERVERS_OWN = (("run", "/run/caesarion"), ("journal", "/journal"))
TOKEN_PATH = "/run/caesarion/token"  # noqa: S105 - where it is kept, not what it is
SCRATCH_BYTES = 256 * MIB
JOURNAL_BYTES = 256 * MIB
NEVER_S = 1e9  # the sweep ends sandboxes of pods; one that ended itself would only be started again
HOLDS = 2  # times its own limit that a folder may have before Kubernetes evicts the pod, so that ours is met first
DELETE_GRACE_S = 1


@dataclass(frozen=True, slots=True)
class Pool:
    """What a pool of sandboxes is made from. `runtime_class` is the node's isolation, for example ``gvisor``."""

    name: str
    namespace: str
    image: str
    size: int = 2
    runtime_class: str = ""


def pool_manifest(pool: Pool, sandbox: SandboxSettings) -> Manifest:
    """Return the ReplicaSet that keeps sandboxes waiting."""
    labels = {NAME_LABEL: SANDBOX_NAME, POOL_LABEL: pool.name}
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {"name": pool.name, "namespace": pool.namespace, "labels": {NAME_LABEL: SANDBOX_NAME}},
        "spec": {
            "replicas": pool.size,
            "selector": {"matchLabels": {POOL_LABEL: pool.name}},
            "template": {"metadata": {"labels": labels}, "spec": pod_spec(pool, sandbox)},
        },
    }


def pod_spec(pool: Pool, sandbox: SandboxSettings) -> Manifest:
    """Return what a sandbox's pod runs: our server, and beside it the kernels with the user's code.

    The two containers share only what user code may fill. PodSecurity ``restricted`` allows all of it.
    """
    internet = sandbox.network == "internet"
    dns = {"dnsPolicy": "None", "dnsConfig": {"nameservers": ["127.0.0.1"]}}  # answers at once that there is no name
    runtime = {"runtimeClassName": pool.runtime_class} if pool.runtime_class else {}
    return {
        **runtime,
        **({"dnsPolicy": "ClusterFirst"} if internet else dns),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "hostname": "sandbox",
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": DELETE_GRACE_S,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_server(pool, sandbox), _kernels(pool, sandbox)],
        "volumes": [
            _disk("files", HOLDS * sandbox.disk_bytes),
            _disk("packages", HOLDS * sandbox.disk_bytes),
            _disk("journal", HOLDS * JOURNAL_BYTES),
            _disk("ipc", sandbox.memory_bytes + HOLDS * sandbox.disk_bytes),  # variables on their way to a checkpoint
            _memory("run", MIB),
            _memory("server-tmp", SCRATCH_BYTES),
            _memory("kernels-tmp", SCRATCH_BYTES),
            _memory("kernels-home", SCRATCH_BYTES),
        ],
    }


def cold_pod(replica_set: Mapping[str, Any], key: SessionKey, now: datetime, purpose: Purpose) -> Manifest:
    """Return a pod for a session when no pod waits, made as those of the pool are.

    For a new session its name comes from the session, so that two who make it at once make one.
    """
    template = replica_set["spec"]["template"]
    labels = {name: value for name, value in template["metadata"].get("labels", {}).items() if name != POOL_LABEL}
    annotations = template["metadata"].get("annotations", {})
    named: Manifest = {"generateName": "sandbox-"} if purpose == "waking" else {"name": f"sandbox-{key.digest}"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            **named,
            "labels": {**labels, **_labels(key)},
            "annotations": {**annotations, **_claimed(now, purpose)},
        },
        "spec": template["spec"],
    }


def claim_patch(pod: Mapping[str, Any], key: SessionKey, now: datetime, purpose: Purpose) -> Manifest:
    """Return the merge patch that makes a waiting pod this session's, unless the pod has changed meanwhile."""
    return {
        "metadata": {
            "resourceVersion": pod["metadata"]["resourceVersion"],
            "labels": {POOL_LABEL: None, **_labels(key)},
            "annotations": _claimed(now, purpose),
        }
    }


def principal_label(principal: PrincipalId) -> str:
    """Return what stands for a principal in a label, whose value could not hold every name."""
    return hashlib.sha256(principal.encode()).hexdigest()[:40]


def is_gone(pod: Mapping[str, Any]) -> bool:
    """Whether a pod has ended or is being ended: what was in it will not come back."""
    return "deletionTimestamp" in pod["metadata"] or pod.get("status", {}).get("phase") in ("Failed", "Succeeded")


def is_ready(pod: Mapping[str, Any]) -> bool:
    """Whether a pod's kernels answer."""
    conditions = pod.get("status", {}).get("conditions", [])
    return not is_gone(pod) and any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def life(pod: Mapping[str, Any]) -> str | None:
    """Return what stands for the present life of a pod's processes, or None while they do not run.

    Containers that ended are started again in the same pod: files and journal are there still, variables are not.
    """
    containers = pod.get("status", {}).get("containerStatuses", [])
    if not containers or not all("running" in container.get("state", {}) for container in containers):
        return None
    ids = sorted(f"{container['name']} {container.get('containerID', '')}" for container in containers)
    return hashlib.sha256("\n".join(ids).encode()).hexdigest()[:40]


def base_url(pod: Mapping[str, Any]) -> str | None:
    """Return where a pod's server answers, once it has an address."""
    address = pod.get("status", {}).get("podIP")
    if not address:
        return None
    return f"http://[{address}]:{PORT}" if ":" in address else f"http://{address}:{PORT}"


def claimed_at(pod: Mapping[str, Any]) -> datetime:
    """Return when a pod was claimed."""
    metadata = pod["metadata"]
    return parse_rfc3339(metadata.get("annotations", {}).get(CLAIMED_AT) or metadata["creationTimestamp"])


def heard(now: datetime) -> dict[str, str]:
    """Return the annotation that says that somebody is at work on a pod."""
    return {HEARD_AT: rfc3339(now)}


def heard_at(pod: Mapping[str, Any]) -> datetime:
    """Return when somebody was last at work on a claimed pod."""
    heard = pod["metadata"].get("annotations", {}).get(HEARD_AT)
    return parse_rfc3339(heard) if heard else claimed_at(pod)


def is_claimed(pod: Mapping[str, Any]) -> bool:
    """Whether a pod was given to a session."""
    return SESSION_LABEL in pod["metadata"].get("labels", {})


def is_waking(pod: Mapping[str, Any]) -> bool:
    """Whether a pod was claimed to restore a session into it."""
    return bool(pod["metadata"].get("annotations", {}).get(PURPOSE) == "waking")


def candidates(pods: Iterable[Mapping[str, Any]], key: SessionKey) -> Sequence[Mapping[str, Any]]:
    """Return the pods that a session may take, best first.

    Ready ones come before those that start, which are taken too, as a pod made now would be ready later still. Among
    ready ones each session has an order of its own: then two sessions seldom want the same pod, and two who make
    one session want the same.
    """

    def order(pod: Mapping[str, Any]) -> tuple[bool, str, str]:
        uid = pod["metadata"]["uid"]
        own = hashlib.sha256(f"{key.digest} {uid}".encode()).hexdigest()
        return (False, "", own) if is_ready(pod) else (True, pod["metadata"]["creationTimestamp"], own)

    usable = [pod for pod in pods if not is_gone(pod) and trouble(pod) is None]
    return sorted(usable, key=order)


def trouble(pod: Mapping[str, Any]) -> str | None:
    """Return why a pod does not start, in Kubernetes' words, or None when nothing is known to be wrong."""
    status = pod.get("status", {})
    for condition in status.get("conditions", []):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return f"{condition.get('reason', 'Unschedulable')}: {condition.get('message', '')}".strip(": ")
    for container in status.get("containerStatuses", []):
        waiting = container.get("state", {}).get("waiting", {})
        if waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
            return f"{waiting['reason']}: {waiting.get('message', '')}".strip(": ")
    return None


def _labels(key: SessionKey) -> dict[str, str]:
    return {SESSION_LABEL: key.digest, PRINCIPAL_LABEL: principal_label(key.principal)}


def _claimed(now: datetime, purpose: Purpose) -> dict[str, str]:
    return {CLAIMED_AT: rfc3339(now.astimezone(UTC)), PURPOSE: purpose}


def _server(pool: Pool, sandbox: SandboxSettings) -> Manifest:
    mounts = dict((*SERVERS_OWN, *SHARED))
    configuration = {
        "token": "",
        "token_path": TOKEN_PATH,
        "host": "0.0.0.0",
        "port": PORT,
        "journal_dir": mounts["journal"],
        **_folders(sandbox),
        "kernels_apart": True,
        "unclaimed_timeout_s": NEVER_S,
        "abandoned_grace_s": NEVER_S,
        "upload_types": [*UPLOAD_TYPES, *(name for name in sandbox.upload_types if name not in UPLOAD_TYPES)],
        "limits": {
            "memory_bytes": sandbox.memory_bytes,
            "disk_bytes": sandbox.disk_bytes,
            "journal_bytes": JOURNAL_BYTES,
            "max_output_bytes": sandbox.max_output_bytes,
            "max_upload_bytes": sandbox.max_upload_bytes,
            "execution_timeout_s": sandbox.execution_timeout_s,
            "max_execution_timeout_s": sandbox.max_execution_timeout_s,
        },
    }
    return {
        **_container("server", pool, configuration),
        "ports": [{"name": "http", "containerPort": PORT}],
        "resources": {
            "requests": {"cpu": "10m", "memory": "80Mi"},
            "limits": {"cpu": "1", "memory": "768Mi"},
        },
        "readinessProbe": {
            "httpGet": {"path": "/health/ready", "port": "http"},
            "periodSeconds": 1,
            "timeoutSeconds": 5,
            "failureThreshold": 3,
        },
        "volumeMounts": [
            *({"name": name, "mountPath": path} for name, path in (*SERVERS_OWN, *SHARED)),
            {"name": "server-tmp", "mountPath": "/tmp"},  # noqa: S108
        ],
    }


def _kernels(pool: Pool, sandbox: SandboxSettings) -> Manifest:
    rlimits = {"nofile": sandbox.open_files, "nproc": None, "fsize_bytes": sandbox.disk_bytes, "data_bytes": None}
    return {
        **_container("kernels", pool, {**_folders(sandbox), "rlimits": rlimits}),
        "resources": {
            "requests": {"cpu": "20m", "memory": "160Mi"},
            "limits": {"cpu": f"{round(sandbox.cpus * 1000)}m", "memory": str(sandbox.memory_bytes)},
        },
        "volumeMounts": [
            *({"name": name, "mountPath": path} for name, path in SHARED),
            *({"name": f"kernels-{name}", "mountPath": path} for name, path in SCRATCH),
        ],
    }


def _container(role: str, pool: Pool, configuration: Mapping[str, Any]) -> Manifest:
    return {
        "name": role,
        "image": pool.image,
        "imagePullPolicy": "IfNotPresent",
        "command": list(PYTHON),
        "args": [role, json.dumps(configuration)],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
    }


def _folders(sandbox: SandboxSettings) -> Manifest:
    folders = {f"{name}_dir": path for name, path in SHARED}
    return {**folders, "sockets_dir": SOCKETS, "network": sandbox.network}


def _disk(name: str, size_bytes: int) -> Manifest:
    return {"name": name, "emptyDir": {"sizeLimit": str(size_bytes)}}


def _memory(name: str, size_bytes: int) -> Manifest:
    """Return a folder in memory, which refuses more than its size instead of having its pod evicted for it."""
    return {"name": name, "emptyDir": {"medium": "Memory", "sizeLimit": str(size_bytes)}}
