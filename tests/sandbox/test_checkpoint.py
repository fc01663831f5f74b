"""A session that is suspended in one sandbox and goes on in another."""

import io
import json
import os
import tarfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.sandbox.conftest import LIMITS, Server, new_server, only, text_of

VARIABLES = """
import os, sys, threading, enum, dataclasses
import numpy as np, pandas as pd
shared = [1, 2]
first = {"in": shared}
second = (shared, first)
table = pd.DataFrame({"x": np.arange(50_000), "t": ["é"] * 50_000})
array = np.arange(300_000.0).reshape(3, 100_000)
counter = 0
def bump():
    global counter
    counter += 1
    return counter
def pair():
    n = 0
    def add():
        nonlocal n
        n += 1
        return n
    def read():
        return n
    return add, read
add, read = pair()
add()
def factorial(n):
    return 1 if n < 2 else n * factorial(n - 1)
def outer():
    def inner(n):
        return 0 if n == 0 else 1 + inner(n - 1)
    return inner
inner = outer()
class Base:
    def name(self):
        return "base"
class Child(Base):
    def name(self):
        return f"child of {super().name()}, {counter}"
child = Child()
child.itself = child
class Color(enum.Enum):
    RED = 1
red = Color.RED
@dataclasses.dataclass
class Point:
    x: int = 0
point = Point(3)
fails = lambda: 1 / 0
everything = globals()
shell = get_ipython()
out = sys.stdout
lock = threading.Lock()
file = open("open.txt", "w")
holder = {"deep": [lock]}
generator = (i for i in range(3))
def mourns():
    return lock
os.environ["MINE"] = "set"
os.makedirs("lib", exist_ok=True)
with open("lib/mine.py", "w") as module:
    module.write("value = 42\\n")
with open("lib/mine.py", "rb") as raw:
    pass
os.chdir("lib")
sys.path.append(os.getcwd())
import mine
len = list = type = None
"""
FILES = r"""
import os, socket
os.chdir(FOLDER)
os.makedirs("deep/er")
open("deep/er/file.txt", "w").write("text")
open(b"caf\xe9 \n'", "wb").write(b"odd")
open("x" * 200 + ".txt", "w").write("long name")
open("empty", "w").close()
os.symlink("/etc/passwd", "out")
os.symlink("deep", "in")
os.symlink("nowhere", "dangling")
os.link("deep/er/file.txt", "twin")
os.mkdir("locked")
open("locked/inside", "w").write("secret")
os.chmod("locked/inside", 0)
os.chmod("locked", 0)
os.mkfifo("pipe")
s = socket.socket(socket.AF_UNIX); s.bind("socket"); s.close(); del s
f = open("sparse", "wb"); f.write(b"begin"); f.seek(5 * 2**30); f.write(b"end"); f.close(); del f
os.utime("empty", ns=(1, 1_234_567_890_123_456_789))
os.chmod("empty", 0o640)
open(os.path.join(os.environ["PIP_TARGET"], "package.py"), "w").write("name = 'package'")
"""


def checkpoint_of(server: Server) -> bytes:
    """Seal a sandbox and return its checkpoint."""
    server.client.post("/v1/seal").raise_for_status()
    reply = server.client.get("/v1/checkpoint")
    assert reply.status_code == 200, reply.text
    return reply.content


def put(server: Server, checkpoint: bytes) -> dict[str, Any]:
    """Restore a checkpoint; return the answer."""
    reply = server.client.put("/v1/checkpoint", content=checkpoint)
    assert reply.status_code == 200, reply.text
    return dict(reply.json())


@contextmanager
def resumed(code: str, **settings: Any) -> Iterator[tuple[Server, dict[str, Any]]]:
    """Run code in one sandbox, and yield another that its checkpoint was put into, with the answer to that."""
    with new_server(**settings) as before:
        before.outputs(code, timeout_s=200)
        checkpoint = checkpoint_of(before)
    with new_server(**settings) as after:
        yield after, put(after, checkpoint)


