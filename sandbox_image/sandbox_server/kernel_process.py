"""One IPython kernel in a forked process, started without what a plain `ipykernel_launcher` start spends its time on.

`prepare` does, once and before any fork, all that does not touch a socket, a thread or a file descriptor: imports, the
interactive shell, magics, the inline backend. `run` does the rest in the fork, which is why a kernel answers within
milliseconds. See docs/decisions/0001-kernels-from-a-zygote.md for what each step was worth.
"""

import contextlib
import ctypes
import gc
import io
import os
import shutil
import signal
import sys
from typing import Any, NoReturn

from sandbox_server.import_hooks import AfterImport
from sandbox_server.kernel_rules import NO_INPUT, NO_NETWORK_INSTALL

# What a kernel would otherwise import at its start or in its first cells, a plot, a table and a traceback among them.
PRELOADED = (
    "numpy pandas pandas.io.formats.html pandas.io.formats.string matplotlib matplotlib.pyplot "
    "matplotlib_inline.backend_inline matplotlib_inline.config PIL.PngImagePlugin PIL.JpegImagePlugin "
    "PIL.GifImagePlugin PIL.BmpImagePlugin PIL.PpmImagePlugin ipykernel.debugger ipykernel.heartbeat "
    "ipykernel.displayhook IPython.core.logger stack_data executing asttokens pure_eval "
    "pygments.formatters.terminal256 tornado.platform.asyncio tornado.gen tornado.queues tornado.locks "
    "faulthandler encodings.ascii "
).split()
FLUSH_INTERVAL_S = 0.004
FONTS = ("share", "caesarion", "matplotlib")
"""Where the setup leaves matplotlib's list of fonts, within the interpreter's prefix."""
FIGURE_DPI = 144
PR_SET_PDEATHSIG, PR_SET_DUMPABLE = 1, 4  # linux/prctl.h


def prepare(network: str) -> Any:
    """Import the stack and build the interactive shell; return the not yet connected kernel application.

    Must run before any thread or zmq context exists, and in a process that forks no kernel meanwhile.
    """
    os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    _without_debugger()
    from ipykernel import iostream
    from ipykernel.kernelapp import IPKernelApp
    from ipykernel.zmqshell import ZMQInteractiveShell
    from IPython.core.profiledir import ProfileDir
    from traitlets.config import Config

    from sandbox_server.kernel_output import BoundedOutStream, BoundedSession
    from sandbox_server.sandbox_kernel import SandboxKernel

    iostream.OutStream.flush_interval = FLUSH_INTERVAL_S
    _take_fonts(os.path.join(sys.prefix, *FONTS))
    for module in PRELOADED:
        __import__(module)

    config = Config()
    config.HistoryManager.enabled = False
    config.IPCompleter.use_jedi = False  # it reads the sources of pandas for seconds before the first completion
    config.InlineBackend.figure_formats = {"png"}
    config.InteractiveShell.colors = "linux"
    config.IPKernelApp.matplotlib = None
    app = IPKernelApp.instance(
        config=config,
        parent_handle=0,
        connection_file="/dev/null",
        kernel_class=SandboxKernel,
        session=BoundedSession(config=config),
        outstream_class=f"{BoundedOutStream.__module__}.{BoundedOutStream.__name__}",
    )
    home = os.path.join(os.environ["HOME"], ".ipython")
    app.profile_dir = ProfileDir.create_profile_dir_by_name(_made(home), "default", config=config)
    app.init_pdb()
    shell = ZMQInteractiveShell.instance(
        config=config,
        profile_dir=app.profile_dir,
        user_ns={},
        compiler_class=app.kernel_class.compiler_class.default_value,
    )
    _configure_figures(shell)
    _prefer_data_to_scripts()
    _explain_refusals(shell, network)
    _warm(shell)
    return app


def _take_fonts(folder: str) -> None:
    """Put the list of fonts where matplotlib looks for it; making one takes a third of a second."""
    with contextlib.suppress(OSError):
        cache = os.path.join(os.environ["HOME"], ".cache", "matplotlib")
        for name in os.listdir(folder):
            os.makedirs(cache, exist_ok=True)
            shutil.copyfile(os.path.join(folder, name), os.path.join(cache, name))


def _without_debugger() -> None:
    """Let ipykernel find no debugpy: probing for it costs each kernel 18 ms, and nobody can attach a debugger here."""
    blocked: dict[str, Any] = {"debugpy": None}
    sys.modules.update(blocked)


