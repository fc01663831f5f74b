"""Memory that the sandbox uses, from its own control group; both versions as they show themselves to a container."""

from pathlib import Path

_PLACES = ("/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory/memory.usage_in_bytes")


def memory_used_bytes() -> int | None:
    """Return the bytes in use, or None where there is no control group to ask."""
    for place in _PLACES:
        try:
            return int(Path(place).read_text(encoding="ascii"))
        except (OSError, ValueError):
            continue
    return None
