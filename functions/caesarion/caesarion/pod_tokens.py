"""The bearer token of a sandbox in a pod, which every replica of a function derives and nobody else can."""

import base64
import hashlib
import hmac

_PURPOSE = b"caesarion sandbox token 1\0"


def pod_token(key: str, pod_uid: str) -> str:
    """Return the token of the pod with this uid; `key` is what only the functions know."""
    digest = hmac.digest(key.encode(), _PURPOSE + pod_uid.encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")
