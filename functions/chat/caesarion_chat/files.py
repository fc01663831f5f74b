"""A session's files as the model is told of them: names, types, sizes and first rows. They stay data of a tool."""

import asyncio
from collections.abc import Collection
from typing import Any

from caesarion.adapters.sessions import Sessions
from caesarion.ids import SessionKey

MAX_FILES = 50
PREVIEWED = 10
PREVIEW_BYTES = 1200
PREVIEW_LINES = 4
TEXT_ENDINGS = (".csv", ".tsv", ".txt", ".json", ".jsonl", ".py", ".md")


async def listing(sessions: Sessions, key: SessionKey) -> list[dict[str, Any]]:
    """Return the files with the first lines of those that are text, the newest `MAX_FILES` of them."""
    _, document = await sessions.call(key, "GET", "/v1/files")
    files = sorted(document["files"], key=lambda file: str(file["modified_at"]), reverse=True)[:MAX_FILES]
    seen = [file for file in files if file["path"].lower().endswith(TEXT_ENDINGS) and file["size_bytes"]][:PREVIEWED]
    heads = await asyncio.gather(*(_head(sessions, key, file["path"]) for file in seen))
    for file, head in zip(seen, heads, strict=True):
        if head:
            file["first_lines"] = head
    return files


def versions(files: Collection[dict[str, Any]]) -> dict[str, str]:
    """Return what tells a file from its later self, by path."""
    return {file["path"]: f"{file['size_bytes']}:{file['modified_at']}" for file in files}


def listing_text(files: Collection[dict[str, Any]], new: Collection[str]) -> str:
    """Return the list as the model gets it; `new` are the paths that came since it last heard of them."""
    if not files:
        return "There are no files in /uploaded_files."
    lines = ["Files in /uploaded_files:"]
    for file in files:
        mark = " (new since the last turn)" if file["path"] in new else ""
        lines.append(f"- {file['path']!r}: {file['media_type']}, {file['size_bytes']} bytes{mark}")
        lines += [f"    {line}" for line in file.get("first_lines", ())]
    return "\n".join(lines)


async def _head(sessions: Sessions, key: SessionKey, path: str) -> list[str]:
    headers = {"Range": f"bytes=0-{PREVIEW_BYTES - 1}"}
    async with sessions.stream(key, "GET", f"/v1/files/{path}", headers=headers, passed=(404, 416)) as answer:
        content = b"".join([chunk async for chunk in answer.chunks()])[:PREVIEW_BYTES]
        if answer.status not in (200, 206) or b"\0" in content:
            return []
    return content.decode("utf-8", "replace").splitlines()[:PREVIEW_LINES]
