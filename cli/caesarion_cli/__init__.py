"""The `caesarion` command: a client of the functions, and all of them in one process."""
