"""A kernel's variables as a file and back: what a session keeps of them while it is suspended.

Runs in the kernel, on the thread of user code, and is reached by messages of the server's alone. All variables go
through one pickler, a record each, so that objects that several variables share stay shared. Functions of the session
come back with the session's variables as their globals, not with a copy of them. Large buffers (arrays, the columns of
a table) are written to a second file as they are met, so no copy of them is ever in memory.

What cannot be pickled is lost and named. Nothing of this is safe against the session's own code, nor need it be: the
bytes are only ever read by a kernel of the same session.
"""

import contextlib
import gc
import io
import linecache
import os
import pickle
import re
import sys
import time
import types
from collections import ChainMap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any, ClassVar

import cloudpickle
from cloudpickle import cloudpickle as by_value

OUT_OF_BAND_BYTES = 64 * 1024
MAX_LOST = 1000
MAX_SOURCES_CHARS = 2 * 1024**2
GRACE_S = 5.0
ALL = "*"  # stands for all variables of a context, or for the rest of them
MAX_REASON_CHARS = 200
_IPYTHONS = re.compile(r"In|Out|_+|_i{1,3}|_i?\d+|_ih|_oh|_dh")
_AS_PICKLED = (io.StringIO, io.BytesIO)
_CLOSED: tuple[Any, ...] = (io.TextIOWrapper, io.BufferedReader, io.BufferedWriter, io.BufferedRandom)
_ATOMS = (str, bytes, int, float, complex, type(None), types.BuiltinFunctionType, types.ModuleType)
_first_environ: dict[str, str] = {}
_first_variables: dict[str, Any] = {}
_first_places: list[str] = []  # the folder of files, then the module search path

Variables = dict[str, Any]


class TooLate(BaseException):
    """The time for this is over. It is no Exception, as user code may catch those."""


class TooLarge(BaseException):
    """There is no room for so much."""


@dataclass(frozen=True, slots=True)
class Lost:
    """A variable that could not be kept."""

    name: str
    type: str
    reason: str

    def describe(self) -> dict[str, str]:
        """Return it as it goes over the wire, at a size that fits."""
        shown = (self.name, self.type, " ".join(self.reason.split()))
        return dict(zip(("name", "type", "reason"), (mended(text)[:MAX_REASON_CHARS] for text in shown), strict=True))


def mended(text: str) -> str:
    """Return text that UTF-8 can carry."""
    return text.encode("utf-8", "replace").decode()


def lost_for(name: str, value: object, error: BaseException) -> Lost:
    """Return what is told of a variable that failed."""
    try:
        kind = type(value)
        module = "" if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}."
        shown = f"{module}{kind.__qualname__}"
    except Exception:
        shown = "object"
    return Lost(name, shown, reason_of(error))


def reason_of(error: BaseException) -> str:
    """Return in one line why something failed."""
    try:
        return str(error) or type(error).__name__
    except Exception:
        return type(error).__name__


def begin(shell: Any, environ: dict[str, str]) -> None:
    """Note what a kernel has before any user code: neither that nor `environ`, without the claim's, is a user's."""
    _first_environ.update(environ)
    _first_variables.update(shell.user_ns)
    _first_places[:] = [os.getcwd(), *sys.path]


def variables_of(shell: Any) -> Variables:
    """Return the user's variables: what is in the namespace and not IPython's own."""
    hidden = shell.user_ns_hidden
    return {
        name: value
        for name, value in list(shell.user_ns.items())
        if isinstance(name, str)
        and not _IPYTHONS.fullmatch(name)
        and not (name in hidden and hidden[name] is value)
        and not (name in _first_variables and _first_variables[name] is value)
    }


class Bounds:
    """How long it may take, and how many bytes may be written."""

    def __init__(self, *, timeout_s: float, max_bytes: int) -> None:
        self._ends_s = time.monotonic() + timeout_s
        self._max_bytes = max_bytes
        self._bytes = 0

    def check(self) -> None:
        """Raise TooLate when the time is over."""
        if time.monotonic() > self._ends_s:
            raise TooLate("they could not be written in time")

    def take(self, size_bytes: int) -> None:
        """Count bytes. Raises TooLarge or TooLate."""
        self._bytes += size_bytes
        if self._bytes > self._max_bytes:
            raise TooLarge(f"they take more than the {self._max_bytes // 2**20} MiB that there is room for")
        self.check()

    def again(self) -> None:
        """Count from nothing, as what was written is thrown away."""
        self._bytes = 0


