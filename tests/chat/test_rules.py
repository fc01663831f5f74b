"""The chat's pure rules, each by table: what is shown, what is remembered, what a request means, what Markdown says."""

import base64
import json
from typing import Any

import pytest

from caesarion.errors import CaesarionError, InvalidRequest, NotFound, TooLarge, UnsupportedType
from caesarion.outputs import (
    ClearOutput,
    DisplayData,
    Error,
    ExecuteResult,
    Finished,
    Output,
    Queued,
    Started,
    Stream,
    Truncated,
    UpdateDisplayData,
)
from caesarion_chat.completions_request import (
    checked_document,
    decode_completion,
    passed_on,
    session_line,
    wants_own_tools,
)
from caesarion_chat.markdown import MAX_OUTPUT_CHARS, Markdown, fenced
from caesarion_chat.shown import (
    MAX_FORM_BYTES,
    MAX_IMAGE_CHARS,
    MAX_IMAGES,
    MAX_ITEMS,
    MAX_TEXT_CHARS,
    Shown,
    cut_in_the_middle,
    without_ansi,
)
from caesarion_chat.transcript import NOT_RUN, closed, fitted, folded, length_chars
from caesarion_chat.ui_request import UiRequest, decode_ui_request

PNG = base64.b64encode(b"\x89PNG").decode()
MODELS = ("gpt-4.1", "small")


def out(text: str, name: str = "stdout") -> Stream:
    return Stream("stderr" if name == "stderr" else "stdout", text)


def display(text: str, name: str | None = None) -> DisplayData:
    return DisplayData({"text/plain": text}, {}, name)


def shown(*outputs: Output) -> Shown:
    state = Shown("e1")
    for seq, output in enumerate(outputs, 1):
        state.add(seq, output)
    return state


def told(*outputs: Output) -> list[dict[str, Any]]:
    outputs_told: list[dict[str, Any]] = shown(*outputs).for_user(lambda seq, kind: f"/{seq}/{kind}")["outputs"]
    return outputs_told


def texts(*outputs: Output) -> list[str]:
    return [item["text"] if "text" in item else item["data"]["text/plain"] for item in told(*outputs)]


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        pytest.param([out("a"), out("b\n")], ["ab\n"], id="neighbours are joined"),
        pytest.param([out("a"), out("b", "stderr"), out("c")], ["a", "b", "c"], id="the order of two streams stays"),
        pytest.param([out("a"), display("d"), out("b")], ["a", "d", "b"], id="a display stands between texts"),
        pytest.param([out("1%"), out("\r2%"), out("\r3%\n")], ["3%\n"], id="progress that begins with a return"),
        pytest.param([out("1%\r"), out("2%\r"), out("3%\n")], ["3%\n"], id="progress that ends with a return"),
        pytest.param([out("1%\r2%\r3%")], ["3%"], id="progress in one piece"),
        pytest.param([out("kept\n1%"), out("\r2%")], ["kept\n2%"], id="only the last line is overwritten"),
        pytest.param([out("a\r\nb\r\n")], ["a\r\nb\r\n"], id="line ends of Windows stay"),
        pytest.param([out("a"), out("\r\nb")], ["a\r\nb"], id="a line end of Windows that comes apart"),
        pytest.param([out("a"), ClearOutput(False), out("b")], ["b"], id="cleared now"),
        pytest.param([out("a"), ClearOutput(False)], [], id="cleared now with nothing behind"),
        pytest.param([out("a"), ClearOutput(True)], ["a"], id="cleared at the next output, which never comes"),
        pytest.param([out("a"), ClearOutput(True), out("b"), out("c")], ["bc"], id="cleared by the next output, once"),
        pytest.param([out("a"), ClearOutput(True), ClearOutput(False), out("b")], ["b"], id="cleared twice"),
        pytest.param(
            [display("old", "d"), out("x"), UpdateDisplayData({"text/plain": "new"}, {}, "d")],
            ["new", "x"],
            id="a display is updated in its place",
        ),
        pytest.param(
            [display("1", "d"), display("2", "d"), UpdateDisplayData({"text/plain": "3"}, {}, "d")],
            ["3", "3"],
            id="every display of the name is updated",
        ),
        pytest.param(
            [display("1", "d"), display("2"), UpdateDisplayData({"text/plain": "3"}, {}, None)],
            ["1", "2"],
            id="an update without a name changes nothing",
        ),
        pytest.param([UpdateDisplayData({"text/plain": "3"}, {}, "d")], [], id="an update of nothing"),
    ],
)
def test_outputs_are_shown_as_a_notebook_would(outputs: list[Output], expected: list[str]) -> None:
    assert texts(*outputs) == expected


