"""OpenAI's own SDK against the chat function: what a program that knows only OpenAI's wire meets."""

import asyncio
import json
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from caesarion.ids import new_id
from caesarion.principals import key_digest
from tests.chat.conftest import SHARED
from tests.chat.scripted_model import (
    COMPLETION_TOKENS,
    PROMPT_TOKENS,
    Call,
    CallTools,
    Cut,
    Fail,
    Hang,
    Say,
    ScriptedModel,
    Step,
    scripted,
)
from tests.conftest import ProductServer
from tests.platform.conftest import KEYS, client_of, failure, gate, new_session, text_of

DEADLINE_S = 200.0
MODEL = "gpt-4.1"
ONE_SESSION = new_id(SHARED)  # of all tests to which it does not matter
SESSION_LINE = re.compile(r"\n\n\[//\]: # \(session ([A-Za-z0-9_-]+)\)$")
PLOT = "import matplotlib.pyplot as plt\nplt.plot([1, 3, 2])\nplt.show()"
TOOL: Any = {
    "type": "function",
    "function": {"name": "look", "description": "Looks.", "parameters": {"type": "object", "properties": {"q": {}}}},
}


@dataclass(frozen=True, slots=True)
class Program:
    """A program that talks with the product by OpenAI's SDK."""

    url: str
    sdk: OpenAI
    model: ScriptedModel

    def ask(self, messages: Any, **fields: Any) -> Any:
        """Return the whole answer."""
        return self.sdk.chat.completions.create(model=MODEL, messages=asked(messages), **fields)

    def ask_raw(self, messages: Any, **fields: Any) -> Any:
        """Return the whole answer with its headers."""
        return self.sdk.chat.completions.with_raw_response.create(model=MODEL, messages=asked(messages), **fields)

    def stream(self, messages: Any, **fields: Any) -> Any:
        """Return the answer as it comes."""
        return self.sdk.chat.completions.create(model=MODEL, messages=asked(messages), stream=True, **fields)


def asked(messages: Any) -> Any:
    """Return messages; a text is one of the user's."""
    return [{"role": "user", "content": messages}] if isinstance(messages, str) else messages


@contextmanager
def program(
    server: ProductServer, steps: Sequence[Step], key: str = "none", session: str | None = None, **env: str
) -> Iterator[Program]:
    """Give a program that talks with a product whose model takes these steps, in this session if one is named."""
    named = {"X-Session-Id": session} if session else {}
    with scripted(steps) as model:
        url = server.serve({"OPENAI_BASE_URL": model.url, "OPENAI_API_KEY": "sk-test", **env})
        with OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=DEADLINE_S, default_headers=named) as sdk:
            yield Program(url, sdk, model)


def ran(code: str, *, id: str | None = None, **more: Any) -> CallTools:
    return CallTools([Call("python", {"code": code}, id=id)], **more)


def refusal(error: openai.APIStatusError) -> tuple[int, str]:
    """Return the status and code of a failure, which has the one shape."""
    response: Any = error.response
    return failure(response)


def text_in(chunks: list[Any]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def without_line(text: str) -> str:
    assert SESSION_LINE.search(text), text
    return SESSION_LINE.sub("", text)


def session_of(text: str) -> str:
    found = SESSION_LINE.search(text)
    assert found is not None, text
    return found[1]


ANSWER = "I compute.\n\n```python\nprint(6 * 7)\n```\n\n```\n42\n```\n\nIt is **42**."


def test_the_answer_holds_code_and_results_as_markdown(server: ProductServer) -> None:
    steps: list[Step] = [ran("print(6 * 7)", text="I compute."), Say("It is **42**.")]
    with program(server, steps) as client:
        raw = client.ask_raw("what is 6 times 7?")
        answer = raw.parse()
    assert without_line(answer.choices[0].message.content) == ANSWER
    assert answer.choices[0].message.role == "assistant"
    assert (answer.object, answer.model, answer.choices[0].finish_reason) == ("chat.completion", MODEL, "stop")
    assert session_of(answer.choices[0].message.content) == raw.headers["x-session-id"]


def test_the_usage_is_that_of_all_requests_to_the_model(server: ProductServer) -> None:
    with program(server, [ran("1"), ran("2"), Say("Done.")], session=ONE_SESSION) as client:
        usage = client.ask("go").usage
    assert (usage.prompt_tokens, usage.completion_tokens) == (3 * PROMPT_TOKENS, 3 * COMPLETION_TOKENS)
    assert usage.total_tokens == 3 * (PROMPT_TOKENS + COMPLETION_TOKENS)


@pytest.mark.parametrize("include_usage", [True, False])
def test_the_same_answer_comes_as_a_stream(server: ProductServer, include_usage: bool) -> None:
    steps: list[Step] = [ran("print(6 * 7)", text="I compute."), Say("It is **42**.", chunk_chars=3)]
    options: dict[str, Any] = {"stream_options": {"include_usage": True}} if include_usage else {}
    with program(server, steps, session=ONE_SESSION) as client:
        chunks = list(client.stream("what is 6 times 7?", **options))
    assert without_line(text_in(chunks)) == ANSWER
    assert chunks[0].choices[0].delta.role == "assistant"
    assert len({chunk.id for chunk in chunks}) == 1
    assert {(chunk.object, chunk.model) for chunk in chunks} == {("chat.completion.chunk", MODEL)}
    reasons = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices]
    assert [*filter(None, reasons)] == ["stop"] and reasons[-1] == "stop"
    usages = [chunk.usage for chunk in chunks if chunk.usage is not None]
    assert [usage.total_tokens for usage in usages] == ([2 * (PROMPT_TOKENS + COMPLETION_TOKENS)] * include_usage)
    assert bool(chunks[-1].choices) != include_usage


