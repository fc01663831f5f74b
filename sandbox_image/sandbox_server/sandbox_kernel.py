"""The kernel class: IPython's, and what the server asks of it besides running code.

An execution may bring variables, as JSON beside its code, so that no value is ever formatted into code. They are set
before the code runs. Two messages of ours have all variables written to a file and read from one.
"""

import json
import sys
import traceback
import unicodedata
from typing import Any, ClassVar

from ipykernel.ipkernel import IPythonKernel

from sandbox_server import namespace


class SandboxKernel(IPythonKernel):
    """IPython's kernel, with variables beside the code and messages that save and load them all."""

    msg_types: ClassVar[list[str]] = [*IPythonKernel.msg_types, "namespace_save_request", "namespace_load_request"]

    async def namespace_save_request(self, stream: Any, ident: Any, parent: dict[str, Any]) -> None:
        reply = namespace.answer_save(self.shell, parent["content"])
        self.session.send(stream, "namespace_save_reply", reply, parent, ident=ident)

    async def namespace_load_request(self, stream: Any, ident: Any, parent: dict[str, Any]) -> None:
        reply = namespace.answer_load(self.shell, parent["content"])
        self.session.send(stream, "namespace_load_reply", reply, parent, ident=ident)

    async def do_execute(self, code: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        content = self.get_parent("shell").get("content", {})
        variables_json = content.pop("variables_json", "") if isinstance(content, dict) else ""
        if variables_json:
            try:
                self._set_variables(variables_json)
            except BaseException:  # an interrupt too: who asked for it waits for the reply
                return self._failed()
        reply: dict[str, Any] = await super().do_execute(code, *args, **kwargs)
        return reply

    def _set_variables(self, variables_json: str) -> None:
        for name, value in json.loads(variables_json).items():
            self.shell.user_ns[unicodedata.normalize("NFKC", name)] = value  # as Python reads names in code

    def _failed(self) -> dict[str, Any]:
        """Tell the exception being handled as the code's own, and return the reply for it."""
        error = sys.exc_info()[1]
        told = {
            "ename": type(error).__name__,
            "evalue": f"the execution's variables could not be set: {error}",
            "traceback": traceback.format_exception_only(error),
        }
        self.send_response(self.iopub_socket, "error", told)
        return {"status": "error", "execution_count": self.execution_count, **told}