def test_a_long_text_keeps_its_end_and_says_how_much_is_gone() -> None:
    [item] = told(*[out("x" * 15_000)] * 3, out("end"))
    assert len(item["text"]) == MAX_TEXT_CHARS and item["text"].endswith("xend")
    assert item["cut_chars"] == 45_003 - MAX_TEXT_CHARS


def test_very_many_outputs_keep_their_beginning_and_end() -> None:
    state = shown(*(display(str(number)) for number in range(MAX_ITEMS + 50)))
    found = [item["data"]["text/plain"] for item in state.for_user(lambda seq, kind: "")["outputs"]]
    assert len(found) == MAX_ITEMS
    assert (found[0], found[-1]) == ("0", str(MAX_ITEMS + 49))
    assert state.for_user(lambda seq, kind: "")["left_out"] == 50
    assert "[50 further outputs are left out]" in state.for_model(100_000)


def test_truncation_is_told_once_with_its_total() -> None:
    assert told(out("a"), Truncated(5), Truncated(9)) == [
        {"seq": 1, "type": "stream", "name": "stdout", "text": "a"},
        {"seq": 3, "type": "truncated", "dropped_bytes": 9},
    ]


@pytest.mark.parametrize(
    ("kind", "form", "inline"),
    [
        ("image/png", PNG, False),
        ("image/jpeg", PNG, False),
        ("image/svg+xml", "<svg/>", True),
        ("image/svg+xml", "<svg>" + " " * MAX_FORM_BYTES, False),
        ("text/html", "<b>x</b>", True),
        ("text/html", "x" * (MAX_FORM_BYTES + 1), False),
        ("application/json", {"a": 1}, True),
        ("application/vnd.plotly.v1+json", {"data": [1] * MAX_FORM_BYTES}, False),
    ],
)
def test_pictures_and_large_forms_go_by_address(kind: str, form: Any, inline: bool) -> None:
    [item] = told(ExecuteResult(1, {kind: form, "text/plain": "p"}, {}))
    assert item["data"] == {"text/plain": "p", **({kind: form} if inline else {})}
    assert item.get("urls", {}) == ({} if inline else {kind: f"/1/{kind}"})


def test_a_picture_by_address_tells_its_size_so_that_a_page_keeps_its_place() -> None:
    head = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + (640).to_bytes(4, "big") + (480).to_bytes(4, "big")
    picture = base64.b64encode(head + bytes(40)).decode()
    [item] = told(DisplayData({"image/png": picture}, {"own": 1}))
    assert item["metadata"] == {"own": 1, "image/png": {"width": 640, "height": 480}}
    for broken in ("", "no picture", picture[:20], base64.b64encode(bytes(64)).decode()):
        [item] = told(DisplayData({"image/png": broken}, {}))
        assert item["metadata"] == {}


def test_an_updated_picture_has_the_address_of_its_update() -> None:
    [item] = told(display("old", "d"), out(""), UpdateDisplayData({"image/png": PNG}, {}, "d"))[:1]
    assert (item["seq"], item["urls"]) == (3, {"image/png": "/3/image/png"})


def test_large_metadata_is_left_out() -> None:
    [item] = told(DisplayData({"text/plain": "x"}, {"a": "b" * MAX_FORM_BYTES}))
    assert item["metadata"] == {}


def test_a_huge_traceback_is_shown_in_bounds() -> None:
    [item] = told(Error("E", "v" * 1_000_000, ["x" * 100_000] * 500))
    assert len(json.dumps(item)) < 300_000
    assert item["ename"] == "E"


