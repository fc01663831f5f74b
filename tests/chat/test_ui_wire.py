"""The UI wire as a chat page meets it: the AI SDK's own parser takes every turn, whatever the model does."""

import json
import random
from itertools import pairwise
from typing import Any

import httpx
import pytest

from caesarion.ids import new_id
from tests.chat.conftest import SHARED, Chat, ChatProduct, chat_product
from tests.chat.scripted_model import Call, CallTools, Cut, Fail, Say
from tests.chat.ui import Judged, judged
from tests.conftest import ProductServer

PLOT = """import matplotlib.pyplot as plt
print('before')
plt.plot([1, 2, 4])
plt.show()
'after'"""
PNG = b"\x89PNG\r\n\x1a\n"
ONE_CHAT = new_id(SHARED)
ALPHABET = [
    "a",
    " ",
    "\n",
    "é",
    "表",
    "😀",
    "👩‍👩‍👧",
    "\u0301",
    "```",
    "data: ",
    "\r\n",
    "\u2028",
    "\\",
    '"',
    "\x00",
    "</script>",
]


def seen(chat: Chat, text: str, **more: Any) -> Judged:
    """Ask as a page does, and return what the AI SDK made of the answer, which it could read without errors."""
    asked = {"messages": chat.body(text)["messages"], **more}
    turn = judged(str(chat.client.base_url).rstrip("/"), chat.id, text, **asked)
    assert turn.errors == []
    assert turn.status == 200
    return turn


def one_chat(product: ChatProduct) -> Chat:
    """Return the chat of all tests to which it does not matter what was said before."""
    return Chat(ONE_CHAT, product.replica())


def tools(turn: Judged) -> list[dict[str, Any]]:
    """Return the tool parts of the message as the page holds it."""
    assert turn.message is not None
    parts: list[dict[str, Any]] = turn.message["parts"]
    return [part for part in parts if part["type"].startswith("tool-") or part["type"] == "dynamic-tool"]


def told_by_tools(product: ChatProduct, request: int) -> list[str]:
    """Return the results of tools in a request to the model."""
    messages = product.model.requests[request].body["messages"]
    return [message["content"] for message in messages if message["role"] == "tool"]


def check_calls(product: ChatProduct) -> None:
    """Assert that each call in what the model was sent has JSON arguments and one result right behind it."""
    for request in product.model.requests:
        messages = request.body["messages"]
        for position, message in enumerate(messages):
            calls = message.get("tool_calls") or []
            results = messages[position + 1 : position + 1 + len(calls)]
            assert [call["id"] for call in calls] == [result.get("tool_call_id") for result in results]
            for call in calls:
                assert isinstance(json.loads(call["function"]["arguments"]), dict)


