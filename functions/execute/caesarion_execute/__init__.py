"""The execute function: code by HTTP to a session's sandbox and back."""