@pytest.mark.parametrize(
    ("outputs", "status"),
    [
        ([], "queued"),
        ([Queued(1)], "queued"),
        ([Queued(1), Started("e1", "main", 3)], "running"),
        ([Started("e1", "main", 3), Finished("ok", 3, 1.5)], "ok"),
        ([Started("e1", "main", 3), Finished("died", None, 1.5)], "died"),
    ],
)
def test_the_status_is_that_of_the_execution(outputs: list[Output], status: str) -> None:
    state = shown(*outputs).for_user(lambda seq, kind: "")
    assert state["status"] == status
    assert state.get("execution_count") == (3 if any(isinstance(o, Started) for o in outputs) else None)
    assert ("duration_ms" in state) == any(isinstance(o, Finished) for o in outputs)


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        ([Finished("ok", 1, 1)], "[the code ran and showed nothing]"),
        ([out("\x1b[31mred\x1b[0m"), Finished("ok", 1, 1)], "red"),
        ([out("warn", "stderr"), Finished("ok", 1, 1)], "[stderr]\nwarn"),
        ([Error("E", "v", ["\x1b[0;31mE\x1b[0m", "v"]), Finished("error", 1, 1)], "E\nv"),
        ([Error("E", "v", []), Finished("error", 1, 1)], "E: v"),
        ([ExecuteResult(1, {"text/plain": "p", "text/html": "h"}, {}), Finished("ok", 1, 1)], "p"),
        ([ExecuteResult(1, {"text/html": "<b>h</b>"}, {}), Finished("ok", 1, 1)], " h "),
        (
            [DisplayData({"text/plain": "<Figure>", "image/png": PNG}, {}), Finished("ok", 1, 1)],
            "<Figure>\n[shown to the user: image/png]",
        ),
        ([Truncated(7), Finished("ok", 1, 1)], "[7 bytes of output were dropped]"),
    ],
)
def test_the_model_gets_outputs_as_text(outputs: list[Output], expected: str) -> None:
    assert shown(*outputs).for_model(1000) == expected


@pytest.mark.parametrize(
    ("status", "words"), [("interrupted", "interrupted"), ("timeout", "too long"), ("died", "variables are gone")]
)
def test_the_model_is_told_of_an_end_that_is_not_the_codes(status: Any, words: str) -> None:
    assert words in shown(out("a\n"), Finished(status, 1, 1)).for_model(1000).splitlines()[-1]


def test_the_models_text_is_cut_in_the_middle() -> None:
    text = shown(out("a" * 5000), display("b" * 5000), Finished("ok", 1, 1)).for_model(1000)
    assert text.startswith("a" * 500 + "\n[... ") and text.endswith("\n" + "b" * 500)
    assert cut_in_the_middle("abc", 3) == "abc"
    assert cut_in_the_middle("abcd", 2) == "a\n[... 2 characters are left out here ...]\nd"


