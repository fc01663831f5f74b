"""`caesarion repl`: a prompt for Python whose kernel is elsewhere. prompt_toolkit is imported when it starts."""

import contextlib
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from caesarion.ids import DEFAULT_CONTEXT
from caesarion.settings import default_home
from caesarion_cli import standard
from caesarion_cli.client import Api, Execution
from caesarion_cli.failures import PLATFORM_FAILED, Failure, failures_told, note, tell
from caesarion_cli.options import DEFAULT_URL, Context, SaveDir, Session, Url, connected
from caesarion_cli.pictures import PictureFolder
from caesarion_cli.run import follow, session_for, this_terminal
from caesarion_cli.show import Show

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import CompleteEvent, Completion
    from prompt_toolkit.document import Document
    from prompt_toolkit.history import History
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

COMPLETION_DEADLINE_S = 60.0  # the first one makes the kernel load what it completes with; typing goes on meanwhile
ENTER_DEADLINE_S = 5.0  # nothing can be typed meanwhile, and a kernel that is busy does not answer
INDENT = 4
LEAVING = frozenset({"exit", "quit", "exit()", "quit()"})


def repl(
    session: Session = None, context: Context = DEFAULT_CONTEXT, save_dir: SaveDir = Path(), url: Url = DEFAULT_URL
) -> None:
    """Type Python and see what it says; Ctrl-D leaves.

    Tab completes, Ctrl-C interrupts what runs or clears what is typed. Without --session the variables are gone at the
    end. Pictures are saved as picture-1.png and so on, and shown where the terminal can.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        print("caesarion: the prompt needs a terminal; `caesarion run -` runs what comes from a pipe.", file=sys.stderr)
        raise typer.Exit(2)
    with failures_told(), connected(url) as api, session_for(api, session) as session_id:
        api.add_context(session_id, context)
        kept = "" if session is None else ", kept"
        print(f"Session {session_id} at {api.url}{kept}; Ctrl-D leaves.")
        Prompt(Kernel(api, session_id, context), PictureFolder(save_dir, "picture")).loop()


class Kernel:
    """A context as a prompt needs it: it answers in time, or not at all."""

    def __init__(self, api: Api, session: str, context: str) -> None:
        self.api = api
        self.session = session
        self.context = context

    def next_count(self) -> int:
        """Return the number that the next code gets. Raises Failure."""
        contexts = self.api.session(self.session).get("contexts", ())
        return next((int(c["execution_count"]) for c in contexts if c["name"] == self.context), 0) + 1

    def expects_more(self, code: str) -> str | None:
        """Return the indentation of the line that has to follow, or None when the code can run, or nobody can tell."""
        with contextlib.suppress(Failure):
            answer = self.api.is_complete(self.session, self.context, code, timeout_s=ENTER_DEADLINE_S)
            if answer["status"] == "incomplete":
                return str(answer.get("indent", ""))
        return None

    def completions(self, code: str, cursor_pos: int) -> tuple[int, list[str]]:
        """Return what could stand at the cursor, and where that begins, before it: 0 or less."""
        with contextlib.suppress(Failure):
            answer = self.api.complete(self.session, self.context, code, cursor_pos, timeout_s=COMPLETION_DEADLINE_S)
            return min(0, int(answer["cursor_start"]) - cursor_pos), list(answer["matches"])
        return 0, []


class Prompt:
    """Reads code, runs it, shows what it says, until Ctrl-D."""

    def __init__(self, kernel: Kernel, pictures: PictureFolder) -> None:
        self._kernel = kernel
        self._pictures = pictures
        self._count = kernel.next_count()
        self._reading = _reading(kernel)

    def loop(self) -> None:
        """Return when the user leaves."""
        while True:
            try:
                code = self._read()
                if code.strip() in LEAVING:
                    return
                if code.strip():
                    self._run(code)
            except KeyboardInterrupt:
                continue
            except EOFError:
                return

    def _read(self) -> str:
        head = f"In [{self._count}]: "
        return self._reading.prompt(head, prompt_continuation="...: ".rjust(len(head)))

    def _run(self, code: str) -> None:
        kernel = self._kernel
        execution = Execution(kernel.api, kernel.session, code, context=kernel.context, noted=note)
        show = Show(standard.output(), standard.errors(), this_terminal(), self._pictures, numbered=True)
        try:
            follow(execution, lambda _, output: show.output(output))
        except KeyboardInterrupt:
            show.end_line()
            note("not waiting for the code any more; what is typed next runs after it")
        except Failure as failure:
            show.end_line()
            tell(failure)
            if failure.code == "session_not_found":
                raise typer.Exit(PLATFORM_FAILED) from None
        show.end_line()
        with contextlib.suppress(Failure):
            self._count = kernel.next_count()


def _reading(kernel: Kernel) -> "PromptSession[str]":
    """Return the line editor: history, completion by Tab, further lines as long as the kernel expects them."""
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import Completer, Completion

    class FromKernel(Completer):
        """Asks the kernel what could stand at the cursor."""

        def get_completions(self, document: "Document", complete_event: "CompleteEvent") -> "Iterable[Completion]":
            start, matches = kernel.completions(document.text, document.cursor_position)
            for match in matches:
                yield Completion(match, start_position=start)

    return PromptSession(
        history=_history(),
        completer=FromKernel(),
        complete_while_typing=False,
        complete_in_thread=True,
        multiline=True,
        key_bindings=_key_bindings(kernel),
    )


def _key_bindings(kernel: Kernel) -> "KeyBindings":
    from prompt_toolkit.application.current import get_app
    from prompt_toolkit.enums import DEFAULT_BUFFER
    from prompt_toolkit.filters import Condition, has_completions, has_focus
    from prompt_toolkit.key_binding import KeyBindings

    bindings = KeyBindings()
    typing = has_focus(DEFAULT_BUFFER)

    @Condition
    def at_line_start() -> bool:
        return not get_app().current_buffer.document.current_line_before_cursor.strip()

    @bindings.add("enter", filter=typing & ~has_completions)
    def _enter(event: "KeyPressEvent") -> None:
        """Run the code, or go on with a further line.

        The kernel is asked while keys wait: what is typed ahead must not come before the line that it says follows.
        """
        buffer = event.current_buffer
        document = buffer.document
        if document.text_after_cursor.strip():
            buffer.newline()
            return
        indent = kernel.expects_more(document.text) if document.text.strip() else None
        if indent is None:
            buffer.validate_and_handle()
        else:
            buffer.insert_text(f"\n{indent}")

    @bindings.add("enter", filter=typing & has_completions)
    def _take(event: "KeyPressEvent") -> None:
        """Keep the completion that is chosen and go on typing."""
        event.current_buffer.complete_state = None

    @bindings.add("tab", filter=typing & at_line_start)
    def _indent(event: "KeyPressEvent") -> None:
        buffer = event.current_buffer
        buffer.insert_text(" " * (INDENT - buffer.document.cursor_position_col % INDENT))

    return bindings


def _history() -> "History":
    """Return what was typed before, kept for this user only; without a place for it, just of this time."""
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    path = Path(default_home(os.environ)) / "history"
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
    except OSError:
        return InMemoryHistory()
    return FileHistory(path)
