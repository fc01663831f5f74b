"""Code that a file of hooks or schedules names: read at the start, so that what cannot run is told there."""

import importlib.util
import os.path
import re
import warnings
from ast import PyCF_ALLOW_TOP_LEVEL_AWAIT

from caesarion.config_files import Table

MAX_CODE_BYTES = 1024 * 1024
_MAGIC = re.compile(r"^\s*[%!?]|\?\s*$", re.MULTILINE)


def read_code(table: Table, *, with_magics: bool = False) -> tuple[str, str]:
    """Return the path and the text of the code file that a table names, beside its own file.

    It must compile as Python; `with_magics` leaves code unchecked in which is what IPython takes and Python does not
    (`%pip`, `!ls`). Raises ConfigError that names file and line.
    """
    name = table.text("code", "the name of a file with Python code, beside this file")
    path = os.path.join(os.path.dirname(table.path), name)
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_CODE_BYTES + 1)
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "no name of a file"
        table.problem(f"the code {name!r} cannot be read: {reason}", "code")
    if len(content) > MAX_CODE_BYTES:
        table.problem(f"the code {name!r} is larger than {MAX_CODE_BYTES} bytes", "code")
    try:
        code = importlib.util.decode_source(content)
        if not (with_magics and _MAGIC.search(code)):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                compile(code, path, "exec", flags=PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    except SyntaxError as exc:
        table.problem(f"the code is no Python: {path}:{exc.lineno or 1}: {exc.msg}", "code")
    except (ValueError, RecursionError, MemoryError) as exc:
        table.problem(f"the code {name!r} is no Python: {exc}", "code")
    return path, code