def test_a_model_that_sees_gets_the_last_pictures_that_are_not_too_large() -> None:
    pictures = [DisplayData({"image/png": f"{number}\n"}, {}) for number in range(MAX_IMAGES + 2)]
    huge = DisplayData({"image/png": "x" * (MAX_IMAGE_CHARS + 1)}, {})
    found = shown(*pictures, huge, DisplayData({"image/svg+xml": "<svg/>"}, {})).images()
    assert found == [f"data:image/png;base64,{number}" for number in range(2, MAX_IMAGES + 2)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\x1b[1;31mx\x1b[0m", "x"),
        ("\x1b[38;5;196mx\x1b[K", "x"),
        ("\x1b[?25lx", "x"),
        ("\x1b]8;;http://a\x1b\\x\x1b]8;;\x1b\\", "x"),
        ("\x1b]0;title\x07x", "x"),
        ("[31m is text", "[31m is text"),
    ],
)
def test_terminal_codes_are_removed(text: str, expected: str) -> None:
    assert without_ansi(text) == expected


def begun(turn: str, text: str = "", **more: Any) -> dict[str, Any]:
    return {"type": "turn", "turn": turn, "message": {"id": f"m-{turn}", "text": text or turn}, **more}


def answered(turn: str, text: str, **more: Any) -> dict[str, Any]:
    return {"type": "message", "turn": turn, "message": {"role": "assistant", "content": text}, **more}


def ended(turn: str, reason: str = "stop") -> dict[str, Any]:
    return {"type": "end", "turn": turn, "reason": reason}


def called(*ids: str) -> dict[str, Any]:
    calls = [{"id": name, "type": "function", "function": {"name": "python", "arguments": "{}"}} for name in ids]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def result(name: str, text: str = "r") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": name, "content": text}


@pytest.mark.parametrize(
    ("records", "turns"),
    [
        pytest.param([], [], id="nothing"),
        pytest.param([begun("a"), ended("a"), begun("b")], [("a", "stop"), ("b", None)], id="one after the other"),
        pytest.param([begun("a"), ended("a"), begun("b", drops="a")], [("b", None)], id="another answer"),
        pytest.param(
            [begun("a"), begun("b"), begun("c"), begun("d", drops="b")],
            [("a", None), ("d", None)],
            id="an earlier edit",
        ),
        pytest.param([begun("a"), begun("b", drops="unknown")], [("a", None), ("b", None)], id="drops what is unknown"),
        pytest.param([begun("a"), begun("b", continues="a"), ended("b")], [("b", "stop")], id="goes on"),
        pytest.param([begun("a"), begun("b", continues="gone")], [("a", None), ("b", None)], id="goes on from nothing"),
        pytest.param([answered("x", "lost"), ended("x"), begun("a")], [("a", None)], id="records of unknown turns"),
        pytest.param([{"type": "later"}, begun("a"), {}], [("a", None)], id="records of unknown types"),
        pytest.param(
            [begun("a"), begun("b", drops="a"), answered("a", "late"), ended("a")], [("b", None)], id="late records"
        ),
    ],
)
def test_records_fold_into_the_turns_that_count(
    records: list[dict[str, Any]], turns: list[tuple[str, str | None]]
) -> None:
    assert [(turn.id, turn.reason) for turn in folded(records)] == turns


def test_a_turn_that_goes_on_has_what_was_done_before() -> None:
    [turn] = folded(
        [
            begun("a"),
            {**answered("a", ""), "message": called("c1", "c2"), "executions": {"c1": "e1", "c2": "e2"}},
            {**answered("a", ""), "message": result("c1"), "shown": {"c1": {"x": 1}}},
            begun("b", continues="a"),
        ]
    )
    assert [call["id"] for call in turn.pending] == ["c2"]
    assert (turn.executions, turn.shown) == ({"c1": "e1", "c2": "e2"}, {"c1": {"x": 1}})
    assert turn.message_id == "m-b"
    assert [m["role"] for m in turn.for_model()] == ["user", "assistant", "tool", "tool"]
    assert turn.for_model()[-1] == result("c2", NOT_RUN)


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([called("a"), result("a")], [called("a"), result("a")]),
        ([called("a", "b"), result("b"), result("a")], [called("a", "b"), result("a"), result("b")]),
        ([called("a", "b"), result("b")], [called("a", "b"), result("a", NOT_RUN), result("b")]),
        ([result("a")], []),
        ([called("a"), called("b"), result("b"), result("a")], [called("a"), result("a"), called("b"), result("b")]),
    ],
)
def test_every_call_has_its_result_behind_it(messages: list[Any], expected: list[Any]) -> None:
    assert closed(messages) == expected


def test_the_last_turns_that_fit_are_kept_and_never_a_part_of_one() -> None:
    turns = [[{"role": "user", "content": name * 400}, called(name), result(name)] for name in "abcd"]
    one_tokens = sum(map(length_chars, turns[0])) // 4 + 1
    for room_tokens, left_out in [(4 * one_tokens, 0), (3 * one_tokens, 1), (2 * one_tokens, 2), (1, 3)]:
        messages, told_left_out = fitted(turns, room_tokens)
        assert told_left_out == left_out
        assert messages == [message for turn in turns[left_out:] for message in turn]
    assert fitted([], 10) == ([], 0)


def test_a_picture_takes_less_room_than_its_text() -> None:
    parts = [{"type": "text", "text": "ab"}, {"type": "image_url", "image_url": {"url": "data:" + "x" * 10**6}}]
    assert 2 < length_chars({"role": "user", "content": parts}) < 10_000


def ui(*messages: Any, **fields: Any) -> UiRequest:
    return decode_ui_request({"id": "c1", "messages": list(messages), **fields}, max_message_chars=100)


def message(text: str, role: str = "user", **more: Any) -> dict[str, Any]:
    return {"id": "m", "role": role, "parts": [{"type": "text", "text": text}], **more}


def attached(url: str, **more: Any) -> dict[str, Any]:
    return {"id": "m", "role": "user", "parts": [{"type": "file", "url": url, **more}]}


