"""Signatures of webhooks: Standard Webhooks v1 and GitHub's. Pure; everything is compared over the raw bytes.

Sources: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md and GitHub's
"Validating webhook deliveries".
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

WINDOW_S = 300
PREFIX = "whsec_"
MIN_STANDARD_BYTES = 24
MAX_STANDARD_BYTES = 512
MIN_GITHUB_BYTES = 16
MAX_SIGNATURES = 16
ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"
GITHUB_SIGNATURE, GITHUB_DELIVERY, GITHUB_EVENT = "x-hub-signature-256", "x-github-delivery", "x-github-event"

# Of what is signed, `id.timestamp.body`, a full stop within the id would leave open where the body begins.
_DELIVERY_ID = re.compile(r"[\x21-\x2d\x2f-\x7e]{1,255}")
_TIMESTAMP = re.compile(r"[0-9]{1,15}")
_HEX_DIGEST = re.compile(r"[0-9a-fA-F]{64}")
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")


class BadSignature(Exception):
    """A request that is not what a holder of the secret has just signed. `reason` is for the log."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Signed:
    """What a signature stands for.

    `delivery` is the same for each attempt of one delivery; `attempt` is 64 hexadecimal digits that stand for this
    attempt alone, or None where the sender's scheme has no time in it.
    """

    delivery: str
    attempt: str | None


def standard_key(secret: str) -> bytes:
    """Return the key of a secret with the prefix `whsec_`. Raises ValueError with words for "must be …"."""
    expected = f"{PREFIX} and the base64 of {MIN_STANDARD_BYTES} to {MAX_STANDARD_BYTES} random bytes"
    encoded = secret.removeprefix(PREFIX)
    if encoded == secret or not _BASE64.fullmatch(encoded):
        raise ValueError(expected)
    try:
        key = base64.b64decode(encoded.rstrip("=") + "=" * (-len(encoded.rstrip("=")) % 4), validate=True)
    except binascii.Error:
        raise ValueError(expected) from None
    if not MIN_STANDARD_BYTES <= len(key) <= MAX_STANDARD_BYTES:
        raise ValueError(expected)
    return key


def github_key(secret: str) -> bytes:
    """Return the key of a secret as GitHub's form takes it. Raises ValueError with words for "must be …"."""
    key = secret.encode("utf-8", "surrogateescape")
    if len(key) < MIN_GITHUB_BYTES or secret != secret.strip():
        raise ValueError(f"at least {MIN_GITHUB_BYTES} characters without blanks around them")
    return key


def sign_standard(key: bytes, delivery: str, timestamp_s: int, body: bytes) -> str:
    """Return one signature for `webhook-signature`."""
    return "v1," + base64.b64encode(_standard_mac(key, delivery, str(timestamp_s), body)).decode()


def sign_github(key: bytes, body: bytes) -> str:
    """Return the value of `X-Hub-Signature-256`."""
    return "sha256=" + hmac.digest(key, body, "sha256").hex()


def verify_standard(
    headers: Mapping[str, Sequence[str]], body: bytes, keys: Iterable[bytes], *, now_s: float
) -> Signed:
    """Return what was signed with one of `keys` within the window. Raises BadSignature.

    `headers` holds each header's values by its name in lower case.
    """
    delivery, timestamp, given = (_only(headers, name) for name in (ID, TIMESTAMP, SIGNATURE))
    if not _DELIVERY_ID.fullmatch(delivery):
        raise BadSignature(f"{ID} is not 1 to 255 visible ASCII characters without a full stop")
    if not _TIMESTAMP.fullmatch(timestamp):
        raise BadSignature(f"{TIMESTAMP} is not a whole number of seconds")
    signatures = given.split()
    if len(signatures) > MAX_SIGNATURES:
        raise BadSignature(f"there are more than {MAX_SIGNATURES} signatures")
    known = [decoded for item in signatures if (decoded := _standard_signature(item)) is not None]
    if not known:
        raise BadSignature(f"{SIGNATURE} has no signature of the version v1")
    expected = [_standard_mac(key, delivery, timestamp, body) for key in keys]
    if not _any_equal(known, expected):
        raise BadSignature("the signature is of another secret or another body")
    late_s = now_s - int(timestamp)
    if abs(late_s) > WINDOW_S:
        raise BadSignature(f"the timestamp is {abs(late_s):.0f} s {'old' if late_s > 0 else 'in the future'}")
    signed = f"{delivery}.{timestamp}.".encode() + body
    return Signed(delivery, hashlib.sha256(signed).hexdigest())


def verify_github(headers: Mapping[str, Sequence[str]], body: bytes, keys: Iterable[bytes]) -> Signed:
    """Return the delivery whose body was signed with one of `keys`. Raises BadSignature.

    GitHub signs the body alone: neither its id nor a time is in it, so an attempt cannot be told from its repetition.
    """
    given = _only(headers, GITHUB_SIGNATURE)
    delivery = _only(headers, GITHUB_DELIVERY)
    scheme, _, digest = given.partition("=")
    if scheme != "sha256" or not _HEX_DIGEST.fullmatch(digest):
        raise BadSignature(f"{GITHUB_SIGNATURE} is not sha256= and 64 hexadecimal digits")
    expected = [hmac.digest(key, body, "sha256") for key in keys]
    if not _any_equal([bytes.fromhex(digest)], expected):
        raise BadSignature("the signature is of another secret or another body")
    if not _DELIVERY_ID.fullmatch(delivery):
        raise BadSignature(f"{GITHUB_DELIVERY} is not 1 to 255 visible ASCII characters without a full stop")
    return Signed(delivery, None)


def _only(headers: Mapping[str, Sequence[str]], name: str) -> str:
    values = headers.get(name, ())
    if len(values) != 1 or not values[0]:
        raise BadSignature(f"{name} is there more than once" if len(values) > 1 else f"{name} is missing")
    return values[0]


def _standard_signature(item: str) -> bytes | None:
    version, comma, encoded = item.partition(",")
    if version != "v1" or not comma:
        return None
    try:
        return base64.b64decode(encoded, validate=True)
    except ValueError:
        return None


def _standard_mac(key: bytes, delivery: str, timestamp: str, body: bytes) -> bytes:
    return hmac.digest(key, f"{delivery}.{timestamp}.".encode() + body, "sha256")


def _any_equal(given: Iterable[bytes], expected: Sequence[bytes]) -> bool:
    """Whether one of `given` is one of `expected`; as quick for none as for the first."""
    found = False
    for one in given:
        for other in expected:
            found |= hmac.compare_digest(one, other)
    return found
