"""The edge: what talks to processes, sockets and files. Heavy imports belong inside these modules."""