@pytest.mark.anyio
async def test_words_arrive_while_the_model_speaks(server: ProductServer) -> None:
    thinking = Hang(text="One moment")
    with program(server, [thinking]) as client:
        async with AsyncOpenAI(base_url=f"{client.url}/v1", api_key="none", max_retries=0) as sdk:
            stream: Any = await sdk.chat.completions.create(model=MODEL, messages=asked("hi"), stream=True)
            text = ""
            async for chunk in stream:
                text += chunk.choices[0].delta.content or ""
                if text == "One moment":
                    thinking.until.set()
    assert without_line(text) == "One moment"


@pytest.mark.parametrize(("finish", "reason"), [("length", "length"), ("content_filter", "content_filter")])
def test_an_answer_that_ended_early_says_why(server: ProductServer, finish: Any, reason: str) -> None:
    with program(server, [Say("a", finish=finish), Say("a", finish=finish)]) as client:
        assert client.ask("hi").choices[0].finish_reason == reason
        chunks = list(client.stream("hi"))
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == reason


def test_the_step_limit_is_told_in_the_text(server: ProductServer) -> None:
    with program(server, [ran("1")], session=ONE_SESSION, CAESARION_MAX_STEPS="1") as client:
        choice = client.ask("go").choices[0]
    assert "> Stopped after 1 steps" in choice.message.content and choice.finish_reason == "stop"


def test_a_plot_is_a_link_to_a_picture_that_only_its_owner_gets(server: ProductServer) -> None:
    keys = ",".join(f"{name}:{key_digest(key)}" for name, key in KEYS.items())
    steps: list[Step] = [ran(PLOT), Say("A plot.")]
    with program(server, steps, KEYS["alice"], CAESARION_API_KEYS=keys) as client:
        text = client.ask("plot it").choices[0].message.content
        [link] = re.findall(r"!\[picture\]\((\S+)\)", text)
        assert link.startswith(client.url)
        with client_of(client.url, KEYS["alice"]) as alice, client_of(client.url, KEYS["bob"]) as bob:
            picture = alice.get(link)
            assert (picture.status_code, picture.headers["content-type"]) == (200, "image/png")
            assert picture.content.startswith(b"\x89PNG\r\n")
            assert failure(bob.get(link)) == (404, "session_not_found")
        assert failure(httpx.get(link))[0] == 401


def test_links_have_the_address_under_which_clients_reach_the_product(server: ProductServer) -> None:
    with program(
        server, [ran(PLOT), Say("")], session=ONE_SESSION, CAESARION_PUBLIC_URL="https://ai.example"
    ) as client:
        text = text_in(list(client.stream("plot it")))
    assert re.search(r"!\[picture\]\(https://ai\.example/sessions/\S+form=image%2Fpng\)", text)


@pytest.mark.parametrize("stream", [True, False])
def test_sending_the_answer_back_finds_the_variables(server: ProductServer, stream: bool) -> None:
    steps: list[Step] = [ran("x = 6"), Say("Done."), ran("print(x * 7)"), Say("42.")]
    with program(server, steps) as client:
        if stream:
            first = text_in(list(client.stream("set x")))
        else:
            first = client.ask("set x").choices[0].message.content
        said = [
            {"role": "user", "content": "set x"},
            {"role": "assistant", "content": first},
            {"role": "user", "content": "show x times 7"},
        ]
        second = client.ask(said).choices[0].message.content
    assert "```\n42\n```" in second
    assert session_of(second) == session_of(first)
    for request in client.model.requests:
        assert "[//]" not in json.dumps(request.body["messages"])
    assert client.model.requests[2].body["messages"][2]["content"].startswith("```python\nx = 6\n```")


