"""What the kernel says to user code where something is not possible in a sandbox."""

NO_INPUT = (
    "input() has nobody to ask: code runs here without a terminal. Put the value into a variable, "
    "a file in /uploaded_files, or the session's env instead."
)
NO_NETWORK_INSTALL = (
    "this sandbox has no network (CAESARION_SANDBOX_NETWORK=none), so packages cannot be installed. Use what is there "
    "(`%pip list`), upload the module as a .py file, or ask the operator for CAESARION_SANDBOX_NETWORK=internet."
)
MAX_MESSAGE_BYTES = 32 * 1024**2  # of one display or result; streams of text go in pieces and have no such limit


def too_large_to_show(size_bytes: int) -> str:
    """Return what stands in place of an output that is too large for one message."""
    return (
        f"[an output of {size_bytes} bytes is not shown: one may have {MAX_MESSAGE_BYTES} bytes. "
        "Show a part of it, or write it to a file in /uploaded_files and download that.]"
    )