def cut(text: str, rng: random.Random) -> list[str]:
    """Return the text in random pieces, cut between UTF-16 units as some endpoints cut it."""
    units = text.encode("utf-16-le")
    cuts = sorted({0, len(units), *(2 * rng.randrange(len(units) // 2 + 1) for _ in range(rng.randrange(1, 40)))})
    pieces = (units[start:end] for start, end in pairwise(cuts))
    return [piece.decode("utf-16-le", "surrogatepass") for piece in pieces]


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    """Chance that is this test's own; a failure shows the seed."""
    seed = f"{random.getrandbits(32)} {request.node.name}"
    request.node.add_report_section("setup", "seed", seed)
    return random.Random(seed)


def test_a_page_shows_text_code_and_a_plot(server: ProductServer) -> None:
    steps = [
        CallTools([Call("python", {"code": PLOT})], text="Let me draw.", reasoning="A plot is wanted."),
        Say("There it is."),
    ]
    with chat_product(server, steps) as product:
        chat = product.chat()
        turn = seen(chat, "draw")
        assert turn.text == "Let me draw.There it is."
        [tool] = tools(turn)
        assert (tool["type"], tool["state"], tool["input"]) == ("tool-python", "output-available", {"code": PLOT})
        before, plot, after = tool["output"]["outputs"]
        assert (before["type"], before["text"]) == ("stream", "before\n")
        assert after["data"]["text/plain"] == "'after'"
        assert "image/png" not in plot["data"]
        picture = chat.client.get(plot["urls"]["image/png"])
        assert (picture.status_code, picture.headers["content-type"]) == (200, "image/png")
        assert picture.content.startswith(PNG)
        assert {"type": "reasoning", "text": "A plot is wanted."}.items() <= turn.message["parts"][1].items()  # type: ignore[index]
        assert turn.types.count("start-step") == turn.types.count("finish-step") == 2
        assert turn.chunks[-1]["finishReason"] == "stop"


def test_the_pictures_of_a_turn_are_there_when_it_is_asked_for_again(server: ProductServer) -> None:
    with chat_product(server, [CallTools([Call("python", {"code": PLOT})]), Say("There.")]) as product:
        chat = product.chat()
        [again] = [tools(seen(asked, "draw", messages=chat.body("draw", message_id="m")["messages"]))
                   for asked in (chat, chat.at(product.replica()))][1:]  # fmt: skip
        assert chat.client.get(again[0]["output"]["outputs"][1]["urls"]["image/png"]).content.startswith(PNG)


def test_a_page_shows_a_failing_cell_and_the_model_reads_it(server: ProductServer) -> None:
    with chat_product(server, [CallTools([Call("python", {"code": "1 / 0"})]), Say("It failed.")]) as product:
        [tool] = tools(seen(one_chat(product), "divide"))
        assert tool["state"] == "output-available"
        assert tool["output"]["status"] == "error"
        assert tool["output"]["outputs"][0]["ename"] == "ZeroDivisionError"
        assert "ZeroDivisionError" in told_by_tools(product, 1)[-1]
        assert "\x1b" not in told_by_tools(product, 1)[-1]


def test_a_page_shows_calls_that_run_at_once_each_with_its_own_output(server: ProductServer) -> None:
    calls = [Call("python", {"code": f"print({number})"}) for number in range(3)]
    calls += [Call("list_files", {}), Call("read_file", {"path": "there-is-none.txt"})]
    with chat_product(server, [CallTools(calls), Say("Done.")]) as product:
        shown = tools(seen(product.chat(), "all of it"))
        assert [tool["output"]["outputs"][0]["text"] for tool in shown[:3]] == ["0\n", "1\n", "2\n"]
        assert [tool["state"] for tool in shown[3:]] == ["output-available", "output-error"]
        assert told_by_tools(product, 1)[:3] == ["0\n", "1\n", "2\n"]
        assert "there-is-none.txt" in told_by_tools(product, 1)[4]
        check_calls(product)


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (Fail(401, "bad key"), "OPENAI_API_KEY"),
        (Fail(400, "the context is too long"), "the context is too long"),
        (Fail(500, "out of order", after="So "), "out of order"),
        (Cut("So "), "broke off"),
    ],
    ids=["key", "refused", "in-mid-text", "cut"],
)
def test_a_page_shows_why_the_model_failed_and_the_chat_goes_on(
    server: ProductServer, step: Fail | Cut, words: str
) -> None:
    with chat_product(server, [step, Say("Here I am.")]) as product:
        chat = one_chat(product)
        turn = seen(chat, "hello")
        assert turn.types[-1] == "error"
        assert words in turn.chunks[-1]["errorText"]
        assert turn.types.count("text-start") == turn.types.count("text-end")
        assert seen(chat, "hello?").text == "Here I am."
        check_calls(product)


def test_without_a_key_a_page_runs_what_is_typed(server: ProductServer) -> None:
    with httpx.Client(base_url=server.url, timeout=200) as client, chat_product(server, []) as product:
        chat = product.chat(client)
        turn = seen(chat, "x = 6\nx * 7")
        assert tools(turn)[0]["output"]["outputs"][0]["data"]["text/plain"] == "42"
        assert "OPENAI_API_KEY" in turn.text
        assert tools(seen(chat, "1 / 0"))[0]["output"]["status"] == "error"
        assert tools(seen(chat, "x"))[0]["output"]["outputs"][0]["data"]["text/plain"] == "6"


@pytest.mark.parametrize("number", range(4))
def test_text_arrives_whole_wherever_it_is_cut(server: ProductServer, rng: random.Random, number: int) -> None:
    text = "".join(rng.choices(ALPHABET, k=200)) + "."
    with chat_product(server, [Say(cut(text, rng)), Say("Yes.")]) as product:
        chat = one_chat(product)
        assert seen(chat, text).text == text
        assert seen(chat, "and again").text == "Yes."
        user, assistant, _ = product.model.requests[1].body["messages"][-3:]
        assert (user["content"], assistant["content"]) == (text, text)


@pytest.mark.parametrize("number", range(4))
def test_code_arrives_whole_wherever_its_arguments_are_cut(
    server: ProductServer, rng: random.Random, number: int
) -> None:
    text = "".join(rng.choices([letter for letter in ALPHABET if "\x00" not in letter], k=100)) + "."
    code = f"# {text.replace(chr(10), ' ').replace(chr(13), ' ').replace(chr(0x2028), ' ')}\nprint(ascii({text!r}))"
    arguments = json.dumps({"code": code}, ensure_ascii=rng.random() < 0.5, indent=rng.choice([None, 2]))
    steps = [CallTools([Call("python", cut(arguments, rng)), Call("python", cut(arguments, rng))]), Say("Done.")]
    with chat_product(server, steps) as product:
        for tool in tools(seen(one_chat(product), "run it")):
            assert tool["input"] == {"code": code}
            assert tool["output"]["outputs"][0]["text"] == ascii(text) + "\n"
        check_calls(product)


@pytest.mark.parametrize(
    "arguments",
    ['{"code": "1', "", "null", "[1]", '"1 + 1"', '{"code": 5}', '{"cod": "1"}', '{"code": ""}', "[" * 3000, "{}{}"],
    ids=["cut", "empty", "null", "list", "text", "number", "other-name", "no-code", "deep", "two"],
)
def test_a_call_with_broken_arguments_is_not_run_and_the_model_is_told(server: ProductServer, arguments: str) -> None:
    steps = [CallTools([Call("python", arguments)], chunk_chars=20_000), Say("I see.")]
    with chat_product(server, steps) as product:
        turn = seen(one_chat(product), "run it")
        assert turn.text == "I see."
        [tool] = tools(turn)
        assert tool["state"] == "output-error"
        assert tool["errorText"]
        assert tool["errorText"] in told_by_tools(product, 1)[-1]
        check_calls(product)


def test_a_tool_that_there_is_not_is_not_run_and_the_model_is_told(server: ProductServer) -> None:
    calls = [Call("rm_rf", {"path": "/"}), Call("python", {"code": "print(1)"})]
    with chat_product(server, [CallTools(calls), Say("I see.")]) as product:
        turn = seen(one_chat(product), "remove it")
        unknown, known = tools(turn)
        assert unknown["state"] == "output-error"
        assert "rm_rf" in unknown["errorText"] and "python" in unknown["errorText"]
        assert known["output"]["outputs"][0]["text"] == "1\n"
        assert told_by_tools(product, 1)[-2:] == [unknown["errorText"], "1\n"]
        assert [chunk["toolName"] for chunk in turn.chunks if chunk["type"] == "tool-input-error"] == ["rm_rf"]
        check_calls(product)


def test_an_id_that_the_model_uses_twice_in_a_step_runs_one_call(server: ProductServer) -> None:
    calls = [Call("python", {"code": f"print(open('runs.txt', 'a').write('{n}'))"}, id="same") for n in "ab"]
    with chat_product(server, [CallTools(calls), Say("I see.")]) as product:
        chat = product.chat()
        ran, refused = tools(seen(chat, "run both"))
        assert (ran["state"], refused["state"]) == ("output-available", "output-error")
        assert ran["toolCallId"] != refused["toolCallId"]
        assert chat.file("runs.txt") == "a"
        check_calls(product)


def test_an_id_that_the_model_uses_again_in_a_later_step_or_turn_is_another_call(server: ProductServer) -> None:
    steps: list[Any] = [CallTools([Call("python", {"code": f"print({n})"}, id="same")]) for n in range(3)]
    with chat_product(server, [*steps[:2], Say("One, two."), steps[2], Say("Three.")]) as product:
        chat = product.chat()
        shown = tools(seen(chat, "run two")) + tools(seen(chat, "run one"))
        assert [tool["output"]["outputs"][0]["text"] for tool in shown] == ["0\n", "1\n", "2\n"]
        assert told_by_tools(product, 4) == ["0\n", "1\n", "2\n"]
        check_calls(product)


def test_of_forty_calls_at_once_sixteen_run_and_the_others_are_refused_in_words(server: ProductServer) -> None:
    calls = [Call("python", {"code": f"print({number})"}) for number in range(40)]
    with chat_product(server, [CallTools(calls), Say("Too many.")]) as product:
        shown = tools(seen(product.chat(), "all of it"))
        assert [tool["state"] for tool in shown] == ["output-available"] * 16 + ["output-error"] * 24
        assert [tool["output"]["outputs"][0]["text"] for tool in shown[:16]] == [f"{number}\n" for number in range(16)]
        assert all("at most 16" in told for told in told_by_tools(product, 1)[16:])
        check_calls(product)


def test_a_model_that_never_ends_is_ended_and_the_user_can_go_on(server: ProductServer) -> None:
    call = CallTools([Call("python", {"code": "print(1)"})])
    with chat_product(server, [call, call, call, Say("Done.")]) as product:
        chat = product.chat(product.replica(CAESARION_MAX_STEPS="3"))
        turn = seen(chat, "never end")
        assert turn.types[-2:] == ["data-notice", "finish"]
        assert "3 steps" in turn.chunks[-2]["data"]["text"]
        assert turn.chunks[-1]["finishReason"] == "tool-calls"
        assert seen(chat, "go on").text == "Done."
        assert told_by_tools(product, 3) == ["1\n"] * 3
        check_calls(product)


@pytest.mark.parametrize(
    ("finish", "reason"), [("stop", "stop"), ("length", "length"), ("content_filter", "content-filter")]
)
def test_a_page_is_told_why_the_answer_ended(server: ProductServer, finish: Any, reason: str) -> None:
    with chat_product(server, [Say("So it is", finish=finish)]) as product:
        assert seen(one_chat(product), "hello").chunks[-1]["finishReason"] == reason


def test_an_answer_without_a_word_is_an_answer(server: ProductServer) -> None:
    with chat_product(server, [Say(""), Say("Yes.")]) as product:
        chat = one_chat(product)
        assert seen(chat, "hello").text == ""
        assert seen(chat, "hello?").text == "Yes."


def test_output_that_is_long_is_shown_in_bounds(server: ProductServer) -> None:
    code = "print('x' * 1_000_000)\nfrom IPython.display import HTML, display\ndisplay(HTML('<p>' + 'y' * 100_000))"
    with chat_product(server, [CallTools([Call("python", {"code": code})]), Say("Long.")]) as product:
        chat = one_chat(product)
        [tool] = tools(seen(chat, "print"))
        stream, page = tool["output"]["outputs"]
        assert len(stream["text"]) + stream["cut_chars"] == 1_000_001
        assert len(json.dumps(tool["output"])) < 50_000
        assert chat.client.get(page["urls"]["text/html"]).text == "<p>" + "y" * 100_000
        assert len(told_by_tools(product, 1)[-1]) < 20_000
