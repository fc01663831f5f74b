"""The server and the kernels inside a sandbox. What a session owns lives here: variables, files and the journal."""