def lost_names(answer: dict[str, Any]) -> set[str]:
    return {loss["name"] for loss in answer["lost"]}


class Resumed:
    """One session with a bit of everything, before and after."""

    def __init__(self, before: Server, after: Server) -> None:
        self.before, self.after = before, after
        self.outputs = before.outputs(VARIABLES, id="made", variables={"sent": {"a": 1}})
        assert self.outputs[-1]["status"] == "ok", self.outputs
        before.client.post("/v1/contexts", json={"name": "other"}).raise_for_status()
        before.outputs("here = 'other'; n = 1; import threading; lock = threading.Lock()", context="other")
        before.outputs("n += 1", context="other")
        before.client.post("/v1/journal/turn", json={"text": "é"}).raise_for_status()
        before.client.post("/v1/contexts", json={"name": "clean"}).raise_for_status()
        before.outputs("clean = True", context="clean")
        folder = before.folder / "files"
        before.outputs(FILES, context="clean", variables={"FOLDER": str(folder)})
        self.generation = before.client.get("/v1/status").json()["generation"]
        self.entries = before.client.get("/v1/files").json()
        self.checkpoint = checkpoint_of(before)
        self.answer = put(after, self.checkpoint)
        self.status = after.client.get("/v1/status").json()
        self.first = {name: after.outputs("print('first')", context=name) for name in ("default", "other", "clean")}

    def says(self, expression: str, **fields: Any) -> Any:
        return text_of(self.after.outputs(f"print({expression})", **fields)).rstrip("\n")


@pytest.fixture(scope="module")
def session() -> Iterator[Resumed]:
    with new_server() as before, new_server() as after:
        yield Resumed(before, after)


def test_variables_are_there_again(session: Resumed) -> None:
    assert session.says("table.shape, table.t[7], array.sum(), point, sent, counter >= 0") == (
        "(50000, 2) é 44999850000.0 Point(x=3) {'a': 1} True"
    )


def test_objects_that_variables_share_are_shared_still(session: Resumed) -> None:
    assert session.says("shared is first['in'] is second[0], second[1] is first, child.itself is child") == (
        "True True True"
    )
    assert session.says("red is Color.RED, isinstance(child, Child), isinstance(point, Point)") == "True True True"
    assert session.says("module.closed, raw.closed") == "True True"


def test_functions_see_the_sessions_variables_and_not_copies(session: Resumed) -> None:
    session.after.outputs("counter = 40")
    assert session.says("bump(), counter, child.name()") == "41 41 child of base, 41"


def test_closures_and_recursion_go_on(session: Resumed) -> None:
    session.after.outputs("before = read(); add()")
    assert session.says("read() == before + 1, factorial(5), inner(4)") == "True 120 4"


def test_what_stands_for_the_session_stands_for_the_new_one(session: Resumed) -> None:
    assert session.says("everything is globals(), shell is get_ipython(), out is __import__('sys').stdout") == (
        "True True True"
    )


def test_surroundings_are_as_code_left_them(session: Resumed) -> None:
    assert session.says("os.environ['MINE'], os.path.basename(os.getcwd()), mine.value") == "set lib 42"
    assert session.says("__import__('importlib').reload(mine).value") == "42"


def test_a_traceback_still_shows_the_code_of_earlier_cells(session: Resumed) -> None:
    (error,) = only(session.after.outputs("fails()"), "error")
    assert "lambda" in "".join(error["traceback"])


def test_what_cannot_be_kept_is_lost_and_named_with_its_reason(session: Resumed) -> None:
    lost = {(loss["context"], loss["name"]): loss for loss in session.answer["lost"]}
    wanted = {("default", name) for name in ("lock", "file", "holder", "generator")} | {("other", "lock")}
    assert set(lost) == wanted
    assert lost["default", "lock"]["type"] == "_thread.lock"
    assert lost["default", "generator"] == {
        "context": "default",
        "name": "generator",
        "type": "generator",
        "reason": "cannot pickle 'generator' object",
    }
    assert only(session.after.outputs("mourns()"), "error")[0]["ename"] == "NameError"


