"""A user stops a turn: the model and the code end, and what was there stays."""

import threading

import pytest

from tests.chat.conftest import (
    ChatProduct,
    chat_product,
    outputs_of,
    said,
    says,
    shows,
    told,
    turn_of,
    types_of,
    until,
)
from tests.chat.scripted_model import Call, CallTools, Hang, Say
from tests.conftest import ProductServer
from tests.platform.conftest import failure, gate

ENDLESS = "x = 41\nprint('begun', flush=True)\nimport time\nwhile True: time.sleep(0.01)"
NEXT = [CallTools([Call("python", {"code": "print(x + 1)"})]), Say("42.")]


def told_by_tools(product: ChatProduct, request: int) -> list[str]:
    return [content for role, content in told(product, request) if role == "tool"]


def test_stopping_code_keeps_the_variables_and_the_model_is_told(server: ProductServer) -> None:
    with chat_product(server, [CallTools([Call("python", {"code": ENDLESS})]), *NEXT]) as product:
        chat = product.chat()
        with chat.asking("compute for ever") as chunks:
            until(chunks, shows("begun"))
            chat.stop()
            rest = list(chunks)
        assert rest[-1] == {"type": "abort", "reason": "stopped by the user"}
        assert [output["status"] for output in outputs_of(rest)] == ["interrupted"]
        after = chat.ask("and now?")
        assert outputs_of(after)[0]["outputs"][0]["text"] == "42\n"
        assert after[-1]["type"] == "finish"
        assert "begun" in told_by_tools(product, 1)[0]
        assert "interrupted" in told_by_tools(product, 1)[0]


def test_stopping_in_mid_text_keeps_what_was_said_and_leaves_the_model(server: ProductServer) -> None:
    never = threading.Event()
    with chat_product(server, [Say(["Once ", never, "upon a time"]), Say("Yes.")]) as product:
        chat = product.chat()
        with chat.asking("a story") as chunks:
            until(chunks, says("Once "))
            chat.stop()
            rest = list(chunks)
        assert types_of(rest) == ["text-end", "abort"]
        assert product.model.requests[0].left.wait(200)
        assert said(chat.ask("go on")) == "Yes."
        assert told(product, 1) == [("user", "a story"), ("assistant", "Once "), ("user", "go on")]


@pytest.mark.parametrize("head", [True, False], ids=["after-its-head", "before-its-head"])
def test_a_model_that_hangs_can_be_stopped(server: ProductServer, head: bool) -> None:
    hang = Hang(head=head)
    with chat_product(server, [hang, Say("Here.")]) as product:
        chat = product.chat()
        with chat.asking("are you there?") as chunks:
            assert hang.reached.wait(200)
            chat.stop()
            assert list(chunks)[-1]["type"] == "abort"
        assert product.model.requests[0].left.wait(200)
        assert said(chat.ask("and now?")) == "Here."


def test_a_turn_is_stopped_from_another_replica(server: ProductServer) -> None:
    with chat_product(server, [CallTools([Call("python", {"code": ENDLESS})]), *NEXT]) as product:
        chat = product.chat()
        with chat.asking("compute for ever") as chunks:
            until(chunks, shows("begun"))
            other = chat.at(product.replica())
            other.stop()
            rest = list(chunks)
        assert rest[-1]["type"] == "abort"
        assert outputs_of(other.ask("and now?"))[0]["outputs"][0]["text"] == "42\n"


@pytest.mark.parametrize("elsewhere", [False, True], ids=["here", "on-another-replica"])
def test_the_id_of_an_older_turn_stops_nothing(server: ProductServer, elsewhere: bool) -> None:
    go = threading.Event()
    steps = [Say("one"), Say(["two ", go, "three"]), Say(["four ", threading.Event()])]
    with chat_product(server, steps) as product:
        chat = product.chat()
        asked = chat.at(product.replica()) if elsewhere else chat
        older = turn_of(chat.ask("first"))
        with chat.asking("second") as chunks:
            until(chunks, says("two "))
            asked.stop(older)
            go.set()
            assert [chunk["type"] for chunk in chunks][-1] == "finish"
        with chat.asking("third") as chunks:
            seen = until(chunks, says("four "))
            asked.stop(turn_of(seen))
            assert [chunk["type"] for chunk in chunks][-1] == "abort"


def test_stopping_where_nothing_runs_is_no_failure(server: ProductServer) -> None:
    with chat_product(server, [Say("one"), Say("two")]) as product:
        chat = product.chat()
        chat.stop()
        turn = turn_of(chat.ask("first"))
        chat.stop()
        chat.stop(turn)
        chat.at(product.replica()).stop()
        assert chat.ask("second")[-1]["type"] == "finish"
        assert chat.client.post(f"/api/chat/{chat.id}/stop").status_code == 204


def test_a_stop_that_is_not_as_it_should_be_is_refused(server: ProductServer) -> None:
    with chat_product(server, []) as product:
        chat = product.chat()
        refused = chat.client.post(f"/api/chat/{chat.id}/stop", json={"turn": 5})
        assert failure(refused)[0] == 400


def test_stopping_ends_all_calls_of_a_step_and_none_begins_after_it(server: ProductServer) -> None:
    second = "open('ran.txt', 'a').write('ran')"
    calls = [Call("python", {"code": ENDLESS}), Call("python", {"code": second})]
    check = "import os\nprint(os.path.exists('ran.txt'), x)"
    with chat_product(server, [CallTools(calls), CallTools([Call("python", {"code": check})]), Say("ok")]) as product:
        chat = product.chat()
        with chat.asking("both") as chunks:
            until(chunks, shows("begun"))
            chat.stop()
            rest = list(chunks)
        assert rest[-1]["type"] == "abort"
        assert outputs_of(chat.ask("check"))[0]["outputs"][0]["text"] == "False 41\n"
        assert len(told_by_tools(product, 1)) == 2


def test_stopping_twice_is_stopping_once(server: ProductServer) -> None:
    waits = f"print('begun', flush=True)\n{gate('never')}"
    with chat_product(server, [CallTools([Call("python", {"code": waits})]), Say("fine")]) as product:
        chat = product.chat()
        with chat.asking("wait") as chunks:
            until(chunks, shows("begun"))
            chat.stop()
            chat.stop()
            rest = list(chunks)
        assert [chunk["type"] for chunk in rest].count("abort") == 1
        assert chat.ask("again")[-1]["type"] == "finish"