def test_only_the_last_user_message_is_asked_and_only_texts_of_the_earlier_are_known() -> None:
    tool = {"type": "tool-python", "toolCallId": "t", "state": "output-available", "input": {}, "output": "believe me"}
    wanted = ui(
        message("rules", "system"),
        message("one"),
        {"id": "a", "role": "assistant", "parts": [tool, {"type": "text", "text": "two"}]},
        {"id": "b", "role": "assistant", "parts": [tool]},
        message("three"),
        message("later", "assistant"),
    )
    assert (wanted.text, wanted.message_id, wanted.trigger, wanted.about) == ("three", "m", "submit-message", None)
    assert wanted.earlier == ({"role": "user", "content": "one"}, {"role": "assistant", "content": "two"})


def test_parts_of_a_message_are_joined_and_lone_surrogates_do_no_harm() -> None:
    parts = [{"type": "text", "text": "a\ud800"}, {"type": "data-page", "data": 1}, {"type": "text", "text": "b"}]
    assert ui({"role": "user", "parts": parts}).text == "a?\n\nb"


@pytest.mark.parametrize(
    ("url", "content"),
    [
        (f"data:text/csv;base64,{base64.b64encode(b'a,b').decode()}", b"a,b"),
        ("data:text/plain,a%20b", b"a b"),
        ("data:,", b""),
    ],
)
def test_a_file_in_a_message_is_taken(url: str, content: bytes) -> None:
    [file] = ui(attached(url, filename="d.csv", mediaType="text/csv")).files
    assert (file.name, file.content) == ("d.csv", content)


@pytest.mark.parametrize(
    ("document", "error", "words"),
    [
        ([], InvalidRequest, "JSON object"),
        ({"messages": [message("x")]}, InvalidRequest, "id"),
        ({"id": "../x", "messages": [message("x")]}, InvalidRequest, "id"),
        ({"id": "c", "messages": []}, InvalidRequest, "at least one"),
        ({"id": "c", "messages": "x"}, InvalidRequest, "array"),
        ({"id": "c", "messages": [message("x", "assistant")]}, InvalidRequest, "'user'"),
        ({"id": "c", "messages": [message("x", "tool")]}, InvalidRequest, "roles"),
        ({"id": "c", "messages": ["x"]}, InvalidRequest, "roles"),
        ({"id": "c", "messages": [message("x", id=5)]}, InvalidRequest, "id"),
        ({"id": "c", "messages": [message("x", id="i" * 201)]}, InvalidRequest, "200"),
        ({"id": "c", "messages": [message(" \n")]}, InvalidRequest, "text or a file"),
        ({"id": "c", "messages": [{"role": "user"}]}, InvalidRequest, "parts"),
        ({"id": "c", "messages": [{"role": "user", "parts": ["x"]}]}, InvalidRequest, "type"),
        ({"id": "c", "messages": [{"role": "user", "parts": [{"type": "text"}]}]}, InvalidRequest, "string"),
        ({"id": "c", "messages": [{"role": "user", "parts": [{"type": "tool-x"}]}]}, InvalidRequest, "tool-x"),
        ({"id": "c", "messages": [message("x")], "trigger": "go"}, InvalidRequest, "trigger"),
        ({"id": "c", "messages": [message("x")], "messageId": 5}, InvalidRequest, "messageId"),
        ({"id": "c", "messages": [message("x" * 101)]}, TooLarge, "101"),
        ({"id": "c", "messages": [attached("https://a.example/x")]}, UnsupportedType, "data: URL"),
        ({"id": "c", "messages": [attached("file:///etc/passwd")]}, UnsupportedType, "data: URL"),
        ({"id": "c", "messages": [attached("data:text/plain;base64,?")]}, InvalidRequest, "base64"),
        ({"id": "c", "messages": [attached("data:text/plain")]}, InvalidRequest, "data: URL"),
    ],
)
def test_a_wrong_chat_request_is_refused_with_what_was_expected(
    document: object, error: type[CaesarionError], words: str
) -> None:
    with pytest.raises(error) as refused:
        decode_ui_request(document, max_message_chars=100)
    assert words in refused.value.message