def test_the_first_execution_says_what_was_lost_and_the_next_one_does_not(session: Resumed) -> None:
    told = text_of(session.first["default"], "stderr")
    assert all(name in told for name in ("lock", "file", "holder", "generator"))
    assert session.first["default"][1]["type"] == "stream"
    assert "lock (_thread.lock" in text_of(session.first["other"], "stderr")
    assert text_of(session.first["clean"], "stderr") == ""
    assert text_of(session.after.outputs("1"), "stderr") == ""


def test_the_status_says_what_was_lost(session: Resumed) -> None:
    assert session.status["restored"]["lost"] == session.answer["lost"]
    assert session.status["generation"] == session.answer["generation"] == session.generation + 1


def test_counting_goes_on(session: Resumed) -> None:
    counts = {name: outputs[0]["execution_count"] for name, outputs in session.first.items()}
    assert counts == {"default": 2, "other": 3, "clean": 3}
    assert session.says("len(In) == get_ipython().execution_count, In[-1][:5]", context="clean") == "True print"
    contexts = {context["name"]: context for context in session.status["contexts"]}
    assert {name: context["execution_count"] for name, context in contexts.items()} == {
        "default": 1,
        "other": 2,
        "clean": 2,
    }
    assert session.says("n, here, 'table' in globals()", context="other") == "2 other False"


def test_executions_and_streams_are_there_under_their_ids(session: Resumed) -> None:
    lines = session.after.client.get("/v1/executions/made/outputs").text.splitlines()
    assert [json.loads(line) for line in lines] == session.outputs
    assert session.after.outputs(VARIABLES, id="made", variables={"sent": {"a": 1}}) == session.outputs
    assert json.loads(session.after.client.get("/v1/journal/turn").text) == {"seq": 1, "record": {"text": "é"}}
    assert session.after.client.post("/v1/journal/turn?expect=1", json=2).json() == {"seq": 2}


def test_files_come_back_as_they_were(session: Resumed) -> None:
    def described(root: Path) -> dict[bytes, Any]:
        found: dict[bytes, Any] = {}
        for path in root.rglob("*"):
            status = path.lstat()
            name = os.fsencode(path.relative_to(root))
            if path.is_symlink():
                found[name] = os.readlink(path)
            elif path.is_dir():
                found[name] = status.st_mode
            elif path.is_file():
                content = path.read_bytes() if status.st_size < 10**6 else b""
                found[name] = (status.st_mode, status.st_size, status.st_mtime_ns, status.st_nlink, content)
        return found

    before, after = (described(server.folder / "files") for server in (session.before, session.after))
    assert b"caf\xe9 \n'" in before
    assert (before[b"out"], before[b"dangling"]) == ("/etc/passwd", "nowhere")
    changed = {b"open.txt", b"__pycache__"}
    assert {n: f for n, f in after.items() if n not in changed and b"__pycache__" not in n} == {
        n: f for n, f in before.items() if n not in changed and b"__pycache__" not in n
    }
    assert not (session.after.folder / "files" / "pipe").exists()
    assert not (session.after.folder / "files" / "socket").exists()
    assert session.after.client.get("/v1/files").json() == session.entries


def test_a_sparse_file_costs_what_is_in_it(session: Resumed) -> None:
    assert len(session.checkpoint) < 20_000_000
    sparse = session.after.folder / "files" / "sparse"
    assert sparse.stat().st_blocks * 512 < 10_000_000
    with open(sparse, "rb") as file:
        assert file.read(5) == b"begin"
        file.seek(-3, os.SEEK_END)
        assert file.read() == b"end"


