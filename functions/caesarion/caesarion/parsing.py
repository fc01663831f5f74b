"""From the text of a setting to its value. Each raises ValueError with words for "must be …"."""

import math
import re
from collections.abc import Callable
from urllib.parse import urlsplit

_EXTENSION = re.compile(r"[a-z0-9]{1,16}")
_HOST = re.compile(r"(\*\.)?[a-z0-9]([a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\]")


def text(value: str) -> str:
    """Return the text as it is."""
    return value


def boolean(value: str) -> bool:
    """Return what 1/0, true/false, yes/no or on/off say."""
    match value.lower():
        case "1" | "true" | "yes" | "on":
            return True
        case "0" | "false" | "no" | "off":
            return False
    raise ValueError("1 or 0")


def whole_between(low: int, high: int) -> Callable[[str], int]:
    """Return a parser of whole numbers from `low` to `high`."""

    def parse(value: str) -> int:
        if re.fullmatch(r"[+-]?\d{1,18}", value) and low <= int(value) <= high:
            return int(value)
        raise ValueError(f"a whole number from {low} to {high}")

    return parse


def real_between(low: float, high: float) -> Callable[[str], float]:
    """Return a parser of numbers from `low` to `high`."""

    def parse(value: str) -> float:
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if low <= number <= high:
            return number
        raise ValueError(f"a number from {low:g} to {high:g}") from None

    return parse


def one_of(*words: str) -> Callable[[str], str]:
    """Return a parser of one of these words."""

    def parse(value: str) -> str:
        if value in words:
            return value
        raise ValueError(f"one of {', '.join(words)}")

    return parse


def items(value: str) -> list[str]:
    """Return the parts between commas, without blanks and empty ones."""
    return [item for item in (part.strip() for part in value.split(",")) if item]


def extensions(value: str) -> tuple[str, ...]:
    """Return file extensions in lower case without their dot."""
    found = tuple(item.lower().removeprefix(".") for item in items(value))
    if all(_EXTENSION.fullmatch(item) for item in found):
        return found
    raise ValueError("file extensions such as 'xlsx,parquet'")


def origins(value: str) -> tuple[str, ...]:
    """Return web origins: scheme, host and port, nothing more."""
    found = tuple(item.lower().rstrip("/") for item in items(value))
    for item in found:
        try:
            parts = urlsplit(item)
            valid = (
                parts.scheme in ("http", "https")
                and bool(parts.hostname)
                and item == f"{parts.scheme}://{parts.netloc}"
            )
            _ = parts.port
        except ValueError:
            valid = False
        if not valid or "@" in item or "*" in item:
            raise ValueError("origins such as 'https://app.example.com,http://localhost:3000'")
    return found


def host_names(value: str) -> tuple[str, ...]:
    """Return host names without port; ``*.example.com`` stands for every name below it."""
    found = tuple(item.lower().rstrip(".") for item in items(value))
    if all(_HOST.fullmatch(item) for item in found):
        return found
    raise ValueError("host names without a port, such as 'api.example.com,*.example.org'")


def http_url(value: str) -> str:
    """Return the address of a web service without a slash at its end."""
    try:
        parts = urlsplit(value)
        _ = parts.port
        if parts.scheme in ("http", "https") and parts.hostname and not parts.query and not parts.fragment:
            return value.rstrip("/")
    except ValueError:
        pass
    raise ValueError("an address such as 'https://api.example.com/v1'")


def names(value: str) -> tuple[str, ...]:
    """Return names between commas."""
    return tuple(items(value))