def completion(*messages: Any, header: str | None = None, **fields: Any) -> Any:
    document = checked_document({"messages": list(messages), **fields}, MODELS)
    return decode_completion(document, header, max_message_chars=100)


def of(role: str, content: Any) -> dict[str, Any]:
    return {"role": role, "content": content}


@pytest.mark.parametrize(
    ("fields", "header", "lines", "session"),
    [
        ({"session": "body"}, "header", ["line"], "body"),
        ({}, "header", ["line"], "header"),
        ({}, None, ["old", "line"], "line"),
    ],
)
def test_the_session_is_the_one_that_is_named_most_plainly(
    fields: dict[str, Any], header: str | None, lines: list[str], session: str
) -> None:
    said = [m for name in lines for m in (of("user", "q"), of("assistant", "a" + session_line(name)))]
    wanted = completion(*said, of("user", "q"), header=header, **fields)
    assert (wanted.session, wanted.new) == (session, False)
    assert [m["content"] for m in wanted.messages if m["role"] == "assistant"] == ["a"] * len(lines)


@pytest.mark.parametrize(
    "messages",
    [
        [of("user", "q")],
        [of("user", "q" + session_line("mine"))],
        [of("user", "q"), of("assistant", session_line("mine") + "\nand more"), of("user", "q")],
        [of("user", "q"), of("assistant", "[//]: # (session ../x)"), of("user", "q")],
    ],
)
def test_without_a_session_that_is_named_a_new_one_is_made(messages: list[Any]) -> None:
    wanted = completion(*messages)
    assert wanted.new and wanted.session != completion(*messages).session


def test_a_key_stands_for_the_session_that_is_made_for_it() -> None:
    document = checked_document({"messages": [of("user", "q")]}, MODELS)
    made = [decode_completion(document, None, key, max_message_chars=100) for key in ("k", "k", "other")]
    assert all(wanted.new for wanted in made)
    assert made[0].session == made[1].session != made[2].session
    assert decode_completion(document, "named", "k", max_message_chars=100).session == "named"


def test_an_answer_of_nothing_but_the_line_leaves_no_empty_message() -> None:
    wanted = completion(of("user", "a"), of("assistant", session_line("s")), of("user", "b"))
    assert [m["content"] for m in wanted.messages] == ["a", "b"]


def test_parts_and_developers_are_taken() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    wanted = completion(of("developer", "rules"), of("user", parts), model="small", stream=True)
    assert wanted.messages == (of("system", "rules"), of("user", "a\n\nb"))
    assert (wanted.model, wanted.stream, wanted.include_usage) == ("small", True, False)


@pytest.mark.parametrize(
    ("document", "error", "words"),
    [
        ("x", InvalidRequest, "JSON object"),
        ({"messages": []}, InvalidRequest, "at least one"),
        ({"messages": [of("user", "x")], "model": "no"}, NotFound, "'no'"),
        ({"messages": [of("user", "x")], "model": 5}, NotFound, "'5'"),
        ({"messages": [of("user", "x")], "stream": "yes"}, InvalidRequest, "stream"),
        ({"messages": [of("user", "x")], "stream_options": 5}, InvalidRequest, "stream_options"),
        ({"messages": [of("user", "x")], "session": "../x"}, InvalidRequest, "id"),
        ({"messages": [of("user", "x")], "session": 5}, InvalidRequest, "id"),
        ({"messages": ["x"]}, InvalidRequest, "role"),
        ({"messages": [of("robot", "x")]}, InvalidRequest, "'robot'"),
        ({"messages": [of("tool", "x")]}, InvalidRequest, "`tools` only"),
        ({"messages": [of("user", 5)]}, InvalidRequest, "a string or an array"),
        ({"messages": [of("user", [{"type": "image_url"}])]}, InvalidRequest, "'image_url'"),
        ({"messages": [of("user", ["x"])]}, InvalidRequest, "text"),
        ({"messages": [of("user", "x" * 101)]}, TooLarge, "101"),
        ({"messages": [of("user", "")]}, InvalidRequest, "role 'user'"),
        ({"messages": [of("user", "x"), of("assistant", "y")]}, InvalidRequest, "role 'user'"),
    ],
)
def test_a_wrong_completion_request_is_refused_with_what_was_expected(
    document: object, error: type[CaesarionError], words: str
) -> None:
    with pytest.raises(error) as refused:
        decode_completion(checked_document(document, MODELS), None, max_message_chars=100)
    assert words in refused.value.message