def test_installed_packages_come_along(session: Resumed) -> None:
    assert session.says("__import__('package').name") == "package"


def test_nothing_of_the_checkpoint_stays_where_kernels_can_see_it(session: Resumed) -> None:
    for server in (session.before, session.after):
        assert [path.name for path in (server.folder / "ipc").iterdir() if path.name.startswith("ns-")] == []


def test_a_checkpoint_is_not_put_over_a_session(session: Resumed) -> None:
    reply = session.after.client.put("/v1/checkpoint", content=session.checkpoint)
    assert (reply.status_code, reply.json()["error"]["code"]) == (409, "conflict")


def test_a_session_goes_on_after_a_checkpoint_that_nobody_wanted(session: Resumed) -> None:
    session.before.client.delete("/v1/seal").raise_for_status()
    assert text_of(session.before.outputs("print(lock.locked(), shared)")) == "False [1, 2]\n"
    assert session.before.client.get("/v1/status").json()["generation"] == session.generation


def test_nothing_lost_is_nothing_said() -> None:
    with resumed("x = 1") as (after, answer):
        assert answer == {"generation": 1, "lost": []}
        assert after.client.get("/v1/status").json()["restored"]["lost"] == []
        outputs = after.outputs("print(x)")
        assert [output["type"] for output in outputs] == ["started", "stream", "finished"]
        after.client.post(
            "/v1/claim", json={"session": "s", "idle_timeout_s": 60, "env": {"A": "1"}}
        ).raise_for_status()
        assert text_of(after.outputs("import os; print(os.environ['A'])")) == "1\n"


def test_a_loss_that_was_not_read_is_told_after_the_next_suspension_too() -> None:
    code = "import threading; lock = threading.Lock(); x = 1"
    with resumed(code) as (middle, answer), new_server() as last:
        again = put(last, checkpoint_of(middle))
        assert (again["generation"], again["lost"]) == (answer["generation"], [])
        outputs = last.outputs("print(x)")
        assert "lock" in text_of(outputs, "stderr")
        assert text_of(outputs) == "1\n"


def test_one_variable_that_fails_to_load_takes_no_other_along() -> None:
    code = """
open("gone.py", "w").write("class Gone: pass")
import gone, os
import numpy as np
array = np.arange(20_000)
has = [gone.Gone()]
shares = {"has": has}
class Refuses:
    def __setstate__(self, state): raise ValueError("not again")
refuses = Refuses(); refuses.x = 1
alias = array
def uses(): return alias
os.remove("gone.py")
"""
    with resumed(code) as (after, answer):
        assert lost_names(answer) == {"gone", "has", "shares", "refuses"}
        assert text_of(after.outputs("print(alias is array is uses(), array.sum(), Refuses)")).startswith(
            "True 199990000 <class"
        )


def test_code_that_tampers_with_pickling_loses_its_own_variables_only() -> None:
    code = """
import pickle
class Exits:
    def __reduce__(self): raise SystemExit
class Raises:
    def __reduce__(self): raise OSError("no")
exits, raises, kept = Exits(), Raises(), 1
deep = []
for _ in range(100_000): deep = [deep]
pickle.Pickler = pickle.dumps = None
import cloudpickle
cloudpickle.Pickler = cloudpickle.dumps = None
_ = __ = open = print = isinstance = 5
"""
    with resumed(code) as (after, answer):
        assert lost_names(answer) == {"exits", "raises", "deep"}
        assert only(after.outputs("kept, isinstance"), "execute_result")[0]["data"] == {"text/plain": "(1, 5)"}


def test_variables_that_do_not_fit_are_lost_and_all_else_is_kept() -> None:
    limits = {**LIMITS, "memory_bytes": 1_000_000}
    code = "import os; os.environ['KEPT'] = '1'; big = bytes(range(256)) * 10_000; small = 1"
    with resumed(code, limits=limits) as (after, answer):
        assert lost_names(answer) == {"big", "small", "os"}
        assert "room" in answer["lost"][0]["reason"]
        outputs = after.outputs("import os; print(os.environ['KEPT'])")
        assert (text_of(outputs), outputs[0]["execution_count"]) == ("1\n", 2)


