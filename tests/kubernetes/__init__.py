"""Sandboxes of a cluster: their objects as tables, and what only a real cluster shows."""
