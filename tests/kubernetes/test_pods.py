"""The pods of sandboxes and the Secrets of sessions, as they are written and read."""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from caesarion import pods
from caesarion.ids import PrincipalId, SessionId, SessionKey
from caesarion.pod_sessions import PodSession, Suspending, secret, secret_name, session_of
from caesarion.pod_tokens import pod_token
from caesarion.pods import Pool, pool_manifest
from caesarion.settings import SandboxSettings

NOW = datetime(2026, 3, 4, 5, 6, 7, 890_000, UTC)
KEY = SessionKey(PrincipalId("alice"), SessionId("s_1"))
POOL = Pool("pool", "place", "registry.example/sandbox:1")
DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
LABEL_VALUE = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
ODD_IDS = ["a", "A" * 64, "-", "_", "-_-", "Ab-9_"]


def pool(sandbox: SandboxSettings | None = None, **fields: Any) -> dict[str, Any]:
    return pool_manifest(replace(POOL, **fields), sandbox or SandboxSettings())


def pod_spec(sandbox: SandboxSettings | None = None, **fields: Any) -> dict[str, Any]:
    spec: dict[str, Any] = pool(sandbox, **fields)["spec"]["template"]["spec"]
    return spec


def container(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    [found] = [one for one in spec["containers"] if one["name"] == name]
    return dict(found)


def pod(uid: str = "u1", *, ready: bool = True, **fields: Any) -> dict[str, Any]:
    metadata = {"name": f"p-{uid}", "uid": uid, "resourceVersion": "7", "creationTimestamp": "2026-01-01T00:00:00Z"}
    status: dict[str, Any] = {"phase": "Running", "podIP": "10.0.0.1"}
    status["conditions"] = [{"type": "Ready", "status": "True" if ready else "False"}]
    status["containerStatuses"] = [
        {"name": name, "containerID": f"containerd://{name}-1", "state": {"running": {}}}
        for name in ("server", "kernels")
    ]
    return {"metadata": metadata, "status": {**status, **fields}}


def test_the_pools_pods_match_its_selector_and_claimed_ones_do_not() -> None:
    manifest = pool()
    [(name, value)] = manifest["spec"]["selector"]["matchLabels"].items()
    assert manifest["spec"]["template"]["metadata"]["labels"][name] == value
    assert pods.claim_patch(pod(), KEY, NOW, "new")["metadata"]["labels"][name] is None
    assert name not in pods.cold_pod(manifest, KEY, NOW, "new")["metadata"]["labels"]


def test_a_claim_is_refused_for_a_pod_that_has_changed() -> None:
    assert pods.claim_patch(pod(), KEY, NOW, "new")["metadata"]["resourceVersion"] == "7"


@pytest.mark.parametrize("principal", ODD_IDS)
@pytest.mark.parametrize("session", ODD_IDS)
def test_names_and_labels_are_such_as_kubernetes_takes(principal: str, session: str) -> None:
    key = SessionKey(PrincipalId(principal), SessionId(session))
    made = pods.cold_pod(pool(), key, NOW, "new")["metadata"]
    written = secret(PodSession(key, NOW, 60.0))["metadata"]
    for name in (made["name"], written["name"]):
        assert DNS_LABEL.fullmatch(name)
    for value in (*made["labels"].values(), *written["labels"].values()):
        assert LABEL_VALUE.fullmatch(value)


def test_names_of_two_sessions_differ() -> None:
    pairs = [("a", "b_c"), ("a_b", "c"), ("a", "B_c"), ("A", "b_c")]
    keys = [SessionKey(PrincipalId(principal), SessionId(session)) for principal, session in pairs]
    assert len({secret_name(key.digest) for key in keys}) == len(keys)


def test_a_new_sessions_cold_pod_has_its_name_from_the_session_and_a_woken_ones_is_new() -> None:
    first, second = (pods.cold_pod(pool(), KEY, NOW, "new") for _ in range(2))
    assert first["metadata"]["name"] == second["metadata"]["name"]
    assert "name" not in pods.cold_pod(pool(), KEY, NOW, "waking")["metadata"]


def test_user_code_shares_nothing_with_the_server_but_what_it_may_fill() -> None:
    spec = pod_spec()
    mounted = {
        name: {mount["name"]: mount["mountPath"] for mount in container(name, spec)["volumeMounts"]}
        for name in ("server", "kernels")
    }
    assert mounted["server"].keys() & mounted["kernels"].keys() == {"files", "packages", "ipc"}
    assert {"journal", "run"} <= mounted["server"].keys()
    volumes = {volume["name"]: volume["emptyDir"] for volume in spec["volumes"]}
    assert volumes.keys() == {*mounted["server"], *mounted["kernels"]}
    assert all(int(volume["sizeLimit"]) > 0 for volume in volumes.values())


def test_no_credential_and_no_right_enters_a_pod() -> None:
    spec = pod_spec()
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace", "serviceAccountName"} & spec.keys()
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] > 0
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for one in spec["containers"]:
        assert "env" not in one and "envFrom" not in one
        assert one["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        }
        assert json.loads(one["args"][1]).get("token", "") == ""


def test_limits_are_those_of_the_settings() -> None:
    spec = pod_spec(SandboxSettings(memory_bytes=123_456_789, cpus=0.25, disk_bytes=1_000_000, open_files=99))
    kernels, server = container("kernels", spec), container("server", spec)
    assert kernels["resources"]["limits"] == {"cpu": "250m", "memory": "123456789"}
    assert json.loads(kernels["args"][1])["rlimits"]["nofile"] == 99
    told = json.loads(server["args"][1])["limits"]
    assert (told["memory_bytes"], told["disk_bytes"]) == (123_456_789, 1_000_000)
    [files] = [volume for volume in spec["volumes"] if volume["name"] == "files"]
    assert int(files["emptyDir"]["sizeLimit"]) > 1_000_000, "Kubernetes would evict the pod before our limit is met"


@pytest.mark.parametrize(("runtime_class", "expected"), [("", None), ("gvisor", "gvisor")])
def test_the_runtime_class_is_a_setting(runtime_class: str, expected: str | None) -> None:
    assert pod_spec(runtime_class=runtime_class).get("runtimeClassName") == expected


@pytest.mark.parametrize(("network", "policy"), [("none", "None"), ("internet", "ClusterFirst")])
def test_names_are_resolved_only_where_the_internet_is_allowed(network: Any, policy: str) -> None:
    assert pod_spec(SandboxSettings(network=network))["dnsPolicy"] == policy


@pytest.mark.parametrize(
    ("found", "gone", "ready"),
    [
        (pod(), False, True),
        (pod(ready=False), False, False),
        (pod(phase="Failed"), True, False),
        (pod(phase="Succeeded"), True, False),
        ({**pod(), "metadata": {**pod()["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}}, True, False),
        ({"metadata": pod()["metadata"]}, False, False),
    ],
)
def test_a_pod_is_read(found: dict[str, Any], gone: bool, ready: bool) -> None:
    assert (pods.is_gone(found), pods.is_ready(found)) == (gone, ready)


def test_a_pod_whose_containers_were_started_again_has_another_life() -> None:
    first, again, down = pod(), pod(), pod()
    again["status"]["containerStatuses"][0]["containerID"] = "containerd://server-2"
    down["status"]["containerStatuses"][1]["state"] = {"waiting": {"reason": "CrashLoopBackOff"}}
    assert pods.life(first) == pods.life(pod())
    assert pods.life(first) != pods.life(again)
    assert pods.life(down) is None
    assert pods.life({"metadata": {}}) is None


@pytest.mark.parametrize(
    ("address", "url"),
    [("10.0.0.1", "http://10.0.0.1:8080"), ("fd00::1", "http://[fd00::1]:8080"), ("", None)],
)
def test_the_address_of_a_pod(address: str, url: str | None) -> None:
    assert pods.base_url(pod(podIP=address)) == url


def test_ready_pods_are_taken_first_and_broken_ones_never() -> None:
    pulling = pod("broken", ready=False)
    pulling["status"]["containerStatuses"][0]["state"] = {"waiting": {"reason": "ImagePullBackOff"}}
    found = [pod("starts", ready=False), pulling, pod("ready-1"), pod("ready-2"), pod("ended", phase="Failed")]
    order = [one["metadata"]["uid"] for one in pods.candidates(found, KEY)]
    assert set(order[:2]) == {"ready-1", "ready-2"}
    assert order[2:] == ["starts"]
    assert order == [one["metadata"]["uid"] for one in pods.candidates(reversed(found), KEY)]


def test_who_is_at_work_on_a_pod_is_heard_from_its_claim_on() -> None:
    claimed = {"metadata": {**pod()["metadata"], **pods.claim_patch(pod(), KEY, NOW, "waking")["metadata"]}}
    assert pods.is_waking(claimed) and pods.is_claimed(claimed) and not pods.is_claimed(pod())
    assert pods.heard_at(claimed) == pods.claimed_at(claimed) == NOW
    later = NOW + timedelta(seconds=5)
    claimed["metadata"]["annotations"] |= pods.heard(later)
    assert (pods.heard_at(claimed), pods.claimed_at(claimed)) == (later, NOW)


def test_why_a_pod_does_not_start_is_told() -> None:
    full = pod(ready=False, conditions=[{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}])
    assert pods.trouble(full) == "Unschedulable"
    assert pods.trouble(pod()) is None


SESSIONS = [
    PodSession(KEY, NOW, 60.5, {"A": "b", "Ü": "\n"}, "p-u1", "u1", "life", version="7"),
    PodSession(KEY, NOW, 1e-3, suspending=Suspending("me", NOW), pod="p", pod_uid="u", checkpoint="d-1", version="7"),
    PodSession(KEY, NOW, 86400.0, pod="p", suspended_at=NOW, checkpoint="d-1", version="7"),
]


@pytest.mark.parametrize("session", SESSIONS)
def test_a_session_is_read_as_it_was_written(session: PodSession) -> None:
    written = secret(session)
    assert session_of(written) == session
    assert session_of({"metadata": written["metadata"]}) == replace(session, env={})
    assert session.stored == (session.suspended_at is not None)


def test_variables_of_user_code_stand_in_the_secrets_data_alone() -> None:
    session = PodSession(KEY, NOW, 60.0, {"PASSWORD": "hunter2"})
    assert "hunter2" not in json.dumps(secret(session)["metadata"])
    assert "hunter2" not in repr(session)


def test_each_pod_has_a_token_that_only_the_key_gives() -> None:
    tokens = {pod_token(key, uid) for key in ("k" * 32, "l" * 32) for uid in ("u1", "u2")}
    assert len(tokens) == 4
    assert all(len(token) >= 43 for token in tokens)
    assert pod_token("k" * 32, "u1") in tokens
