"""The chat function under functions-framework, as Knative starts it; two of its processes are two replicas."""

from collections.abc import Iterator

import pytest

from tests.chat.scripted_model import Call, CallTools, Say, Step, scripted
from tests.chat.ui import chunks_of
from tests.platform.served import NO_POOL, Home, home


@pytest.fixture(scope="module")
def place() -> Iterator[Home]:
    with home() as made:
        yield made


def test_two_replicas_share_a_conversation(place: Home) -> None:
    steps: list[Step] = [
        CallTools([Call("python", {"code": "x = 41"})]),
        Say("Set."),
        CallTools([Call("python", {"code": "x + 1"})]),
        Say("42."),
    ]
    with scripted(steps) as model:
        env = {"OPENAI_BASE_URL": model.url, "OPENAI_API_KEY": "sk-test", **NO_POOL}
        with place.framework("chat", **env) as first, place.framework("chat", **env) as second:
            for served, text in ((first, "set x"), (second, "one more?")):
                message = {"id": text, "role": "user", "parts": [{"type": "text", "text": text}]}
                body = {"id": "shared", "messages": [message]}
                with served.client.stream("POST", "/api/chat", json=body) as reply:
                    chunks = list(chunks_of(reply))
                assert chunks[-1]["type"] == "finish"
            outputs = [chunk["output"]["outputs"] for chunk in chunks if chunk["type"] == "tool-output-available"]
            assert outputs[-1][0]["data"] == {"text/plain": "42"}
            asked = [m["content"] for m in model.requests[2].body["messages"] if m["role"] == "user"]
            assert asked == ["set x", "one more?"]
            assert first.client.get("/api/chat/shared/stream").status_code == 204
            assert first.client.get("/v1/models").json()["data"][0]["id"] == "gpt-4.1"
