"""Asks about a CSV with OpenAI's own client: `python examples/04_ask_with_openai.py sales.csv ["question"]`.

The product answers at its own address as if it were OpenAI's. Code runs in the session's sandbox: the second question
finds the variables of the first. CAESARION_URL names another address than http://127.0.0.1:8080; CAESARION_API_KEY is
the key, where one is needed.
"""

import os
import sys
from pathlib import Path

import httpx
from openai import OpenAI
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam

URL = os.environ.get("CAESARION_URL", "http://127.0.0.1:8080")
KEY = os.environ.get("CAESARION_API_KEY", "none")
QUESTION = "Which region grew fastest? Show it."


def main(path: Path, question: str) -> None:
    """Upload the file into a new session, ask, and ask again."""
    with httpx.Client(base_url=URL, headers={"Authorization": f"Bearer {KEY}"}, timeout=60) as http:
        session = http.post("/sessions").raise_for_status().json()["id"]
        with path.open("rb") as file:
            http.post(f"/sessions/{session}/files", files={"file": (path.name, file)}).raise_for_status()
    client = OpenAI(base_url=f"{URL}/v1", api_key=KEY)
    model = client.models.list().data[0].id
    messages: list[ChatCompletionMessageParam] = []
    for text in (question, "And in one sentence?"):
        messages.append({"role": "user", "content": text})
        print(f"> {text}")
        answer = ""
        stream = client.chat.completions.create(
            model=model, messages=messages, stream=True, extra_headers={"X-Session-Id": session}
        )
        for chunk in stream:
            assert isinstance(chunk, ChatCompletionChunk)
            piece = chunk.choices[0].delta.content or "" if chunk.choices else ""
            answer += piece
            print(piece, end="", flush=True)
        print()
        messages.append({"role": "assistant", "content": answer})


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) == 3 else QUESTION)
