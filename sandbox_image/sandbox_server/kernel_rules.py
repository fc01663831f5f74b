"""What the kernel says to user code where something is not possible in a sandbox."""

NO_INPUT = (
    "input() has nobody to ask: code runs here without a terminal. Put the value into a variable, "
    "a file in /uploaded_files, or the session's env instead."
)
NO_NETWORK_INSTALL = (
    "this sandbox has no network (CAESARION_SANDBOX_NETWORK=none), so packages cannot be installed. Use what is there "
    "(`%pip list`), upload the module as a .py file, or ask the operator for CAESARION_SANDBOX_NETWORK=internet."
)