def hide_process() -> None:
    """Let no other process of this user open this one's memory, environment or descriptors (prctl(2), PR_SET_DUMPABLE).

    A fork inherits it; `leave_parent` takes it back for kernels, whose code owns them anyway.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0)


def _made(folder: str) -> str:
    os.makedirs(folder, exist_ok=True)
    return folder


def _configure_figures(shell: Any) -> None:
    import matplotlib
    from matplotlib_inline.backend_inline import configure_inline_support

    configure_inline_support(shell, "module://matplotlib_inline.backend_inline")
    matplotlib.rcParams["figure.dpi"] = FIGURE_DPI / 2
    matplotlib.rcParams["savefig.dpi"] = FIGURE_DPI
    matplotlib.rcParams["figure.constrained_layout.use"] = True


def _prefer_data_to_scripts() -> None:
    """Let plotly and altair give their figures as data; by default they give HTML that loads scripts from elsewhere."""
    os.environ["PLOTLY_RENDERER"] = "plotly_mimetype"
    sys.meta_path.insert(0, AfterImport("altair", lambda altair: altair.renderers.enable("mimetype")))


def _explain_refusals(shell: Any, network: str) -> None:
    """Say in words why `%pip install` cannot work where there is no network, before pip says it in forty lines."""
    if network == "internet":
        return
    from IPython.core.error import UsageError

    installed = shell.magics_manager.magics["line"]["pip"]

    def pip(line: str) -> Any:
        words = line.split()
        if words and words[0] in ("install", "download", "index", "search"):
            raise UsageError(NO_NETWORK_INSTALL)
        return installed(line)

    shell.register_magic_function(pip, "line", "pip")


def _warm(shell: Any) -> None:
    """Run the paths that the first cells of a kernel would otherwise be the first to run.

    Frozen objects are left alone by the garbage collector, so that a fork shares their pages instead of copying them.
    """
    shell.run_cell("1", silent=True, store_history=False)
    shell.input_transformer_manager.transform_cell("x = 1\n")
    shell.execution_count = 1
    import matplotlib
    from matplotlib import pyplot

    figure, axes = pyplot.subplots()
    axes.plot([0, 1], label="warm")
    axes.legend()
    figure.savefig(io.BytesIO(), format="png")
    pyplot.close(figure)
    matplotlib.interactive(True)  # figures are shown at the end of their cell, also without plt.show()
    gc.collect()
    gc.freeze()


def run(app: Any, connection: dict[str, Any], env: dict[str, str]) -> NoReturn:
    """Be the kernel of `connection` (a Jupyter connection file's content, transport ipc) until it ends.

    Runs in a fresh fork of the process that called `prepare`, and never returns.
    """
    import numpy

    from sandbox_server import namespace
    from sandbox_server.kernel_output import hold_back

    first_environ = dict(os.environ)
    os.environ.update(env)
    numpy.random.seed()
    app.transport, app.ip = connection["transport"], connection["ip"]
    for channel in ("shell", "iopub", "stdin", "hb", "control"):
        setattr(app, f"{channel}_port", connection[f"{channel}_port"])
    app.session.key = connection["key"].encode()
    app.session.pid = os.getpid()
    app.init_sockets()
    hold_back(app.iopub_thread)
    app.init_heartbeat()
    _leave_log()
    app._ports = {name: getattr(app, f"{name}_port") for name in ("shell", "iopub", "stdin", "hb", "control")}
    app.init_io()
    app.init_signal()
    app.init_kernel()
    app.init_path()
    _adopt_shell(app)
    namespace.begin(app.kernel.shell, first_environ)
    sys.stdout.flush()
    sys.stderr.flush()
    app.start()
    os._exit(0)


def _leave_log() -> None:
    """Take the sandbox's log away, which user code could otherwise fill through descriptors 1 and 2.

    ipykernel keeps copies of both when it takes them over.
    """
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)


def _adopt_shell(app: Any) -> None:
    """Give the shell that was made before the fork the kernel that was made after it."""
    kernel, shell = app.kernel, app.kernel.shell
    shell.kernel = kernel
    shell.parent = kernel
    app.init_shell()
    streams: tuple[Any, Any] = (sys.stdout, sys.stderr)

    def refuse_input(*_args: Any, **_kwargs: Any) -> NoReturn:
        raise EOFError(NO_INPUT)

    kernel.raw_input = refuse_input
    kernel.getpass = refuse_input

    def open_streams() -> None:
        for name, stream in zip(("stdout", "stderr"), streams, strict=True):
            current = getattr(sys, name, None)
            if getattr(current, "closed", True) or not hasattr(current, "flush"):
                setattr(sys, name, stream)

    for stream in streams:
        stream.close = stream.flush
    for event in ("pre_run_cell", "post_run_cell"):  # ipykernel flushes them outside of these
        shell.events.register(event, lambda _: open_streams())


def leave_parent(control_fds: list[int]) -> None:
    """Give a fresh fork its own process group and default signals, let it end with its zygote, and let it be the first
    to go when memory ends."""
    os.setsid()
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        libc.prctl(PR_SET_DUMPABLE, 1)
    for signum in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    for fd in control_fds:
        os.close(fd)
    with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("1000")
