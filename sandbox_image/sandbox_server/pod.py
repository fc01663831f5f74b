"""What a pod's two containers start: `python -m sandbox_server.pod server|kernels CONFIGURATION`.

The configuration is JSON and holds no secret. User code finds nothing of the cluster in its environment: the kernels'
process begins anew without what Kubernetes has put there.
"""

import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

KEPT = (
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "TMPDIR",
    "PYTHONDONTWRITEBYTECODE",
    "PIP_DISABLE_PIP_VERSION_CHECK",
    "PIP_RETRIES",
)


def main() -> None:
    """Be the server or the kernels of this pod until it ends."""
    role, configuration = sys.argv[1], json.loads(sys.argv[2])
    if role == "server":
        from sandbox_server.__main__ import run as serve

        serve(configuration)
    elif role == "kernels":
        clear(configuration["ipc_dir"])
        ourselves = [*sys.orig_argv[:-2], "zygote", sys.orig_argv[-1]]
        os.execve(sys.executable, ourselves, clean_environment(os.environ))  # noqa: S606
    else:
        from sandbox_server.zygote import run as fork_kernels

        fork_kernels(configuration)


def clean_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that kernels begin with."""
    return {name: value for name, value in environ.items() if name in KEPT}


def clear(folder: str) -> None:
    """Remove what kernels of an earlier life left in a folder."""
    for child in Path(folder).iterdir():
        if child.is_dir() and not child.is_symlink():
            shutil.rmtree(child, ignore_errors=True)
        else:
            child.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
