"""The scripted model as OpenAI's own client meets it, and how it tells of a script that was not kept."""

import asyncio
import json
import threading
from collections.abc import AsyncGenerator
from typing import Any

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletionChunk

from tests.chat.scripted_model import (
    Body,
    Call,
    CallTools,
    Cut,
    Fail,
    Hang,
    Say,
    ScriptedModel,
    Step,
    scripted,
    scripted_always,
)

pytestmark = pytest.mark.anyio

DEADLINE_S = 200.0
STREAMS = 50
CHUNKS = 200
HELLO: list[Any] = [{"role": "user", "content": "hello"}]


def client_of(model: ScriptedModel) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=model.url, api_key="any", max_retries=0, timeout=DEADLINE_S)


async def streamed(client: openai.AsyncOpenAI, **more: Any) -> AsyncGenerator[ChatCompletionChunk]:
    async with await client.chat.completions.create(model="m", messages=HELLO, stream=True, **more) as stream:
        async for chunk in stream:
            yield chunk


async def said(client: openai.AsyncOpenAI, **more: Any) -> list[str]:
    """Return the pieces of text that are not empty."""
    chunks = [chunk async for chunk in streamed(client, **more)]
    return [text for chunk in chunks for choice in chunk.choices if (text := choice.delta.content)]


async def test_text_is_streamed_in_the_chunks_of_the_script() -> None:
    with scripted([Say(["Hel", "lo"]), Say("abcde", chunk_chars=2), Say("whole")]) as model:
        async with client_of(model) as client:
            assert await said(client) == ["Hel", "lo"]
            assert await said(client) == ["ab", "cd", "e"]
            assert await said(client) == ["whole"]


async def test_a_stream_ends_with_its_reason_and_with_usage_when_asked() -> None:
    with scripted([Say("a", finish="length"), Say("b")]) as model:
        async with client_of(model) as client:
            *_, finish, usage = [chunk async for chunk in streamed(client, stream_options={"include_usage": True})]
            assert finish.choices[0].finish_reason == "length"
            assert usage.choices == [] and usage.usage is not None and usage.usage.total_tokens == 18
            *_, last = [chunk async for chunk in streamed(client)]
            assert last.choices[0].finish_reason == "stop" and last.usage is None


async def test_a_whole_answer_has_text_reasoning_and_usage() -> None:
    with scripted([Say(["a", "b"], reasoning="thought")]) as model:
        async with client_of(model) as client:
            answer = await client.chat.completions.create(model="m", messages=HELLO)
    message = answer.choices[0].message
    assert (message.content, message.to_dict()["reasoning_content"]) == ("ab", "thought")
    assert answer.usage is not None and answer.usage.prompt_tokens == 11


async def test_tool_calls_are_streamed_in_pieces_also_when_their_arguments_are_broken() -> None:
    step = CallTools([Call("python", {"code": "print(1)"}), Call("python", '{"code": ', id="mine")], text="Look:")
    with scripted([step]) as model:
        async with client_of(model) as client:
            calls: dict[int, list[str]] = {}
            names: dict[int, tuple[str | None, str | None]] = {}
            async for chunk in streamed(client):
                for call in chunk.choices[0].delta.tool_calls or []:
                    assert call.function is not None
                    calls.setdefault(call.index, []).append(call.function.arguments or "")
                    if call.id is not None:
                        names[call.index] = (call.id, call.function.name)
            assert chunk.choices[0].finish_reason == "tool_calls"
    assert names == {0: ("call_0_0", "python"), 1: ("mine", "python")}
    assert ["".join(pieces) for pieces in calls.values()] == ['{"code": "print(1)"}', '{"code": ']
    assert len(calls[0]) > 2


async def test_a_whole_answer_has_tool_calls() -> None:
    with scripted([CallTools([Call("list_files", {}), Call("python", {"code": "1"})])]) as model:
        async with client_of(model) as client:
            answer = await client.chat.completions.create(model="m", messages=HELLO)
    calls = [call for call in answer.choices[0].message.tool_calls or [] if call.type == "function"]
    assert [(call.function.name, call.function.arguments) for call in calls] == [
        ("list_files", "{}"),
        ("python", '{"code": "1"}'),
    ]


async def test_failures_have_their_status_message_and_retry_after() -> None:
    with scripted([Fail(429, "slow down", retry_after_s=1.5), Fail(503, "busy"), Say("ok")]) as model:
        async with client_of(model) as client:
            with pytest.raises(openai.RateLimitError, match="slow down") as limited:
                await said(client)
            assert limited.value.response.headers["retry-after"] == "1.5"
            with pytest.raises(openai.InternalServerError, match="busy"):
                await said(client)
            assert await said(client) == ["ok"]


async def test_a_client_that_retries_takes_the_next_step() -> None:
    with scripted([Fail(429, "slow down", retry_after_s=0.001), Say("ok")]) as model:
        async with client_of(model).with_options(max_retries=1) as client:
            assert await said(client) == ["ok"]


async def test_a_failure_may_come_in_mid_stream() -> None:
    with scripted([Fail(500, "lost my thought", after="I th")]) as model:
        async with client_of(model) as client:
            stream = streamed(client)
            with pytest.raises(openai.APIError, match="lost my thought"):
                assert [chunk.choices[0].delta.content async for chunk in stream] == ["", "I th"]