@pytest.mark.parametrize(
    "naming",
    [
        lambda session: {"extra_body": {"session": session}},
        lambda session: {"extra_headers": {"X-Session-Id": session}},
    ],
    ids=["field", "header"],
)
def test_a_program_may_name_its_session(server: ProductServer, naming: Any) -> None:
    with program(server, [ran("print(x)"), Say("So.")]) as client, client_of(client.url) as http:
        session = new_session(http)
        session.run("x = 'from before'")
        raw = client.ask_raw("show x", **naming(session.id))
        assert raw.headers["x-session-id"] == session.id
        assert "from before" in raw.parse().choices[0].message.content


def test_without_a_name_each_conversation_has_a_session_of_its_own(server: ProductServer) -> None:
    with program(server, [Say("a"), Say("b")]) as client:
        texts = [client.ask("hi").choices[0].message.content for _ in range(2)]
    assert session_of(texts[0]) != session_of(texts[1])


def test_the_programs_instructions_reach_the_model_behind_ours(server: ProductServer) -> None:
    said = [
        {"role": "developer", "content": "Speak Latin."},
        {"role": "user", "content": [{"type": "text", "text": "hi"}]},
    ]
    with program(server, [Say("Salve.")]) as client:
        client.ask(said)
        messages = client.model.requests[0].body["messages"]
    assert [message["role"] for message in messages] == ["system", "system", "user"]
    assert [message["content"] for message in messages[1:]] == ["Speak Latin.", "hi"]


@pytest.mark.parametrize("named", [True, False], ids=["in a session", "in a new session"])
def test_the_same_key_runs_the_code_once(server: ProductServer, named: bool) -> None:
    code = "n = globals().get('n', 0) + 1\nprint('run', n)"
    steps: list[Step] = [Fail(400, "not now"), ran(code), Say("Done.")]
    with program(server, steps) as client, client_of(client.url) as http:
        once = {"Idempotency-Key": f"count-{named}"}
        if named:
            once["X-Session-Id"] = new_session(http).id
        with pytest.raises(openai.APIStatusError):  # what failed is tried again, what did not is told again
            client.ask("count", extra_headers=once)
        texts = [client.ask("count", extra_headers=once).choices[0].message.content for _ in range(3)]
    assert len(set(texts)) == 1 and "run 1" in texts[0]


@pytest.mark.anyio
async def test_the_same_key_at_the_same_time_gets_the_same_answer(server: ProductServer) -> None:
    thinking = Hang(text="Once.")
    keyed = {"Idempotency-Key": "together", "X-Session-Id": ONE_SESSION}
    with program(server, [thinking]) as client:
        async with AsyncOpenAI(base_url=f"{client.url}/v1", api_key="none", max_retries=0) as sdk:
            streams: list[Any] = []
            for _ in range(3):
                stream: Any = await sdk.chat.completions.create(
                    model=MODEL, messages=asked("hi"), stream=True, extra_headers=keyed
                )
                streams.append(stream)
            assert await asyncio.to_thread(thinking.reached.wait, DEADLINE_S)
            thinking.until.set()
            texts = [text_in([chunk async for chunk in stream]) for stream in streams]
    assert len(set(texts)) == 1 and without_line(texts[0]) == "Once."


def test_a_program_that_left_finds_its_answer_by_the_key(server: ProductServer) -> None:
    gate = threading.Event()
    keyed = {"Idempotency-Key": "left"}
    with program(server, [Say(["One", gate, " moment."])], session=ONE_SESSION) as client:
        stream = client.stream("hi", extra_headers=keyed)
        for chunk in stream:
            if chunk.choices[0].delta.content:
                break
        stream.close()
        gate.set()
        assert without_line(client.ask("hi", extra_headers=keyed).choices[0].message.content) == "One moment."


def session_ids(http: httpx.Client) -> set[str]:
    return {session["id"] for session in http.get("/sessions").json()["sessions"]}


def comparable(answer: Any) -> Any:
    document = answer.model_dump(mode="json", exclude_unset=True)
    return {name: value for name, value in document.items() if name != "id"}


CALLING = CallTools([Call("look", {"q": "a"}, id="c1"), Call("look", "{not json", id="c2")], text="Let me see.")
OWN: dict[str, Any] = {
    "tools": [TOOL],
    "tool_choice": "auto",
    "temperature": 0.5,
    "parallel_tool_calls": True,
}


