"""`python`: code in the session's kernel, its outputs shown while it runs."""

import asyncio
import contextlib
import json
import time
from typing import Any, ClassVar
from urllib.parse import quote

from caesarion.adapters.runs import Following, RunRequest
from caesarion.errors import CaesarionError
from caesarion.ids import DEFAULT_CONTEXT
from caesarion.outputs import decode_output
from caesarion_chat.shown import Shown
from caesarion_chat.tools.tool import ToolContext, ToolFailed, ToolResult, required_text

SHOWN_EVERY_S = 0.1
SLOWEST_S = 1.0
SLOWING = 60.0  # after a minute a state is shown each second


class Python:
    """Runs code. The kernel keeps its variables from call to call."""

    name: ClassVar[str] = "python"
    description: ClassVar[str] = (
        "Run Python code in the user's own sandbox. It is a Jupyter kernel: variables, imports and files stay "
        "from call to call, the value of the last expression is shown, and the user sees all outputs at once. "
        "The working directory is /uploaded_files, where the user's files are; what is put there can be downloaded. "
        "numpy, pandas, matplotlib, seaborn, plotly, altair, scipy, scikit-learn, sympy, openpyxl, pyarrow and pillow "
        "are installed."
    )
    parameters: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {"code": {"type": "string", "description": "The code to run."}},
        "required": ["code"],
        "additionalProperties": False,
    }
    ends_when_stopped: ClassVar[bool] = True

    async def run(self, arguments: dict[str, Any], context: ToolContext) -> ToolResult:
        """Run the code once, however often this call is tried, and follow it to its end."""
        request = RunRequest(
            id=context.execution,
            code=required_text(arguments, "code"),
            context=DEFAULT_CONTEXT,
            timeout_s=None,
            keyed=True,
        )
        shown = Shown(context.execution)
        async with context.kernel:
            if context.stopping.is_set():
                raise ToolFailed("Not run: the user stopped the turn.")
            following = await context.runs.begin(await context.sandbox(), request)
            stopping = asyncio.ensure_future(_interrupt_when_stopped(context))
            try:
                await _followed(following, shown, context)
            finally:
                stopping.cancel()
                await asyncio.wait({stopping})
                await following.aclose()
        text = shown.for_model(context.settings.tool_text_chars)
        return ToolResult(_told(shown, context), text, tuple(shown.images()))


async def _followed(following: Following, shown: Shown, context: ToolContext) -> None:
    """Fold the outputs, and show the state now and then: the first at once, then ever less often."""
    began_s = time.monotonic()
    shown_s = 0.0
    later: asyncio.TimerHandle | None = None
    loop = asyncio.get_running_loop()

    def show() -> None:
        nonlocal shown_s, later
        if later is not None:
            later.cancel()
        later = None
        shown_s = time.monotonic()
        context.show(_told(shown, context))

    try:
        async with contextlib.aclosing(following.lines()) as blocks:
            async for block in blocks:
                before = len(shown.items)
                for line in block.splitlines():
                    record = json.loads(line)
                    shown.add(record["seq"], decode_output(record))
                if shown.status not in ("queued", "running"):
                    continue
                every_s = min(SLOWEST_S, max(SHOWN_EVERY_S, (time.monotonic() - began_s) / SLOWING))
                due_s = shown_s + every_s - time.monotonic()
                if due_s <= 0 or (shown.items and not before):
                    show()
                elif later is None:
                    later = loop.call_later(due_s, show)
    finally:
        if later is not None:
            later.cancel()


async def _interrupt_when_stopped(context: ToolContext) -> None:
    await context.stopping.wait()
    with contextlib.suppress(CaesarionError):
        await context.sessions.call(context.key, "DELETE", f"/v1/executions/{context.execution}")


def _told(shown: Shown, context: ToolContext) -> dict[str, Any]:
    path = f"/sessions/{context.key.session}/executions/{context.execution}/outputs"
    return shown.for_user(lambda seq, kind: f"{path}/{seq}?form={quote(kind, safe='')}")
