"""Signatures against the published vectors and against libraries that nobody here wrote."""

import base64
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import openai
import pytest
import standardwebhooks

from caesarion_execute.signatures import (
    BadSignature,
    github_key,
    sign_github,
    sign_standard,
    standard_key,
    verify_github,
    verify_standard,
)

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER_SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
SENT_S = 1614265330
BODY = b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
GITHUB_SECRET = "It's a Secret to Everybody"
GITHUB_BODY = b"Hello, World!"
GITHUB_SIGNATURE = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"

Headers = Mapping[str, Sequence[str]]


def standard(id: str = ID, timestamp: str = str(SENT_S), signature: str = SIGNATURE) -> dict[str, list[str]]:
    return {"webhook-id": [id], "webhook-timestamp": [timestamp], "webhook-signature": [signature]}


def github(signature: str = GITHUB_SIGNATURE) -> dict[str, list[str]]:
    return {"x-hub-signature-256": [signature], "x-github-delivery": ["72d3162e-cc78-11e3-81ab-4c9367dc0958"]}


def refusal(headers: Headers, body: bytes = BODY, secret: str = SECRET, now_s: float = SENT_S) -> str:
    with pytest.raises(BadSignature) as caught:
        verify_standard(headers, body, [standard_key(secret)], now_s=now_s)
    return caught.value.reason


def test_the_published_vector_of_standard_webhooks_is_right() -> None:
    key = standard_key(SECRET)
    assert sign_standard(key, ID, SENT_S, BODY) == SIGNATURE
    signed = verify_standard(standard(), BODY, [key], now_s=SENT_S)
    assert signed.delivery == ID
    assert signed.attempt is not None


def test_the_published_vector_of_github_is_right() -> None:
    key = github_key(GITHUB_SECRET)
    assert sign_github(key, GITHUB_BODY) == GITHUB_SIGNATURE
    signed = verify_github(github(), GITHUB_BODY, [key])
    assert (signed.delivery, signed.attempt) == ("72d3162e-cc78-11e3-81ab-4c9367dc0958", None)


@pytest.mark.parametrize("body", [b"{}", BODY, '{"name": "Zoë 🐍"}'.encode(), b'"' + b"x" * 100_000 + b'"'])
def test_what_standardwebhooks_signs_is_taken_here_and_what_we_sign_is_taken_there(body: bytes) -> None:
    now_s = int(time.time())
    theirs = standardwebhooks.Webhook(SECRET)
    signature = theirs.sign(ID, datetime.fromtimestamp(now_s, UTC), body.decode())
    key = standard_key(SECRET)
    assert verify_standard(standard(ID, str(now_s), signature), body, [key], now_s=now_s).delivery == ID
    ours = {
        "webhook-id": ID,
        "webhook-timestamp": str(now_s),
        "webhook-signature": sign_standard(key, ID, now_s, body),
    }
    theirs.verify(body, ours, json_parse=False)


def test_openai_s_client_takes_what_we_sign() -> None:
    now_s = int(time.time())
    body = b'{"object": "event", "id": "evt_1", "type": "response.completed", "created_at": 1, "data": {"id": "r_1"}}'
    headers = {
        "webhook-id": ID,
        "webhook-timestamp": str(now_s),
        "webhook-signature": sign_standard(standard_key(OTHER_SECRET), ID, now_s, body),
    }
    with openai.OpenAI(api_key="none", base_url="http://127.0.0.1:9") as client:
        event = client.webhooks.unwrap(body, headers, secret=OTHER_SECRET)
    assert event.type == "response.completed"


def test_a_secret_may_lack_its_padding() -> None:
    for size in (24, 25, 26, 32):
        whole = "whsec_" + base64.b64encode(bytes(size)).decode()
        assert standard_key(whole) == standard_key(whole.rstrip("=")) == bytes(size)


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "whsec_",
        "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "whsec_" + base64.b64encode(bytes(23)).decode(),
        "whsec_" + base64.b64encode(bytes(513)).decode(),
        "whsec_not base64 at all, not at all",
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwA",
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n",
        "whsec_MfKQ9r8GKYqrTwjUPD8I-_ZIo2LaLaSw",
        "whpk_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    ],
)
def test_a_weak_or_broken_secret_is_refused_without_being_shown(secret: str) -> None:
    with pytest.raises(ValueError, match="24 to 512 random bytes") as caught:
        standard_key(secret)
    assert not secret.removeprefix("whsec_").strip() or secret.strip() not in str(caught.value)


@pytest.mark.parametrize("secret", ["", "short", "fifteen-letters", " It's a Secret to Everybody", "a" * 40 + "\n"])
def test_a_weak_secret_of_github_is_refused(secret: str) -> None:
    with pytest.raises(ValueError, match="at least 16 characters"):
        github_key(secret)


def test_several_signatures_and_several_secrets_meet_for_a_rotation() -> None:
    old, new = standard_key(SECRET), standard_key(OTHER_SECRET)
    by_new = sign_standard(new, ID, SENT_S, BODY)
    for signature in (SIGNATURE, by_new, f"{SIGNATURE} {by_new}", f"v1a,abcd v1,!!! v2,x  {by_new}"):
        assert verify_standard(standard(signature=signature), BODY, [old, new], now_s=SENT_S).delivery == ID
    assert "another secret" in refusal(standard(signature=by_new))
    hub_new = sign_github(github_key("another secret of enough length"), GITHUB_BODY)
    keys = [github_key(GITHUB_SECRET), github_key("another secret of enough length")]
    assert verify_github(github(hub_new), GITHUB_BODY, keys).attempt is None