@pytest.mark.parametrize("include_usage", [True, False])
@pytest.mark.parametrize("stream", [True, False])
def test_tools_of_the_program_are_between_it_and_the_model(
    server: ProductServer, stream: bool, include_usage: bool
) -> None:
    options: dict[str, Any] = {"stream_options": {"include_usage": True}} if stream and include_usage else {}
    with program(server, [CALLING, CALLING]) as client, client_of(client.url) as http:
        sessions = session_ids(http)
        answers = []
        for base_url in (client.model.url, f"{client.url}/v1"):
            with OpenAI(base_url=base_url, api_key="none", max_retries=0) as sdk:
                answer: Any = sdk.chat.completions.create(
                    model=MODEL, messages=asked("look"), stream=stream, **OWN, **options
                )
                answers.append([comparable(chunk) for chunk in answer] if stream else comparable(answer))
        assert answers[0] == answers[1]
        assert session_ids(http) == sessions
        direct, passed = (request.body for request in client.model.requests)
    assert {**passed, "stream": stream} == {**direct, "stream": stream}
    assert client.model.requests[1].headers["authorization"] == "Bearer sk-test"


def test_results_of_the_programs_tools_and_pictures_reach_the_model(server: ProductServer) -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    said = [
        {"role": "user", "content": [{"type": "text", "text": "look"}, picture]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "a cat"},
    ]
    with program(server, [Say("A cat.")]) as client:
        assert client.ask(said, tools=[TOOL]).choices[0].message.content == "A cat."
        assert client.model.requests[0].body["messages"] == said


@pytest.mark.parametrize("stream", [True, False])
def test_a_refusal_of_the_model_is_told_to_a_program_with_tools(server: ProductServer, stream: bool) -> None:
    with program(server, [Fail(400, "bad schema")]) as client:
        with pytest.raises(openai.APIStatusError) as refused:
            client.ask("look", tools=[TOOL], stream=stream)
        assert refusal(refused.value) == (502, "model_refused")
        assert "bad schema" in refused.value.message


def test_a_model_that_breaks_off_is_told_to_a_program_with_tools(server: ProductServer) -> None:
    with program(server, [Cut("Let me")]) as client:
        stream = client.stream("look", tools=[TOOL])
        with pytest.raises(openai.APIError, match="broke off"):
            list(stream)


def test_a_program_with_tools_that_leaves_stops_the_model(server: ProductServer) -> None:
    with program(server, [Hang(text="Let me")]) as client:
        stream = client.stream("look", tools=[TOOL])
        next(stream)
        stream.close()
        assert client.model.requests[0].left.wait(DEADLINE_S)


def test_the_models_are_listed(server: ProductServer) -> None:
    with program(server, [], CAESARION_MODEL="own/model", CAESARION_MODELS="small") as client:
        assert [model.id for model in client.sdk.models.list()] == ["own/model", "small"]
        assert client.sdk.models.retrieve("small").id == "small"
        with pytest.raises(openai.NotFoundError) as unknown:
            client.sdk.models.retrieve("large")
        assert refusal(unknown.value) == (404, "model_not_found")


def test_a_model_whose_name_has_a_slash_is_found(server: ProductServer) -> None:
    with program(server, [], CAESARION_MODEL="own/model") as client:
        assert client.sdk.models.retrieve("own/model").id == "own/model"


def test_the_model_that_is_named_answers(server: ProductServer) -> None:
    with program(server, [Say("hi")], CAESARION_MODELS="small") as client:
        answer = client.sdk.chat.completions.create(model="small", messages=asked("hi"))
        assert (answer.model, client.model.requests[0].body["model"]) == ("small", "small")


PICTURE_PART = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


@pytest.mark.parametrize(
    ("fields", "status", "code", "words"),
    [
        ({"model": "other"}, 404, "model_not_found", "gpt-4.1"),
        ({"messages": [{"role": "robot", "content": "x"}]}, 400, "invalid_field", "robot"),
        ({"messages": [{"role": "tool", "tool_call_id": "c", "content": "x"}]}, 400, "invalid_field", "tools"),
        ({"messages": [{"role": "user", "content": [PICTURE_PART]}]}, 400, "invalid_field", "image_url"),
        ({"messages": [{"role": "user", "content": "x" * 2001}]}, 413, "too_large", "2001"),
        ({"messages": []}, 400, "invalid_field", "messages"),
        ({"extra_body": {"session": "../x"}}, 400, "", ""),
    ],
    ids=["model", "role", "tool", "picture", "long", "nothing", "session"],
)
@pytest.mark.parametrize("stream", [True, False])
def test_a_wrong_request_is_refused_in_words(
    server: ProductServer, fields: dict[str, Any], status: int, code: str, words: str, stream: bool
) -> None:
    with program(server, [], CAESARION_MAX_MESSAGE_CHARS="2000") as client:
        with pytest.raises(openai.APIStatusError) as refused:
            client.sdk.chat.completions.create(**{"model": MODEL, "messages": asked("hi"), "stream": stream, **fields})
    assert refusal(refused.value) == (status, code or refusal(refused.value)[1])
    assert words in refused.value.message