class _Bounded:
    """A file, or nothing, to which at most so much is written."""

    def __init__(self, file: IO[bytes] | None, bounds: Bounds) -> None:
        self._file = file
        self._bounds = bounds

    def write(self, data: Any) -> int:
        size_bytes = memoryview(data).nbytes
        if self._file is None:
            self._bounds.check()
            return size_bytes
        self._bounds.take(size_bytes)
        rest = memoryview(data).cast("B")
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as exc:
            raise TooLarge(f"there is no room for them on the disk ({os.strerror(exc.errno or 0)})") from exc
        return size_bytes


def _empty_cell() -> Any:
    return by_value._make_empty_cell()


def _fill_cell(cell: Any, state: tuple[Any, ...]) -> None:
    if state:
        cell.cell_contents = state[0]


def _reduce_cell(cell: Any) -> tuple[Any, ...]:
    """Make the cell before its content, which may be the function that it belongs to."""
    try:
        state = (cell.cell_contents,)
    except ValueError:
        return _empty_cell, ()
    return _empty_cell, (), state, None, None, _fill_cell


def _session_function(code: types.CodeType, closure: Any) -> types.FunctionType:
    """Make a function whose globals are this session's variables."""
    return types.FunctionType(code, session_shell().user_ns, code.co_name, None, closure)


def _fill_session_function(function: Any, state: tuple[dict[str, Any], dict[str, Any]]) -> None:
    attributes, slots = state
    function.__dict__.update(attributes)
    for name, value in slots.items():
        setattr(function, name, value)


def _closed_file(kind: str) -> io.IOBase:
    file: io.IOBase = next(made for made in _CLOSED if made.__name__ == kind)(io.BytesIO())
    file.close()
    return file


def session_shell() -> Any:
    """Return the shell of this kernel."""
    from ipykernel.zmqshell import ZMQInteractiveShell

    return ZMQInteractiveShell.instance()


class NamespacePickler(cloudpickle.Pickler):
    """cloudpickle's pickler, for objects that come back into the namespace they are from."""

    dispatch_table: ClassVar[Any] = ChainMap({types.CellType: _reduce_cell}, cloudpickle.Pickler.dispatch_table)

    def __init__(self, file: Any, bounds: Bounds, shell: Any, buffers: Any) -> None:
        super().__init__(file, protocol=5, buffer_callback=self._keep_buffer)
        self._bounds = bounds
        self._shell = shell
        self._namespace = shell.user_ns
        self._buffers = buffers

    def reducer_override(self, obj: Any) -> Any:
        self._bounds.check()
        if obj is self._shell:
            return session_shell, ()
        if isinstance(obj, io.IOBase) and not isinstance(obj, _AS_PICKLED):
            for name in ("stdin", "stdout", "stderr"):
                if obj is getattr(sys, name, None):
                    return getattr, (sys, name)
            if type(obj) in _CLOSED and obj.closed:  # what a `with` block leaves behind
                return _closed_file, (type(obj).__name__,)
            raise pickle.PicklingError(f"cannot pickle an open {type(obj).__name__!r}")
        return super().reducer_override(obj)

    def _dynamic_function_reduce(self, func: Any) -> tuple[Any, ...]:
        """Keep a function with its own cells, so that functions share them, and the session's with its variables."""
        attributes, slots = by_value._function_getstate(func)
        if func.__globals__ is self._namespace:
            for name in ("__globals__", "__closure__", "_cloudpickle_submodules"):
                del slots[name]
            state = (attributes, slots)
            return _session_function, (func.__code__, func.__closure__), state, None, None, _fill_session_function
        code, globals_kept, *_ = self._function_getnewargs(func)
        state = (attributes, {**slots, "__closure__": None})
        made_of = (code, globals_kept, None, None, func.__closure__)
        return by_value._make_function, made_of, state, None, None, by_value._function_setstate

    def _keep_buffer(self, buffer: pickle.PickleBuffer) -> bool:
        """Write a large buffer beside the pickle. Returns whether it shall be within instead."""
        try:
            content = buffer.raw()
        except BufferError:  # not in one piece
            return True
        with content:
            if content.nbytes < OUT_OF_BAND_BYTES:
                return True
            self._buffers.write(content.nbytes.to_bytes(8, "little"))
            for start in range(0, content.nbytes, 2**24):
                self._buffers.write(content[start : start + 2**24])
        return False