SLOW = "class Slow:\n    def __reduce__(self):\n        while True: pass\nslow = Slow(); x = 1"


def test_variables_that_take_too_long_are_lost_and_the_session_can_go_on() -> None:
    limits = {**LIMITS, "namespace_timeout_s": 0.5, "interrupt_grace_s": 1.0}
    with new_server(limits=limits) as before, new_server() as after:
        before.outputs(SLOW)
        answer = put(after, checkpoint_of(before))
        assert lost_names(answer) == {"Slow", "slow", "x"}
        assert "in time" in answer["lost"][0]["reason"]
        before.client.delete("/v1/seal").raise_for_status()
        assert text_of(before.outputs("print(x)")) == "1\n"


def test_a_kernel_that_is_stuck_loses_its_variables_and_nobody_elses() -> None:
    limits = {**LIMITS, "namespace_timeout_s": 0.5, "interrupt_grace_s": 1.0}
    stop = (
        "import os, signal, threading, time\ndef stop():\n    while not os.path.exists('stop'): time.sleep(0.01)\n"
        "    os.kill(os.getpid(), signal.SIGSTOP)\nthreading.Thread(target=stop).start(); print(os.getpid())"
    )
    with new_server(limits=limits) as before, new_server() as after:
        pid = text_of(before.outputs(stop)).strip()
        before.client.post("/v1/contexts", json={"name": "well"}).raise_for_status()
        before.outputs("x = 1", context="well")
        (before.folder / "files" / "stop").touch()
        while Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "T":
            pass
        answer = put(after, checkpoint_of(before))
        assert [(loss["context"], loss["name"]) for loss in answer["lost"]] == [("default", "*")]
        assert text_of(after.outputs("print(x)", context="well")) == "1\n"
        assert "variables of this context are lost" in text_of(after.outputs("1"), "stderr")


STUCK = """
class Stuck:
    def __setstate__(self, state):
        while True:
            try:
                while True: pass
            except BaseException as error:
                if not state["ignores"]: raise
early, stuck, late = 1, Stuck(), 2
stuck.ignores = IGNORES
"""


@pytest.mark.parametrize("ignores", [False, True])
def test_variables_that_take_too_long_to_read_are_lost_and_told(ignores: bool) -> None:
    limits = {**LIMITS, "namespace_load_timeout_s": 0.5, "interrupt_grace_s": 1.0}
    with new_server() as before, new_server(limits=limits) as after:
        before.outputs(STUCK.replace("IGNORES", str(ignores)))
        before.client.post("/v1/contexts", json={"name": "well"}).raise_for_status()
        before.outputs("x = 1", context="well")
        answer = put(after, checkpoint_of(before))
        assert [(loss["context"], loss["name"]) for loss in answer["lost"]] == [("default", "*")]
        outputs = after.outputs("print([name in globals() for name in ('early', 'stuck', 'late')])")
        assert "variables of this context are lost" in text_of(outputs, "stderr")
        assert (text_of(outputs), outputs[0]["execution_count"]) == ("[False, False, False]\n", 2)
        assert text_of(after.outputs("print(x)", context="well")) == "1\n"


def test_opening_the_seal_ends_the_saving_of_variables() -> None:
    with new_server(limits={**LIMITS, "namespace_timeout_s": 3600.0}) as server, ThreadPoolExecutor() as threads:
        server.outputs(SLOW)
        server.client.post("/v1/seal").raise_for_status()
        checkpoint = threads.submit(server.client.get, "/v1/checkpoint")
        while not any(path.name.startswith("ns-") for path in (server.folder / "ipc").iterdir()):
            pass
        server.client.delete("/v1/seal").raise_for_status()
        assert text_of(server.outputs("print(x)")) == "1\n"
        assert (checkpoint.result().status_code, checkpoint.result().json()["error"]["code"]) == (409, "not_sealed")
        assert server.client.get("/v1/status").json()["generation"] == 1