@pytest.mark.parametrize("stream", [True, False])
async def test_a_cut_answer_is_an_error_for_the_client(stream: bool) -> None:
    with scripted([Cut(["I th"]), Say("again")]) as model:
        async with client_of(model) as client:
            with pytest.raises(openai.APIConnectionError):
                if stream:
                    await said(client)
                else:
                    await client.chat.completions.create(model="m", messages=HELLO)
            assert await said(client) == ["again"]


async def test_a_stream_waits_at_its_gates() -> None:
    gate = threading.Event()
    with scripted([Say(["a", gate, "b"])]) as model:
        async with client_of(model) as client:
            stream = streamed(client)
            await anext(stream)
            assert (await anext(stream)).choices[0].delta.content == "a"
            following = asyncio.ensure_future(anext(stream))
            assert await client.models.list()
            assert not following.done()
            gate.set()
            assert (await following).choices[0].delta.content == "b"
            assert [chunk async for chunk in stream][-1].choices[0].finish_reason == "stop"


async def test_a_client_that_leaves_is_noticed() -> None:
    hang = Hang(text="a")
    with scripted([hang]) as model:
        async with client_of(model) as client:
            stream = streamed(client)
            await anext(stream)
            assert await asyncio.to_thread(hang.reached.wait, DEADLINE_S)
            assert not model.requests[0].left.is_set()
            await stream.aclose()
        assert await asyncio.to_thread(model.requests[0].left.wait, DEADLINE_S)


async def test_a_client_that_reads_to_the_end_has_not_left() -> None:
    with scripted([Say("a")]) as model:
        async with client_of(model) as client:
            await said(client)
    assert not model.requests[0].left.is_set()


async def test_an_answer_may_hang_before_its_head_and_go_on() -> None:
    hang = Hang(head=False, text="late")
    with scripted([hang]) as model:
        async with client_of(model) as client:
            saying = asyncio.ensure_future(said(client))
            assert await asyncio.to_thread(hang.reached.wait, DEADLINE_S)
            assert not saying.done()
            hang.until.set()
            assert await saying == ["late"]


async def test_a_hanging_answer_ends_with_the_block() -> None:
    with scripted([Hang()]) as model:
        client = client_of(model)
        stream = streamed(client)
        await anext(stream)
    async with client:
        with pytest.raises(openai.APIConnectionError):
            await anext(stream)
    assert model.requests[0].left.is_set()


async def test_requests_are_kept_with_their_headers_and_expectations_run_on_them() -> None:
    def hello(body: Body) -> None:
        assert body["messages"][-1]["content"] == "hello"

    with scripted([Say("a", expects=hello)]) as model:
        async with client_of(model) as client:
            await said(client, temperature=0.5)
    assert model.requests[0].headers["authorization"] == "Bearer any"
    assert model.requests[0].body["temperature"] == 0.5


async def test_models_are_listed_without_taking_a_step() -> None:
    with scripted([]) as model:
        async with client_of(model) as client:
            assert [found.id async for found in client.models.list()] == ["gpt-4.1", "gpt-4.1-mini"]


async def test_an_unused_step_fails_the_test() -> None:
    with pytest.raises(AssertionError, match=r"step was not used: Say.*never"):
        with scripted([Say("never said")]):
            pass


async def test_a_request_too_many_gets_500_once_and_fails_the_test() -> None:
    with pytest.raises(AssertionError, match=r"request 0 was not expected: 1 messages.*hello"):
        with scripted([]) as model:
            async with client_of(model).with_options(max_retries=2) as client:
                with pytest.raises(openai.InternalServerError, match="was not expected"):
                    await said(client)
    assert len(model.requests) == 1


async def test_a_failed_expectation_fails_the_test() -> None:
    def never(body: Body) -> None:
        raise AssertionError("wanted a poem")

    with pytest.raises(AssertionError, match="request 0 is not as expected: wanted a poem") as failed:
        with scripted([Say("a", expects=never)]) as model:
            async with client_of(model) as client:
                with pytest.raises(openai.InternalServerError):
                    await said(client)
    assert str(failed.value.__cause__) == "wanted a poem"


async def test_a_failing_test_keeps_its_own_failure_and_hears_of_the_script() -> None:
    with pytest.raises(ZeroDivisionError) as failed:
        with scripted([Say("a")]) as model:
            async with client_of(model) as client:
                await said(client)
                with pytest.raises(openai.InternalServerError):
                    await said(client)
            raise ZeroDivisionError
    assert "request 1 was not expected" in failed.value.__notes__[0]


async def test_many_streams_run_at_once() -> None:
    def step_of(body: Body) -> Step:
        return Say(body["messages"][0]["content"] * CHUNKS, chunk_chars=1)

    async def one(client: httpx.AsyncClient, text: str) -> int:
        body = {"model": "m", "messages": [{"role": "user", "content": text}], "stream": True}
        answer = await client.post("chat/completions", json=body)
        lines = answer.text.split("\n\n")
        assert lines[-2:] == ["data: [DONE]", ""]
        deltas = [json.loads(line.removeprefix("data: "))["choices"][0]["delta"] for line in lines[:-2]]
        return [delta.get("content") for delta in deltas].count(text)

    with scripted_always(step_of) as model:
        async with httpx.AsyncClient(base_url=model.url, timeout=DEADLINE_S) as client:
            counts = await asyncio.gather(*(one(client, chr(0x100 + number)) for number in range(STREAMS)))
    assert counts == [CHUNKS] * STREAMS
    assert len(model.requests) == STREAMS