class _Failed(Exception):
    """A variable that could not be pickled."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def save(shell: Any, objects_path: str, buffers_path: str, *, timeout_s: float, max_bytes: int) -> list[Lost]:
    """Write all variables of the session and its surroundings, and return the variables that could not be.

    Out of time or room, all variables are lost. Raises TooLarge or OSError when the surroundings do not fit either.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with (
        open(os.open(objects_path, flags, 0o600), "wb", buffering=0) as objects,
        open(os.open(buffers_path, flags, 0o600), "wb", buffering=0) as buffers,
    ):
        try:
            return _save_what_can_be(shell, objects, buffers, Bounds(timeout_s=timeout_s, max_bytes=max_bytes))
        except (TooLate, TooLarge, KeyboardInterrupt) as exc:
            lost = all_lost(shell, TooLate("they could not be written in time") if _interrupted(exc) else exc)
            _clear(objects, buffers)
            _write(shell, {}, objects, buffers, Bounds(timeout_s=GRACE_S, max_bytes=4 * MAX_SOURCES_CHARS))
            return lost


def all_lost(shell: Any, error: BaseException) -> list[Lost]:
    """Return all variables of the session, as lost for one reason."""
    return [lost_for(name, value, error) for name, value in variables_of(shell).items()]


def _interrupted(error: BaseException) -> bool:
    return isinstance(error, KeyboardInterrupt)


def _save_what_can_be(shell: Any, objects: IO[bytes], buffers: IO[bytes], bounds: Bounds) -> list[Lost]:
    variables = variables_of(shell)
    lost: list[Lost] = []
    while True:
        try:
            _write(shell, variables, objects, buffers, bounds)
            return lost
        except _Failed as exc:
            failed = _failing(shell, variables, bounds) if not lost else {}
            failed = failed or {exc.name: exc.__cause__ or exc}
        lost += [lost_for(name, variables.pop(name), error) for name, error in failed.items()]
        _clear(objects, buffers)
        bounds.again()


def _clear(*files: IO[bytes]) -> None:
    for file in files:
        file.seek(0)
        file.truncate()


def _write(shell: Any, variables: Variables, objects: IO[bytes], buffers: IO[bytes], bounds: Bounds) -> None:
    """Write surroundings and variables, a record each, and an end. Raises _Failed."""
    pickler = NamespacePickler(_Bounded(objects, bounds), bounds, shell, _Bounded(buffers, bounds))
    pickler.dump(_surroundings(shell, variables))
    for name, value in variables.items():
        with _naming(name):
            pickler.dump((name, _Whole) if value is shell.user_ns else (name, value))
    pickler.dump(None)


class _Whole:
    """Stands for the namespace where a variable is that: ``g = globals()``."""


def _failing(shell: Any, variables: Variables, bounds: Bounds) -> dict[str, BaseException]:
    """Return the variables that cannot be pickled even alone, and why."""
    failing: dict[str, BaseException] = {}
    for name, value in variables.items():
        nowhere = _Bounded(None, bounds)
        try:
            with _naming(name):
                if value is not shell.user_ns:
                    NamespacePickler(nowhere, bounds, shell, nowhere).dump(value)
        except _Failed as exc:
            failing[name] = exc.__cause__ or exc
    return failing


@contextlib.contextmanager
def _naming(name: str) -> Iterator[None]:
    """Tell which variable it was that failed, whatever its own code raised."""
    try:
        yield
    except (TooLate, TooLarge, KeyboardInterrupt):
        raise
    except BaseException as exc:
        raise _Failed(name) from exc


def _surroundings(shell: Any, variables: Variables) -> dict[str, Any]:
    """Return what there will be, and what code may have changed around its variables."""
    try:
        folder = _from_files(os.getcwd())
    except OSError:
        folder = "."
    environ = dict(os.environ)
    cell_numbers = getattr(shell.compile, "_filename_map", {})
    sources = _sources()
    return {
        "types": {name: lost_for(name, value, Exception()).type for name, value in variables.items()},
        "cwd": folder,
        "sys_path": [(index, _from_files(place)) for index, place in enumerate(sys.path) if place not in _first_places],
        "environ": {name: value for name, value in environ.items() if _first_environ.get(name) != value},
        "environ_removed": [name for name in _first_environ if name not in environ],
        "environ_names": list(environ),
        "sources": sources,
        "cell_numbers": {name: cell_numbers[name] for name in sources if name in cell_numbers},
    }


