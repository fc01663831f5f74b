"""A chat as its user meets it: a question, code that runs, an answer."""

from tests.chat.conftest import chat_product, outputs_of, said
from tests.chat.scripted_model import Call, CallTools, Say
from tests.conftest import ProductServer


def test_the_model_answers_with_code_that_ran(server: ProductServer) -> None:
    steps = [CallTools([Call("python", {"code": "x = 6\nprint(x * 7)"})]), Say("It is **42**.")]
    with chat_product(server, steps) as product:
        chunks = product.chat().ask("what is 6 times 7?")
        assert chunks[-1]["type"] == "finish"
        assert said(chunks) == "It is **42**."
        assert outputs_of(chunks)[0]["outputs"][0]["text"] == "42\n"
        results = [m for m in product.model.requests[1].body["messages"] if m["role"] == "tool"]
        assert results[-1]["content"] == "42\n"


def test_the_next_turn_knows_the_history_and_the_variables(server: ProductServer) -> None:
    steps = [
        CallTools([Call("python", {"code": "x = 6"})]),
        Say("Done."),
        CallTools([Call("python", {"code": "print(x)"})]),
        Say("6."),
    ]
    with chat_product(server, steps) as product:
        chat = product.chat()
        chat.ask("set x")
        chunks = chat.ask("show x")
        assert outputs_of(chunks)[0]["outputs"][0]["text"] == "6\n"
        roles = [message["role"] for message in product.model.requests[2].body["messages"]]
        assert roles == ["system", "user", "assistant", "tool", "assistant", "user"]
