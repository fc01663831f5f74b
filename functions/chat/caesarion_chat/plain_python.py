"""The model of a product without a model: what is typed runs as Python, and the answer says how to give a key."""

import json
from collections.abc import AsyncGenerator, Sequence

from caesarion_chat.model import Finished, Message, ModelEvent, TextDelta, ToolCallDelta, ToolSpec

HOW_TO_GIVE_A_KEY = (
    "No model is configured, so what you type runs as Python. To talk with a model, start with `OPENAI_API_KEY=...`, "
    "or with `OPENAI_BASE_URL=...` for another endpoint that speaks OpenAI's chat completions; "
    "`CAESARION_MODEL` names the model."
)


class PlainPython:
    """Calls the tool `python` with the user's text, once."""

    async def stream(
        self, name: str, messages: Sequence[Message], tools: Sequence[ToolSpec]
    ) -> AsyncGenerator[ModelEvent, None]:
        """Yield a tool call for a user's message, and words once it has run."""
        asked = max(i for i, each in enumerate(messages) if each["role"] == "user" and isinstance(each["content"], str))
        calls = [call for each in messages[asked:] for call in each.get("tool_calls") or ()]
        if not any(call["function"]["name"] == "python" for call in calls):
            yield ToolCallDelta(0, "", "python", json.dumps({"code": messages[asked]["content"]}))
            yield Finished("tool-calls")
            return
        if all(each["content"] != HOW_TO_GIVE_A_KEY for each in messages):  # once a conversation
            yield TextDelta(HOW_TO_GIVE_A_KEY)
        yield Finished("stop")