def _from_files(place: str) -> str:
    """Return a path seen from the folder of files, which may lie elsewhere the next time, if it is in there."""
    root = _first_places[0]
    return os.path.relpath(place, root) if place == root or place.startswith(f"{root}/") else place


def _sources() -> dict[str, list[str]]:
    """Return the latest cells' code, which tracebacks show; IPython keeps it among Python's cached lines."""
    kept: dict[str, list[str]] = {}
    size_chars = 0
    for name, entry in reversed(list(linecache.cache.items())):
        if len(entry) == 4 and entry[1] is None:
            size_chars += entry[0]
            if size_chars > MAX_SOURCES_CHARS:
                break
            kept[name] = entry[2]
    return kept


def _surround(shell: Any, surroundings: dict[str, Any]) -> None:
    claimed = [name for name in os.environ if name not in _first_environ]
    removed = [name for name in claimed if name not in surroundings.get("environ_names", claimed)]
    os.environ.update(surroundings["environ"])
    for name in (*surroundings["environ_removed"], *removed):
        os.environ.pop(name, None)
    for index, place in surroundings["sys_path"]:
        sys.path.insert(index, os.path.join(_first_places[0], place))
    with contextlib.suppress(OSError, ValueError):
        os.chdir(os.path.join(_first_places[0], surroundings["cwd"]))
    for name, lines in reversed(surroundings["sources"].items()):
        linecache.cache.setdefault(name, (sum(map(len, lines)), None, lines, name))
    with contextlib.suppress(AttributeError):
        shell.compile._filename_map.update(surroundings["cell_numbers"])