def test_what_code_made_of_its_environment_outlives_the_claim_that_follows() -> None:
    claim: dict[str, Any] = {"session": "s", "idle_timeout_s": 60}
    with new_server() as before, new_server() as after:
        before.client.post("/v1/claim", json={**claim, "env": {"A": "1", "B": "1", "C": "1"}}).raise_for_status()
        before.outputs("import os; os.environ['A'] = 'mine'; del os.environ['C']")
        before.client.post("/v1/contexts", json={"name": "other"}).raise_for_status()
        before.outputs("import os; os.environ['A'] = 'mine'; del os.environ['C']", context="other")
        put(after, checkpoint_of(before))
        for value in ("2", "1"):
            env = {"A": "1", "B": value, "C": "1", "D": "1"}
            after.client.post("/v1/claim", json={**claim, "env": env}).raise_for_status()
            for context in ("default", "other"):
                shown = after.outputs("print([os.environ.get(name) for name in 'ABCD'])", context=context)
                assert text_of(shown) == f"['mine', '{value}', None, '1']\n"


def _breaks_off(server: Server) -> None:
    """Find that there is no whole checkpoint now, and that the session goes on."""
    with pytest.raises(httpx.RemoteProtocolError):
        checkpoint_of(server)
    server.client.delete("/v1/seal").raise_for_status()
    assert text_of(server.outputs("print(x)")) == "1\n"


def test_a_checkpoint_of_more_than_the_disk_limit_breaks_off_and_the_session_goes_on(server: Server) -> None:
    server.outputs("x = 1")
    holes = server.folder / "files" / "holes"
    with open(holes, "wb") as file:
        for number in range(10_001):
            os.pwrite(file.fileno(), b"x", number * 16_384)
    _breaks_off(server)
    holes.unlink()
    checkpoint_of(server)
    server.client.delete("/v1/seal").raise_for_status()


def test_a_checkpoint_of_many_small_files_within_the_disk_limit_is_whole() -> None:
    with new_server(limits={**LIMITS, "disk_bytes": 15_000_000}) as server:
        folder = server.folder / "files"
        for number in range(14_000):
            os.mknod(folder / str(number))
        small = checkpoint_of(server)
        assert len(small) > 14_000 * 1536
        assert b"end.json" in small[-5000:]


def test_a_checkpoint_of_folders_deeper_than_can_be_kept_breaks_off_and_the_session_goes_on(server: Server) -> None:
    server.outputs("import os; x = 1; os.makedirs('/'.join(['d'] * 202))")
    _breaks_off(server)
    server.outputs("import shutil; shutil.rmtree('d')")
    checkpoint_of(server)
    server.client.delete("/v1/seal").raise_for_status()


def test_a_checkpoint_of_more_than_the_disk_limit_is_refused(server: Server) -> None:
    server.outputs("open('large', 'wb').write(b'x' * 20_000_000)")
    checkpoint = checkpoint_of(server)
    server.client.delete("/v1/seal").raise_for_status()
    (server.folder / "files" / "large").unlink()
    with new_server(limits={**LIMITS, "disk_bytes": 1_000_000}) as after:
        reply = after.client.put("/v1/checkpoint", content=checkpoint)
        assert (reply.status_code, reply.json()["error"]["code"]) == (400, "broken_checkpoint")
        assert "disk limit" in reply.json()["error"]["message"]