@pytest.mark.parametrize(
    ("step", "code", "words"),
    [
        (Fail(401, "no such key"), "model_key", "OPENAI_API_KEY"),
        (Fail(404, "no such model"), "model_unknown", "CAESARION_MODEL"),
        (Fail(400, "context too long"), "model_refused", "context too long"),
        (Fail(500, "overheated", after="I think"), "model_error", "overheated"),
        (Cut("I think"), "model_error", "broke off"),
    ],
    ids=["key", "model", "refused", "mid-answer", "cut"],
)
def test_a_failure_of_the_model_is_an_exception_with_our_words(
    server: ProductServer, step: Step, code: str, words: str
) -> None:
    with program(server, [step, step, Say("Better.")]) as client:
        with pytest.raises(openai.APIStatusError) as whole:
            client.ask("hi")
        assert refusal(whole.value) == (502, code)
        assert words in whole.value.message
        with pytest.raises(openai.APIError) as streamed:
            list(client.stream("hi"))
        assert words in streamed.value.message
        assert without_line(client.ask("hi").choices[0].message.content) == "Better."


def test_what_was_said_before_a_failure_has_arrived(server: ProductServer) -> None:
    with program(server, [Fail(500, "overheated", after="I think")]) as client:
        chunks = []
        with pytest.raises(openai.APIError, match="overheated"):
            for chunk in client.stream("hi"):
                chunks.append(chunk)
    assert text_in(chunks) == "I think"


def test_a_busy_model_is_told_with_the_time_to_wait(server: ProductServer) -> None:
    with program(server, [Fail(429, "slow down", retry_after_s=0.01)] * 3) as client:
        with pytest.raises(openai.APIStatusError) as busy:
            client.ask("hi")
    assert refusal(busy.value)[1] == "model_busy"
    assert int(busy.value.response.headers["retry-after"]) >= 1


def test_a_program_that_leaves_stops_the_model(server: ProductServer) -> None:
    with program(server, [Hang(text="I think")]) as client:
        stream = client.stream("hi")
        for chunk in stream:
            if chunk.choices[0].delta.content:
                break
        stream.close()
        assert client.model.requests[0].left.wait(DEADLINE_S)


@pytest.mark.anyio
async def test_a_program_that_leaves_without_a_stream_stops_the_model(server: ProductServer) -> None:
    thinking = Hang()
    with program(server, [thinking]) as client:
        async with AsyncOpenAI(base_url=f"{client.url}/v1", api_key="none", max_retries=0) as sdk:
            asking = asyncio.ensure_future(sdk.chat.completions.create(model=MODEL, messages=asked("hi")))
            assert await asyncio.to_thread(thinking.reached.wait, DEADLINE_S)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            assert await asyncio.to_thread(client.model.requests[0].left.wait, DEADLINE_S)


def test_a_program_that_leaves_stops_the_kernel_and_its_variables_stay(server: ProductServer) -> None:
    steps: list[Step] = [ran(f"kept = 'still here'\nprint('begun', flush=True)\n{gate('never')}")]
    with program(server, steps) as client, client_of(client.url) as http:
        session = new_session(http)
        stream = client.stream("wait", extra_body={"session": session.id})
        for chunk in stream:
            if "python" in (chunk.choices[0].delta.content or ""):
                break
        while not (known := http.get(session.executions).json()["executions"]):
            pass
        with session.following(known[0]["id"]) as running:
            assert any(output["type"] == "stream" for output in running.outputs)
            stream.close()
            assert list(running.outputs)[-1]["status"] == "interrupted"
        assert text_of(session.run("print(kept)")) == "still here\n"


def test_without_a_model_what_is_typed_runs(server: ProductServer) -> None:
    url = server.serve({})
    with OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as sdk:
        text = sdk.chat.completions.create(model=MODEL, messages=asked("print(6 * 7)")).choices[0].message.content
        assert text is not None and "```\n42\n```" in text and "OPENAI_API_KEY" in text
        with pytest.raises(openai.APIStatusError) as refused:
            sdk.chat.completions.create(model=MODEL, messages=asked("hi"), tools=[TOOL])
        assert refusal(refused.value) == (502, "no_model")
