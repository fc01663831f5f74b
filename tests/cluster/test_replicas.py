"""Several replicas, replicas that end, and new versions, while somebody uses the product."""

import contextlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from caesarion.ids import PrincipalId, SessionId, SessionKey
from tests.chat.conftest import Chat
from tests.cluster.conftest import PRINCIPAL, Installation
from tests.cluster.kubectl import (
    FUNCTIONS,
    SANDBOXES,
    SERVICE,
    SESSION,
    forwarded,
    found,
    kill,
    kubectl,
    names,
    pods_of,
    wait,
)  # fmt: skip
from tests.platform.conftest import Session, client_of, gate, new_session, only, shape, text_of

SLOW = "print('begun', flush=True)\n" + gate("go") + "print('whole')"


def sandbox_of(session: Session) -> str:
    """Return the selector of a session's pod."""
    return f"{SESSION}={SessionKey(PrincipalId(PRINCIPAL), SessionId(session.id)).digest}"


def roll_out(service: str, **annotations: str) -> str:
    """Make a new revision of a function and return its name once requests go there."""
    patch = {f"autoscaling.knative.dev/{name.replace('_', '-')}": value for name, value in annotations.items()}
    spec = {"spec": {"template": {"metadata": {"annotations": patch}}}}
    kubectl("-n", FUNCTIONS, "patch", "ksvc", service, "--type=merge", "-p", json.dumps(spec))
    generation = kubectl("-n", FUNCTIONS, "get", "ksvc", service, "-o", "jsonpath={.metadata.generation}")
    wait(FUNCTIONS, f"ksvc/{service}", f"--for=jsonpath={{.status.observedGeneration}}={generation}")
    wait(FUNCTIONS, f"ksvc/{service}", "--for=condition=Ready")
    return kubectl("-n", FUNCTIONS, "get", "ksvc", service, "-o", "jsonpath={.status.latestReadyRevisionName}")


@pytest.fixture(scope="module")
def replicas(installation: Installation) -> Iterator[list[httpx.Client]]:
    """Three replicas of execute, each reached by itself."""
    roll_out("execute", min_scale="3")
    with contextlib.ExitStack() as stack:
        pods = names(pods_of("execute"))
        assert len(pods) == 3, pods
        urls = [stack.enter_context(forwarded(FUNCTIONS, pod, 8080)) for pod in pods]
        yield [stack.enter_context(client_of(url, installation.key)) for url in urls]
    roll_out("execute", min_scale="0")


def test_requests_of_a_session_go_to_any_of_three_replicas(replicas: list[httpx.Client], session: Session) -> None:
    for number, replica in enumerate([*replicas, *replicas]):
        at = Session(session.id, replica)
        assert at.said("n = globals().get('n', 0) + 1; print(n)") == f"{number + 1}\n"
    assert session.said("print(n)") == "6\n"


def test_a_stream_is_resumed_and_stopped_on_other_replicas(replicas: list[httpx.Client], session: Session) -> None:
    first, second, third = (Session(session.id, replica) for replica in replicas)
    with first.begun(SLOW) as running:
        begun = [next(running.outputs), next(running.outputs)]
    assert shape(begun) == ["started", "stream"]
    with second.following(running.id, after=begun[-1]["seq"]) as again:
        third.open_gate("go")
        rest = list(again.outputs)
    assert text_of(begun + rest) == "begun\nwhole\n"
    assert rest[-1]["status"] == "ok"
    with first.begun("print(1, flush=True)\nwhile True: pass") as endless:
        assert shape([next(endless.outputs), next(endless.outputs)]) == ["started", "stream"]
        third.interrupt(endless.id)
        assert list(endless.outputs)[-1]["status"] == "interrupted"


def test_a_new_version_rolled_out_in_mid_stream_lets_the_stream_end_whole(session: Session) -> None:
    with session.begun(SLOW) as running:
        begun = [next(running.outputs), next(running.outputs)]
        old = names(pods_of("execute"))
        revision = roll_out("execute", target="99")
        kubectl("-n", FUNCTIONS, "delete", "pods", *old, "--wait=false")  # as a drained node does
        assert session.client.post(f"{session.path}/contexts", json={"name": "other"}).is_success
        assert session.said("print('new')", context="other") == "new\n"
        assert all(pod["metadata"]["labels"]["serving.knative.dev/revision"] == revision for pod in pods_of("execute"))
        session.open_gate("go")
        assert text_of(begun + list(running.outputs)) == "begun\nwhole\n"


def test_code_goes_on_when_the_functions_pod_is_killed_and_nothing_is_lost(session: Session) -> None:
    with pytest.raises(httpx.TransportError), session.begun(SLOW) as running:
        begun = [next(running.outputs), next(running.outputs)]
        kill(FUNCTIONS, f"{SERVICE}=execute")
        list(running.outputs)
    with session.following(running.id, after=begun[-1]["seq"]) as again:
        session.open_gate("go")
        assert text_of(begun + list(again.outputs)) == "begun\nwhole\n"


def test_a_turn_that_lost_its_chat_pod_ends_when_it_is_asked_again(client: httpx.Client, session: Session) -> None:
    chat = Chat(session.id, client)
    with pytest.raises(httpx.TransportError), chat.asking(f"Run: {SLOW}", message_id="m") as chunks:
        for chunk in chunks:
            if chunk.get("preliminary") and "begun" in json.dumps(chunk):
                kill(FUNCTIONS, f"{SERVICE}=chat")
    chat.open_gate("go")
    again = chat.ask(f"Run: {SLOW}", message_id="m")
    assert again[-1]["type"] == "finish"
    assert "begun\nwhole\n" in "".join(chunk["delta"] for chunk in again if chunk["type"] == "text-delta")


def test_who_runs_code_is_told_when_the_sandbox_is_lost(client: httpx.Client) -> None:
    session = new_session(client)
    with session.begun(SLOW) as running:
        begun = [next(running.outputs), next(running.outputs)]
        assert shape(begun) == ["started", "stream"]
        kill(SANDBOXES, sandbox_of(session))
        rest = list(running.outputs)
    assert only(rest, "finished")[0]["status"] == "died"
    assert client.delete(session.path).status_code == 204


def test_twenty_sessions_at_once_get_a_sandbox_each(client: httpx.Client) -> None:
    def used(number: int) -> str:
        session = new_session(client)
        try:
            return session.said(f"x = {number}; print(x)") + session.said("print(x + 1)")
        finally:
            assert client.delete(session.path).status_code == 204

    with ThreadPoolExecutor(20) as users:
        assert list(users.map(used, range(20))) == [f"{number}\n{number + 1}\n" for number in range(20)]
    assert not found(SANDBOXES, "secrets")
