"""`caesarion chat`: talk with the AI that runs Python, at a prompt or once.

prompt_toolkit is imported when the prompt starts.
"""

import contextlib
import hashlib
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from caesarion.ids import new_id
from caesarion.settings import default_home
from caesarion_cli import standard
from caesarion_cli.chat_chunks import End, TurnReader
from caesarion_cli.chat_show import ChatShow
from caesarion_cli.chat_stream import Turn, content_at
from caesarion_cli.client import Api
from caesarion_cli.failures import CODE_FAILED, INTERRUPTED, PLATFORM_FAILED, Failure, failures_told, note, tell
from caesarion_cli.interrupts import first_ctrl_c
from caesarion_cli.listings import moment, size, table
from caesarion_cli.options import DEFAULT_URL, AsJson, SaveDir, Session, Url, connected
from caesarion_cli.pictures import PictureFolder
from caesarion_cli.run import session_for, this_terminal
from caesarion_cli.transfers import put, save, target_of, uploads_of

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession

EXITS = {"finish": 0, "error": CODE_FAILED, "abort": INTERRUPTED}
COMMANDS = {
    "/file PATH...": "upload files, so that the code can open them by name",
    "/files": "list the session's files",
    "/save PATH": "download a file of the session to here",
    "/session": "say which session this is",
    "/retry": "ask the last question again",
    "/help": "list these commands",
    "/quit": "leave, as Ctrl-D does",
}
HELP = "\n".join(f"  {usage:14}  {meaning}" for usage, meaning in COMMANDS.items())


