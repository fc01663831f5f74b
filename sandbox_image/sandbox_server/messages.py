"""From Jupyter's IOPub messages to outputs. Pure. Source: Jupyter messaging, "Messages on the IOPub channel"."""

from typing import Any

from caesarion.outputs import ClearOutput, DisplayData, Error, ExecuteResult, Output, Stream, UpdateDisplayData


def output_of(message: dict[str, Any]) -> Output | None:
    """Return the output that an IOPub message stands for, or None when it is about something else (status, comms)."""
    content = message["content"]
    match message["msg_type"]:
        case "stream":
            return Stream(content["name"], collapsed(content["text"]))
        case "display_data":
            return DisplayData(content["data"], content["metadata"], _display_id(content))
        case "update_display_data":
            return UpdateDisplayData(content["data"], content["metadata"], _display_id(content))
        case "execute_result":
            return ExecuteResult(content["execution_count"], content["data"], content["metadata"], _display_id(content))
        case "error":
            return Error(content["ename"], content["evalue"], content["traceback"])
        case "clear_output":
            return ClearOutput(content["wait"])
        case _:
            return None


def pages_of(reply: dict[str, Any]) -> list[DisplayData]:
    """Return what an execute_reply would have a pager show, such as the help that ``len?`` asks for.

    Source: Jupyter messaging, "Payloads".
    """
    payload = [item for item in reply.get("payload") or [] if isinstance(item, dict)]
    return [DisplayData(item["data"], {}) for item in payload if item.get("source") == "page" and item.get("data")]


def collapsed(text: str) -> str:
    r"""Return stream text without what a terminal would have overwritten: of ``"1%\r2%\r3%"`` the ``"\r3%"`` stays.

    A progress bar then costs what is seen of it, not what was written. The carriage return before the kept text stays
    too, so that it overwrites what an earlier piece left on the line.
    """
    if "\r" not in text:
        return text
    return "\n".join(map(_collapsed_line, text.split("\n")))


def _collapsed_line(line: str) -> str:
    # By searches alone: a pattern that looks for the next carriage return from every character is quadratic.
    seen = line.rstrip("\r")
    return seen[max(0, seen.rfind("\r")) :] + line[len(seen) : len(seen) + 1]


def _display_id(content: dict[str, Any]) -> str | None:
    transient = content.get("transient") or {}
    display_id = transient.get("display_id")
    return display_id if isinstance(display_id, str) else None