def test_a_checkpoint_of_files_that_change_meanwhile_is_whole() -> None:
    writer = (
        "import subprocess, sys\ncode = '''import os\\nn = 0\\nwhile True:\\n    n += 1\\n"
        '    open(f"f{n % 50}", "ab").write(b"x" * 5000)\\n    os.truncate(f"f{n % 7}", n % 3000) if n > 50 else 0\\n'
        '    os.remove(f"f{n % 50}") if n % 11 == 0 else 0\\n    open("ready", "w") if n == 60 else 0\\n\'\'\'\n'
        "p = subprocess.Popen([sys.executable, '-c', code]); del p"
    )
    with new_server() as before, new_server() as after:
        before.outputs(writer)
        while not (before.folder / "files" / "ready").exists():
            pass
        checkpoint = checkpoint_of(before)
        with tarfile.open(fileobj=io.BytesIO(checkpoint)) as tar:
            names = tar.getnames()
        assert (names[0], names[-1]) == ("manifest.json", "end.json")
        put(after, checkpoint)


def _renamed(checkpoint: bytes, change: Callable[[tarfile.TarInfo], None]) -> bytes:
    """Return the same checkpoint with the header of one file changed."""
    made = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(checkpoint)) as old, tarfile.open(fileobj=made, mode="w") as new:
        for member in old:
            content = old.extractfile(member) if member.isreg() else None
            if member.name == "files/a.txt":
                change(member)
            new.addfile(member, content)
    return made.getvalue()


def test_a_checkpoint_that_is_cut_is_refused_and_its_sandbox_not_used_again(server: Server) -> None:
    server.outputs("x = 1; open('a.txt', 'w').write('text' * 1000)")
    checkpoint = checkpoint_of(server)
    server.client.delete("/v1/seal").raise_for_status()
    end = checkpoint.index(b"end.json")
    with new_server() as after:
        reply = after.client.put("/v1/checkpoint", content=checkpoint[:end])
        assert (reply.status_code, reply.json()["error"]["code"]) == (400, "broken_checkpoint")
        assert after.client.put("/v1/checkpoint", content=checkpoint).status_code == 409
        assert after.client.post("/v1/claim", json={"session": "s", "idle_timeout_s": 60}).status_code == 409
        assert after.client.get("/v1/status").json()["claimed"] is False


def _leads_out(member: tarfile.TarInfo) -> None:
    member.name = "files/../../escaped"


def _is_a_device(member: tarfile.TarInfo) -> None:
    member.type, member.size = tarfile.CHRTYPE, 0


def _links_out(member: tarfile.TarInfo) -> None:
    member.type, member.size, member.linkname = tarfile.LNKTYPE, 0, "files/../../log"


def _goes_through_a_link(member: tarfile.TarInfo) -> None:
    member.name = "files/link/escaped"


def _is_elsewhere(member: tarfile.TarInfo) -> None:
    member.name = "run/escaped"


BROKEN: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda _: b"",
    "no archive": lambda _: b"x" * 20_000,
    "no manifest": lambda whole: whole[512 * 4 :],
    "a path that leads out": lambda whole: _renamed(whole, _leads_out),
    "a device": lambda whole: _renamed(whole, _is_a_device),
    "a hard link that leads out": lambda whole: _renamed(whole, _links_out),
    "a path through a link": lambda whole: _renamed(whole, _goes_through_a_link),
    "another folder": lambda whole: _renamed(whole, _is_elsewhere),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_checkpoint_is_refused_and_nothing_is_written_outside(server: Server, kind: str) -> None:
    code = "import os; open('a.txt', 'w').write('a'); os.path.lexists('Alink') or os.symlink('..', 'Alink')"
    server.outputs(code.replace("Alink", "link"))
    checkpoint = checkpoint_of(server)
    server.client.delete("/v1/seal").raise_for_status()
    with new_server() as after:
        reply = after.client.put("/v1/checkpoint", content=BROKEN[kind](checkpoint))
        assert (reply.status_code, reply.json()["error"]["code"]) == (400, "broken_checkpoint"), reply.text
        assert not list(after.folder.rglob("escaped"))
        assert after.client.get("/v1/status").json()["claimed"] is False