def chat(
    message: Annotated[
        str | None, typer.Option("-m", "--message", metavar="TEXT", help="Ask this once and leave.")
    ] = None,
    session: Session = None,
    files: Annotated[
        list[Path] | None,
        typer.Option("--file", metavar="PATH", exists=True, readable=True, help="Upload this first; may be repeated."),
    ] = None,
    save_dir: SaveDir = Path(),
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Talk with an AI that runs Python in the session; /help lists commands, Ctrl-D leaves.

    With -m, or a question from a pipe, it answers once. Without --session the variables and files are gone at the end.
    Ctrl-C stops an answer; a second one leaves. Pictures are saved as picture-1.png and so on, and shown where the
    terminal can. --json prints the answer's chunks.
    """
    if message is None and not sys.stdin.isatty():
        message = sys.stdin.buffer.read().decode(errors="replace")
    if message is None and (as_json or not sys.stdout.isatty()):
        raise typer.BadParameter("a prompt needs a terminal; ask once with -m TEXT.", param_hint="--message")
    if message is not None and not message.strip():
        raise typer.BadParameter("there is no question.", param_hint="--message")
    uploads = uploads_of(files or [])
    with failures_told(as_json=as_json), connected(url) as api, session_for(api, session) as session_id:
        put(api, session_id, uploads)
        conversation = Conversation(api, session_id, PictureFolder(save_dir, "picture"), as_json=as_json)
        if message is not None:
            end = conversation.ask(message)
            if end.kind == "finish" and conversation.failed_to_save:
                raise typer.Exit(PLATFORM_FAILED)
            raise typer.Exit(EXITS[end.kind])
        kept = "" if session is None else ", kept"
        print(f"Session {session_id} at {api.url}{kept}; /help lists commands, Ctrl-D leaves.")
        if session is not None:
            with _told():
                conversation.join()
        ChatPrompt(conversation).loop()


class Conversation:
    """The chat of a session: questions, and their answers shown."""

    def __init__(self, api: Api, session: str, pictures: PictureFolder, *, as_json: bool = False) -> None:
        self.api = api
        self.session = session
        self.failed_to_save = False
        self._pictures = pictures
        self._as_json = as_json
        self._asked: Mapping[str, object] | None = None
        self._answer: str | None = None

    def ask(self, text: str) -> End:
        """Send a question, show the answer as it comes, and return how it ended.

        The first Ctrl-C stops the turn, which is followed to its end; the second is a KeyboardInterrupt. Raises
        Failure.
        """
        self._asked = {"id": new_id("m"), "role": "user", "parts": [{"type": "text", "text": text}]}
        self._answer = None
        return self._send({"trigger": "submit-message"})

    def ask_again(self) -> End | None:
        """Ask the last question again, in place of its answer if it has one; None when nothing was asked."""
        if self._asked is None:
            return None
        if self._answer is None:
            return self._send({"trigger": "submit-message"})
        return self._send({"trigger": "regenerate-message", "messageId": self._answer})

    def join(self) -> End | None:
        """Show the turn that runs already, as `ask` does; None when none runs."""
        return self._follow(None)

    def _send(self, kind: Mapping[str, object]) -> End:
        end = self._follow({"id": self.session, "messages": [self._asked], **kind})
        assert end is not None  # noqa: S101 - a turn that was asked for ends, or its Failure is raised
        return end

    def _follow(self, document: Mapping[str, object] | None) -> End | None:
        turn = Turn(self.api, self.session, document, noted=_unheard if self._as_json else note)
        reader = TurnReader()
        receive, settle = self._printing() if self._as_json else self._showing(reader, waiting=document is not None)
        with first_ctrl_c(turn.stop):
            try:
                for line, chunk in turn.chunks():
                    shown = reader.take(chunk)
                    self._answer = reader.message or self._answer
                    receive(line, chunk, shown)
            except BrokenPipeError:
                turn.stop()
                turn.stop_sent()
                raise
            finally:
                with contextlib.suppress(BrokenPipeError):
                    settle()
        return reader.end

    def _showing(self, reader: TurnReader, *, waiting: bool) -> tuple[Callable[..., None], Callable[[], None]]:
        show = ChatShow(
            standard.output(),
            this_terminal(),
            self._pictures,
            lambda path: content_at(self.api, path),
            tell,
            colours=not os.environ.get("NO_COLOR"),
        )
        if waiting:
            show.waiting()

        def receive(line: bytes, chunk: Mapping[str, Any], shown: Any) -> None:
            for each in shown:
                show.show(each)
            self.failed_to_save |= show.failed_to_save

        return receive, show.settle

    def _printing(self) -> tuple[Callable[..., None], Callable[[], None]]:
        out = standard.binary_output()
        printed: list[bytes] = []
        preliminary: set[bytes] = set()
        at = 0

        def receive(line: bytes, chunk: Mapping[str, Any], shown: Any) -> None:
            """Print a chunk unless it is the repetition, after a lost connection, of one that was printed.

            Of preliminary outputs a repetition has the last ones only, so they have no place in the order.
            """
            nonlocal at
            if chunk["type"] == "start":
                at = 0
            digest = hashlib.sha256(line).digest()
            if chunk.get("preliminary"):
                if digest not in preliminary:
                    preliminary.add(digest)
                    out.write(line + b"\n")
                    out.flush()
                return
            known = at < len(printed) and printed[at] == digest
            if not known:
                del printed[at:]
                printed.append(digest)
                out.write(line + b"\n")
                out.flush()
            at += 1

        return receive, lambda: None


class ChatPrompt:
    """Reads questions and commands until the user leaves."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._reading = _reading()

    def loop(self) -> None:
        """Return when the user leaves. A second Ctrl-C in a turn raises typer.Exit."""
        while True:
            print()
            try:
                line = self._reading.prompt("> ").strip()
            except KeyboardInterrupt:
                continue
            except EOFError:
                return
            if line == "/quit":
                return
            try:
                with _told():
                    if line.startswith("/"):
                        self._command(line)
                    elif line:
                        self._conversation.ask(line)
            except KeyboardInterrupt:
                raise typer.Exit(INTERRUPTED) from None

    def _command(self, line: str) -> None:
        name, _, rest = line.partition(" ")
        api, session = self._conversation.api, self._conversation.session
        match name:
            case "/file":
                if paths := _paths(rest, name):
                    for stored in put(api, session, uploads_of(paths)):
                        print(f"uploaded {_row(stored)[0]!r}, {_row(stored)[1]}")
            case "/files":
                rows = [_row(entry) for entry in api.files(session)["files"]]
                print(table(("NAME", "SIZE", "MODIFIED"), rows) if rows else "No files.")
            case "/save":
                for path in _paths(rest, name):
                    wanted = str(path)
                    target = target_of(None, wanted)
                    if target.exists():
                        note(f"{str(target)!r} is here already and is left as it is.")
                        continue
                    with api.file(session, wanted) as download:
                        save(download, target)
                    print(f"saved: {target}")
            case "/session":
                print(f"Session {session} at {api.url}")
            case "/retry":
                if self._conversation.ask_again() is None:
                    note("nothing was asked yet.")
            case "/help":
                print(HELP)
            case _:
                note(f"there is no {name!r}. There are:")
                print(HELP)


def _row(entry: Mapping[str, Any]) -> tuple[str, str, str]:
    return str(entry["path"]), size(entry.get("size_bytes")), moment(entry.get("modified_at"))


def _paths(text: str, command: str) -> list[Path]:
    try:
        paths = [Path(word).expanduser() for word in shlex.split(text)]
    except ValueError as exc:
        raise typer.BadParameter(f"{command}: {exc}.") from None
    if not paths:
        raise typer.BadParameter(f"{command} needs a path.")
    return paths


@contextmanager
def _told() -> Iterator[None]:
    """Tell of what went wrong and go on; a session that is gone ends the command."""
    try:
        yield
    except typer.BadParameter as exc:
        note(exc.message)
    except Failure as failure:
        tell(failure)
        if failure.code == "turn_running":
            note("wait for its end and /retry, or open the chat again with --session to follow it.")
        if failure.code == "session_not_found":
            raise typer.Exit(PLATFORM_FAILED) from None


def _reading() -> "PromptSession[str]":
    """Return the line editor, with what was asked before; kept for this user only."""
    from prompt_toolkit import PromptSession
    from prompt_toolkit.history import FileHistory, History, InMemoryHistory

    history: History = InMemoryHistory()
    path = Path(default_home(os.environ)) / "chat_history"
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
        history = FileHistory(path)
    return PromptSession(history=history)


def _unheard(text: str) -> None:
    """Scripts are told of what failed only."""