def test_each_attempt_is_told_apart_by_what_was_signed_and_not_by_how_it_was_sent() -> None:
    old, new = standard_key(SECRET), standard_key(OTHER_SECRET)
    by_new = sign_standard(new, ID, SENT_S, BODY)

    def attempt(signature: str, timestamp_s: int = SENT_S) -> str | None:
        headers = standard(timestamp=str(timestamp_s), signature=signature)
        return verify_standard(headers, BODY, [old, new], now_s=SENT_S).attempt

    assert attempt(SIGNATURE) == attempt(by_new) == attempt(f"{by_new} {SIGNATURE} v1,AAAA")
    later = SENT_S + 60
    assert attempt(sign_standard(old, ID, later, BODY), later) != attempt(SIGNATURE)


@pytest.mark.parametrize("late_s", [-300, -299, 0, 299, 300])
def test_five_minutes_either_way_are_taken(late_s: int) -> None:
    assert verify_standard(standard(), BODY, [standard_key(SECRET)], now_s=SENT_S + late_s).delivery == ID


@pytest.mark.parametrize(
    ("late_s", "reason"), [(301, "301 s old"), (-301, "301 s in the future"), (10**9, "1000000000 s old")]
)
def test_what_is_older_or_newer_than_five_minutes_is_refused(late_s: int, reason: str) -> None:
    assert reason in refusal(standard(), now_s=SENT_S + late_s)


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({}, "webhook-id is missing"),
        ({**standard(), "webhook-id": []}, "webhook-id is missing"),
        ({**standard(), "webhook-id": [""]}, "webhook-id is missing"),
        ({**standard(), "webhook-timestamp": []}, "webhook-timestamp is missing"),
        ({**standard(), "webhook-signature": []}, "webhook-signature is missing"),
        ({**standard(), "webhook-signature": [SIGNATURE, SIGNATURE]}, "more than once"),
        ({**standard(), "webhook-id": [ID, ID]}, "more than once"),
        (standard(id="msg.1"), "without a full stop"),
        (standard(id="msg 1"), "visible ASCII"),
        (standard(id="mañana"), "visible ASCII"),
        (standard(id="m" * 256), "1 to 255"),
        (standard(id="another"), "another secret"),
        (standard(timestamp=str(SENT_S + 1)), "another secret"),
        (standard(timestamp=f"{SENT_S}.0"), "whole number"),
        (standard(timestamp=f" {SENT_S}"), "whole number"),
        (standard(timestamp="-5"), "whole number"),
        (standard(timestamp="٣"), "whole number"),
        (standard(timestamp="9" * 16), "whole number"),
        (standard(timestamp="NaN"), "whole number"),
        (standard(signature=SIGNATURE.removeprefix("v1,")), "version v1"),
        (standard(signature=SIGNATURE.replace("v1,", "v1a,")), "version v1"),
        (standard(signature="v1,"), "another secret"),
        (standard(signature="v1,%%%"), "version v1"),
        (standard(signature="v1,é"), "version v1"),
        (standard(signature=" "), "version v1"),
        (standard(signature=SIGNATURE[:-5] + "AAAA="), "another secret"),
        (standard(signature=" ".join(["v1,AAAA"] * 17)), "more than 16"),
    ],
)
def test_what_is_not_signed_rightly_is_refused_with_a_reason(headers: Headers, reason: str) -> None:
    assert reason in refusal(headers)


def test_a_changed_body_is_refused() -> None:
    for body in (b"", BODY + b" ", BODY.replace(b"2", b"3", 1), b"\xff"):
        assert "another secret or another body" in refusal(standard(), body)


@pytest.mark.parametrize(
    ("headers", "body", "reason"),
    [
        ({}, GITHUB_BODY, "x-hub-signature-256 is missing"),
        ({"x-hub-signature-256": [GITHUB_SIGNATURE]}, GITHUB_BODY, "x-github-delivery is missing"),
        (github(GITHUB_SIGNATURE.replace("sha256", "sha1")), GITHUB_BODY, "64 hexadecimal"),
        (github(GITHUB_SIGNATURE[:-2]), GITHUB_BODY, "64 hexadecimal"),
        (github(GITHUB_SIGNATURE[:-1] + "g"), GITHUB_BODY, "64 hexadecimal"),
        (github(GITHUB_SIGNATURE[:-1] + "8"), GITHUB_BODY, "another secret"),
        (github(), GITHUB_BODY + b"\n", "another secret"),
        ({**github(), "x-github-delivery": ["a.b"]}, GITHUB_BODY, "visible ASCII"),
        ({**github(), "x-hub-signature-256": [GITHUB_SIGNATURE] * 2}, GITHUB_BODY, "more than once"),
    ],
)
def test_what_github_did_not_sign_is_refused_with_a_reason(headers: Headers, body: bytes, reason: str) -> None:
    with pytest.raises(BadSignature) as caught:
        verify_github(headers, body, [github_key(GITHUB_SECRET)])
    assert reason in caught.value.reason


def test_no_secret_takes_nothing() -> None:
    with pytest.raises(BadSignature):
        verify_standard(standard(), BODY, [], now_s=SENT_S)
    with pytest.raises(BadSignature):
        verify_github(github(), GITHUB_BODY, [])
