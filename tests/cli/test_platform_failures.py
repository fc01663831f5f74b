"""Sessions, notebooks, keys, and a platform that is not there or refuses."""

import json

import httpx
import pytest

from caesarion.principals import key_digest
from tests.cli.conftest import Caesarion, Session
from tests.conftest import ProductServer

NOBODY = "http://127.0.0.1:1"


def test_sessions_are_made_listed_and_closed(caesarion: Caesarion) -> None:
    session = caesarion("sessions", "new", "--idle-timeout", "60").out.strip()
    listed = {known["id"]: known for known in json.loads(caesarion("sessions", "ls", "--json").out)["sessions"]}
    assert listed[session]["idle_timeout_s"] == 60
    assert session in caesarion("sessions", "ls").out
    assert caesarion("sessions", "rm", session, "never-there").code == 0
    assert session not in caesarion("sessions", "ls").out


def test_a_notebook_holds_what_ran(caesarion: Caesarion, session: Session) -> None:
    caesarion("run", "-", "--session", session.id, given="6 * 7")
    assert caesarion("notebook", session.id).code == 0
    saved = json.loads((caesarion.folder / f"{session.id}.ipynb").read_text(encoding="utf-8"))
    assert saved["cells"][0]["source"] == "6 * 7"
    assert json.loads(caesarion("notebook", session.id, "-o", "-").out) == saved
    assert caesarion("notebook", session.id, "--context", "none").code == 3


def test_keys_open_the_product_and_are_shown_once(caesarion: Caesarion, product_server: ProductServer) -> None:
    key = caesarion("keys", "add", "alice").out.strip()
    made = json.loads(caesarion("keys", "add", "bob", "--json").out)
    url = product_server.serve({"CAESARION_HOME": str(caesarion.home / "caesarion")})
    for allowed in (key, made["key"]):
        assert caesarion("sessions", "ls", "--url", url, env={"CAESARION_API_KEY": allowed}).code == 0

    listed = caesarion("keys", "ls").out
    assert "alice" in listed
    assert "bob" in listed
    assert key not in listed
    assert [known["principal"] for known in json.loads(caesarion("keys", "ls", "--json").out)["keys"]] == [
        "alice",
        "bob",
    ]

    assert caesarion("keys", "rm", made["id"]).code == 0
    assert caesarion("keys", "rm", made["id"]).code == 3
    assert "bob" not in caesarion("keys", "ls").out
    assert caesarion("keys", "add", "not a name").code == 2


@pytest.mark.parametrize("key", ["", "cz_wrong"])
def test_without_the_right_key_it_says_what_is_missing(
    caesarion: Caesarion, product_server: ProductServer, key: str
) -> None:
    url = product_server.serve({"CAESARION_API_KEYS": f"alice:{key_digest('cz_right')}"})
    ended = caesarion("sessions", "ls", "--url", url, env={"CAESARION_API_KEY": key})
    assert ended.code == 3
    assert "unauthorized" in ended.err
    assert ("CAESARION_API_KEY" in ended.err) is (key == "")


@pytest.mark.parametrize("arguments", [("run", "-"), ("sessions", "ls"), ("files", "ls", "--session", "s")])
def test_a_product_that_is_not_there_is_told_with_what_to_do(caesarion: Caesarion, arguments: tuple[str, ...]) -> None:
    ended = caesarion(*arguments, "--url", NOBODY)
    assert (ended.code, ended.out) == (3, "")
    for told in (NOBODY, "caesarion serve", "--url", "CAESARION_URL"):
        assert told in ended.err
    ended = caesarion(*arguments, "--json", env={"CAESARION_URL": NOBODY})
    assert ended.code == 3
    assert ended.error["code"] == "unreachable"


def test_the_platforms_reason_comes_through_in_its_own_shape(caesarion: Caesarion, client: httpx.Client) -> None:
    told = client.get("/sessions/not-there").json()["error"]
    ended = caesarion("files", "ls", "--session", "not-there", "--json")
    assert ended.code == 3
    assert (ended.error["code"], ended.error["message"]) == (told["code"], told["message"])
    ended = caesarion("files", "ls", "--session", "not-there")
    assert told["message"] in ended.err
    assert told["code"] in ended.err


@pytest.mark.parametrize(
    "arguments",
    [("run",), ("run", "-", "--timeout", "-1"), ("run", "-", "--url", "localhost"), ("none",), ("files", "ls")],
)
def test_wrong_usage_ends_with_2(caesarion: Caesarion, arguments: tuple[str, ...]) -> None:
    assert caesarion(*arguments).code == 2


def test_the_version_is_told(caesarion: Caesarion) -> None:
    assert caesarion("--version").out.startswith("caesarion 0.")
