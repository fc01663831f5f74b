"""Readers come, leave and come back, and functions end in the middle: the turn goes on, and nothing runs twice."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from caesarion.ids import new_id
from tests.chat.conftest import (
    Chat,
    chat_product,
    lasting,
    outputs_of,
    said,
    says,
    shows,
    turn_of,
    until,
)
from tests.chat.scripted_model import Call, CallTools, Say, ScriptedModel, scripted
from tests.chat.ui import judging
from tests.conftest import ProductServer
from tests.platform.conftest import gate
from tests.platform.served import NO_POOL, Home, Served, home

WAITS = f"print('begun', flush=True)\n{gate('go')}print('went on')"
COUNTED = f"print(open('runs.txt', 'a').write('run '), flush=True)\n{WAITS}"
STORY = Say("It went on, and that is all there is to say of it.", chunk_chars=3)


def steps(code: str = WAITS) -> list[Any]:
    return [CallTools([Call("python", {"code": code})], text="Let me see."), STORY]


@pytest.fixture
def place() -> Iterator[Home]:
    with home() as made:
        yield made


def model_env(model: ScriptedModel) -> dict[str, str]:
    return {"OPENAI_BASE_URL": model.url, "OPENAI_API_KEY": "sk-test", **NO_POOL}


def kill(served: Served) -> None:
    served.process.kill()
    served.process.wait()


def called(chunk: dict[str, Any]) -> bool:
    return bool(chunk["type"] == "tool-input-available")


def test_a_reader_who_comes_back_misses_nothing_and_sees_nothing_twice(server: ProductServer) -> None:
    with chat_product(server, steps()) as product:
        chat = product.chat()
        with chat.asking("go") as stayed:
            seen = until(stayed, shows("begun"))
            with chat.resuming() as left:
                until(left, shows("begun"))
            with chat.resuming() as back:
                until(back, shows("begun"))
                with chat.resuming() as late:
                    chat.open_gate("go")
                    whole = lasting(seen + list(stayed))
                    assert whole[-1]["type"] == "finish"
                    assert lasting(list(late)) == whole
        assert said(whole) == "Let me see." + str(STORY.text)


def test_a_turn_goes_on_when_its_user_has_left(server: ProductServer) -> None:
    with chat_product(server, steps()) as product:
        chat = product.chat()
        with chat.asking("go") as cut:
            begun = lasting(until(cut, shows("begun")))
        with chat.resuming() as back:
            chat.open_gate("go")
            chunks = lasting(list(back))
        assert chunks[: len(begun)] == begun
        assert outputs_of(chunks)[0]["outputs"][0]["text"] == "begun\nwent on\n"
        assert said(chunks) == "Let me see." + str(STORY.text)


def test_a_turn_is_read_on_another_replica_while_it_runs(server: ProductServer) -> None:
    with chat_product(server, steps()) as product:
        chat = product.chat()
        with chat.asking("go") as stayed:
            seen = until(stayed, shows("begun"))
            with chat.at(product.replica()).resuming() as elsewhere:
                seen_elsewhere = until(elsewhere, called)
                chat.open_gate("go")
                whole = lasting(seen + list(stayed))
                assert lasting(seen_elsewhere + list(elsewhere)) == whole
        assert outputs_of(whole)[0]["outputs"][0]["text"] == "begun\nwent on\n"


def test_there_is_nothing_to_resume_where_nothing_runs(server: ProductServer) -> None:
    with chat_product(server, [Say("one")]) as product:
        chat = product.chat()
        path = f"/api/chat/{chat.id}/stream"
        other = product.replica()
        assert chat.client.get(path).status_code == 204
        chat.ask("first")
        assert chat.client.get(path).status_code == 204
        assert other.get(path).status_code == 204


def test_a_reader_elsewhere_is_told_that_the_function_was_killed(place: Home) -> None:
    with scripted(steps(COUNTED)) as model, place.serve(**model_env(model)) as second:
        chat = Chat(new_id("c"), second.client)
        with place.serve(**model_env(model)) as first, chat.at(first.client).asking("go", message_id="m") as asked:
            seen = until(asked, shows("begun"))
            with chat.resuming() as elsewhere:
                until(elsewhere, called)
                kill(first)
                assert [chunk["type"] for chunk in elsewhere][-1] == "error"
        with chat.resuming() as again:
            so_far = lasting(list(again))
        assert so_far[:-1] == lasting(seen)
        assert so_far[-1]["type"] == "error"
        assert "ended in the middle" in so_far[-1]["errorText"]

        chat.open_gate("go")
        chunks = chat.ask("go", message_id="m")
        assert chunks[-1]["type"] == "finish"
        assert said(chunks) == "Let me see." + str(STORY.text)
        assert outputs_of(chunks)[0]["outputs"][0]["text"] == "4\nbegun\nwent on\n"
        assert chat.file("runs.txt") == "run "
        results = [m["content"] for m in model.requests[1].body["messages"] if m["role"] == "tool"]
        assert results == ["4\nbegun\nwent on\n"]
        assert lasting(chat.ask("go", message_id="m")) == lasting(chunks)


def test_a_turn_that_was_killed_in_mid_text_is_answered_when_it_is_asked_again(place: Home) -> None:
    never = threading.Event()
    with scripted([Say(["Once ", never]), Say("Afresh.")]) as model, place.serve(**model_env(model)) as second:
        chat = Chat(new_id("c"), second.client)
        chat.begin()  # a chat whose sandbox is still being claimed is not yet seen by other replicas
        with place.serve(**model_env(model)) as first, chat.at(first.client).asking("go", message_id="m") as asked:
            seen = until(asked, says("Once "))
            with chat.resuming() as elsewhere:
                until(elsewhere, says("Once "))
                kill(first)
                assert [chunk["type"] for chunk in elsewhere] == ["error"]
        chunks = chat.ask("go", message_id="m")
        assert said(chunks) == "Afresh."
        assert chunks[-1]["type"] == "finish"
        assert turn_of(chunks) != turn_of(seen)
        assert model.requests[1].body["messages"] == model.requests[0].body["messages"]


def test_another_message_after_a_kill_begins_a_turn_of_its_own(place: Home) -> None:
    with scripted([steps()[0], Say("Another.")]) as model, place.serve(**model_env(model)) as second:
        chat = Chat(new_id("c"), second.client)
        with place.serve(**model_env(model)) as first, chat.at(first.client).asking("go") as asked:
            until(asked, shows("begun"))
            kill(first)
        assert said(chat.ask("something else")) == "Another."
        messages = model.requests[1].body["messages"]
        assert [message["role"] for message in messages] == ["system", "user", "assistant", "tool", "user"]
        assert "no result" in messages[3]["content"]


def test_another_function_goes_on_where_one_was_told_to_end(place: Home) -> None:
    with scripted(steps(COUNTED)) as model, place.serve(**model_env(model)) as second:
        chat = Chat(new_id("c"), second.client)
        with place.serve(**model_env(model)) as first, chat.at(first.client).asking("go", message_id="m") as asked:
            until(asked, shows("begun"))
            with chat.resuming() as elsewhere:
                until(elsewhere, called)
                assert first.end()[0] == 0
                assert [chunk["type"] for chunk in elsewhere][-1] == "error"
        chat.open_gate("go")
        chunks = chat.ask("go", message_id="m")
        assert chunks[-1]["type"] == "finish"
        assert chat.file("runs.txt") == "run "


def test_a_page_picks_up_a_running_turn_without_errors(server: ProductServer) -> None:
    with chat_product(server, steps()) as product:
        chat = product.chat()
        other = chat.at(product.replica())
        with chat.asking("go") as stayed:
            seen = until(stayed, shows("begun"))
            here, elsewhere = (str(asked.client.base_url).rstrip("/") for asked in (chat, other))
            with judging(here, chat.id, mode="resume") as page, judging(elsewhere, chat.id, mode="resume") as tab:
                for reading in (page, tab):
                    until(iter(reading), called)
                chat.open_gate("go")
                whole = lasting(seen + list(stayed))
                for reading in (page, tab):
                    judged = reading.result()
                    assert judged.errors == []
                    assert lasting(judged.chunks) == whole