def test_a_request_with_tools_of_its_own_goes_on_as_it_is() -> None:
    asked = {
        "messages": [of("user", [{"type": "image_url"}]), of("tool", "x")],
        "tools": [{"type": "function"}],
        "tool_choice": "auto",
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
        "session": "s",
        "stop": None,
    }
    document = checked_document(asked, MODELS)
    assert wants_own_tools(document)
    expected = {name: value for name, value in asked.items() if name not in ("stream", "session", "stop")}
    assert passed_on(document) == {**expected, "model": "gpt-4.1"}
    assert not wants_own_tools({"tools": []})


@pytest.mark.parametrize("text", ["plain", "```", "a\n```python\nb\n```\n", "`````", "`" * 50 + "\n" + "`" * 49])
def test_no_output_can_close_its_fence(text: str) -> None:
    first, *lines, last = fenced(text, "python").split("\n")
    assert first == last + "python" and set(last) == {"`"} and len(last) >= 3
    assert "\n".join(lines) == text.rstrip()
    assert not any(last in line for line in lines)


def output_chunk(*outputs: dict[str, Any], status: str = "ok", **more: Any) -> dict[str, Any]:
    return {
        "type": "tool-output-available", "toolCallId": "c", "output": {"status": status, "outputs": outputs}, **more
    }  # fmt: skip


def as_markdown(*chunks: dict[str, Any]) -> str:
    markdown = Markdown("http://here")
    return "".join(map(markdown.text, chunks))


CODE = {"type": "tool-input-available", "toolCallId": "c", "toolName": "python", "input": {"code": "print(1)"}}


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ({"type": "stream", "name": "stdout", "text": "1\n"}, "```\n1\n```"),
        ({"type": "stream", "name": "stdout", "text": "\x1b[31m1\x1b[0m"}, "```\n1\n```"),
        ({"type": "error", "ename": "E", "evalue": "v", "traceback": ["\x1b[31mE", "v"]}, "```\nE\nv\n```"),
        ({"type": "truncated", "dropped_bytes": 5}, "> 5 bytes of output were dropped."),
        ({"type": "execute_result", "data": {"text/plain": "2"}}, "```\n2\n```"),
        ({"type": "display_data", "data": {"text/markdown": "# x", "text/plain": "y"}}, "```markdown\n# x\n```"),
        (
            {"type": "display_data", "data": {"text/plain": "fig"}, "urls": {"image/png": "/p"}},
            "![picture](http://here/p)",
        ),
        ({"type": "display_data", "data": {}, "urls": {"text/html": "/h"}}, "[text/html](http://here/h)"),
    ],
)
def test_code_and_outputs_become_markdown(output: dict[str, Any], expected: str) -> None:
    said = {"type": "text-delta", "id": "p", "delta": "So:"}
    text = as_markdown(said, CODE, output_chunk({"type": "x"}, preliminary=True), output_chunk(output))
    assert text == f"So:\n\n```python\nprint(1)\n```\n\n{expected}\n\n"


def test_what_is_not_for_readers_of_markdown_stays_out() -> None:
    other = {"type": "tool-input-available", "toolCallId": "w", "toolName": "get_weather", "input": {"place": "x"}}
    result = {"type": "tool-output-available", "toolCallId": "w", "output": {"place": "x"}}
    thought = {"type": "reasoning-delta", "id": "r", "delta": "hm"}
    assert as_markdown({"type": "start-step"}, thought, other, result, {"type": "finish-step"}) == ""


def test_failures_and_ends_are_told_in_markdown() -> None:
    assert as_markdown(CODE, output_chunk(status="died")).endswith("> The code ended as: died.\n\n")
    failed = {"type": "tool-output-error", "toolCallId": "c", "errorText": "No."}
    assert as_markdown(failed) == "> No.\n\n"
    assert as_markdown({"type": "data-notice", "data": {"text": "Long."}}) == "> Long.\n\n"


def test_a_long_output_is_cut_in_markdown() -> None:
    text = as_markdown(CODE, output_chunk({"type": "stream", "name": "stdout", "text": "x" * 10**6}))
    assert len(text) < MAX_OUTPUT_CHARS + 300 and "characters are left out here" in text