class _Buffers:
    """The buffers of a file, in the order in which they were written."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._rest_bytes = os.fstat(file.fileno()).st_size

    def __iter__(self) -> "_Buffers":
        return self

    def __next__(self) -> bytearray:
        size_bytes = int.from_bytes(self._file.read(8), "little")
        self._rest_bytes -= 8 + size_bytes
        if self._rest_bytes < 0:
            raise pickle.UnpicklingError("buffers are missing")
        buffer = bytearray(size_bytes)
        if self._file.readinto(buffer) != size_bytes:  # type: ignore[attr-defined]
            raise pickle.UnpicklingError("buffers are missing")
        return buffer


def load(shell: Any, objects_path: str, buffers_path: str) -> list[Lost]:
    """Read variables that `save` wrote into the session's namespace, and return those that could not be read.

    What fails, as its module is gone for example, takes no other variable along unless they share it.
    """
    with open(objects_path, "rb") as objects, open(buffers_path, "rb") as buffers:
        try:
            _read(shell, pickle.Unpickler(objects, buffers=_Buffers(buffers)), [])  # noqa: S301
            return []
        except Exception:  # which one it was, the patient one finds out
            gc.collect()
        lost: list[Lost] = []
        for file in (objects, buffers):
            file.seek(0)
        _read(shell, _PatientUnpickler(objects, buffers=_Buffers(buffers)), lost)
        return lost


def _read(shell: Any, unpickler: Any, lost: list[Lost]) -> None:
    """Read records to the end. A patient unpickler tells what it could not read; any other one raises."""
    patient = isinstance(unpickler, _PatientUnpickler)
    surroundings = unpickler.load()
    _surround(shell, surroundings)
    types_left = dict(surroundings["types"])
    try:
        while (record := unpickler.load()) is not None:
            name, value = record
            kind = types_left.pop(name)
            error = unpickler.failure_of(value) if patient else None
            if error is not None:
                lost.append(Lost(name, kind, reason_of(error)))
                shell.user_ns.pop(name, None)
            else:
                shell.user_ns[name] = shell.user_ns if value is _Whole else value
            del record, value
    except Exception as exc:
        for name in surroundings["types"]:
            if not patient or name in types_left:
                shell.user_ns.pop(name, None)
        if not patient:
            raise
        lost += [Lost(name, kind, reason_of(exc)) for name, kind in types_left.items()]


class _Broken:
    """Stands for an object that could not be made again."""


class _PatientUnpickler(pickle._Unpickler):
    """Goes on after a failure, with something broken in its place. Slower by far, and only used after one."""

    def __init__(self, file: IO[bytes], *, buffers: Any) -> None:
        super().__init__(file, buffers=buffers)
        self._failure: BaseException | None = None
        self._broken: dict[int, tuple[Any, BaseException]] = {}

    def failure_of(self, value: object) -> BaseException | None:
        """Return why the record just read is not whole, or None."""
        failure, self._failure = self._failure, None
        if failure is not None:
            self.break_(value, failure)
            return failure
        return self._reached_from(value) if self._broken else None

    def break_(self, value: object, failure: BaseException) -> None:
        if not isinstance(value, _ATOMS):
            self._broken[id(value)] = (value, failure)

    def _reached_from(self, value: object) -> BaseException | None:
        """Return why something that this value refers to is broken."""
        seen: set[int] = set()
        ahead = [value]
        while ahead:
            found = ahead.pop()
            if id(found) in self._broken:
                return self._broken[id(found)][1]
            if id(found) in seen or isinstance(found, _ATOMS):
                continue
            seen.add(id(found))
            if isinstance(found, type):
                ahead += vars(found).values() if found.__module__ == "__main__" else ()
            elif isinstance(found, types.FunctionType):
                ahead += (*(found.__closure__ or ()), *(found.__defaults__ or ()))
            else:
                ahead += gc.get_referents(found)
        return None

    def fail(self, failure: BaseException) -> None:
        if self._failure is None:
            self._failure = failure

    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)


def _go_on_after(opcode: bytes, *, takes: int | None, makes: bool) -> None:
    """Let a step leave the stack as if it had worked.

    It takes so many objects off the stack (None: those down to a mark, which it does first of all), and makes one or
    changes the one below.
    """
    plain = pickle._Unpickler.dispatch[opcode[0]]

    def step(unpickler: Any) -> None:
        left = len(unpickler.stack) - takes if takes is not None else None
        changed = _filled_by(*unpickler.stack[-2:]) if opcode == pickle.REDUCE else None
        try:
            plain(unpickler)
        except Exception as exc:
            unpickler.fail(exc)
            if left is not None:
                del unpickler.stack[left:]
            if makes:
                unpickler.stack.append(_Broken())
            for value in (unpickler.stack[-1], changed):
                unpickler.break_(value, exc)

    _PatientUnpickler.dispatch[opcode[0]] = step


def _filled_by(function: Any, arguments: Any) -> Any:
    """Return the object that a call changes rather than makes, or None."""
    fills = (_fill_cell, _fill_session_function, by_value._function_setstate, by_value._class_setstate)
    return arguments[0] if function in fills and arguments else None


for _opcode, _takes, _makes in (
    (pickle.REDUCE, 2, True),
    (pickle.NEWOBJ, 2, True),
    (pickle.NEWOBJ_EX, 3, True),
    (pickle.STACK_GLOBAL, 2, True),
    (pickle.GLOBAL, 0, True),
    (pickle.FROZENSET, None, True),
    (pickle.BUILD, 1, False),
    (pickle.SETITEM, 2, False),
    (pickle.APPEND, 1, False),
    (pickle.SETITEMS, None, False),
    (pickle.APPENDS, None, False),
    (pickle.ADDITEMS, None, False),
):
    _go_on_after(_opcode, takes=_takes, makes=_makes)


def answer_save(shell: Any, request: dict[str, Any]) -> dict[str, Any]:
    """Do what the server asks for with a `namespace_save_request`, and return the reply: whether there is a file, and
    what was lost."""
    try:
        lost = save(
            shell,
            request["objects_path"],
            request["buffers_path"],
            timeout_s=request["timeout_s"],
            max_bytes=request["max_bytes"],
        )
        saved = True
    except BaseException as exc:  # whatever user code raises, the server gets its answer
        lost, saved = all_lost(shell, exc), False
    return {"saved": saved, **_told(lost)}


def answer_load(shell: Any, request: dict[str, Any]) -> dict[str, Any]:
    """Do what the server asks for with a `namespace_load_request`, and return the reply: what was lost."""
    count = request["execution_count"]
    shell.execution_count = count + 1
    for inputs in (shell.history_manager.input_hist_parsed, shell.history_manager.input_hist_raw):
        inputs[:] = [""] * (count + 1)
    try:
        lost = load(shell, request["objects_path"], request["buffers_path"]) if "objects_path" in request else []
    except BaseException as exc:
        for name in variables_of(shell):
            shell.user_ns.pop(name, None)
        reason = "they could not be read in time" if _interrupted(exc) else reason_of(exc)
        lost = [Lost(ALL, "", reason)]
    return _told(lost)


def _told(lost: list[Lost]) -> dict[str, Any]:
    described = [one.describe() for one in lost[:MAX_LOST]]
    if len(lost) > MAX_LOST:
        described.append(Lost(ALL, "", f"{len(lost) - MAX_LOST} more").describe())
    return {"lost": described}
