"""The chat function: a conversation, a model, and tools that run in the session's sandbox."""
