"""hooks.toml: what it means, and that whatever is wrong in it is told with its file and line at the start."""

import base64
from pathlib import Path

import pytest

from caesarion.errors import ConfigError, Unprocessable
from caesarion.events import Event
from caesarion_execute.hooks import (
    DEFAULT_MAX_BYTES,
    DEFAULT_WAIT_S,
    SessionRule,
    read_hooks,
    readable_id,
    secret_keys,
)

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
ENV = {"HOOK_SECRET": SECRET, "OLD_SECRET": SECRET[:-8] + "AAAA", "GITHUB_SECRET": "It's a Secret to Everybody"}
WHOLE = """\
# All that a hook may have.
[[hooks]]
name = "orders"
kind = "standard"
secrets = ["HOOK_SECRET", "OLD_SECRET"]
code = "orders.py"
session = { key = "data.customer.id", prefix = "customer-" }
answer = "result"
wait_s = 5
context = "orders"
timeout_s = 30
principal = "shop"
max_bytes = 4096

[[hooks]]
name = "push"
kind = "github"
secrets = ["GITHUB_SECRET"]
events = ["push", "pull_request"]
code = "sub/push.py"
session = { fixed = "builds" }

[[hooks]]
name = "made"
kind = "event"
filter = { exact = { type = "com.example.made" } }
code = "orders.py"
"""
LEAST = """\
[[hooks]]
name = "orders"
kind = "standard"
secrets = ["HOOK_SECRET"]
code = "orders.py"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    (tmp_path / "orders.py").write_text("total = await later(payload)\n", encoding="utf-8")
    (tmp_path / "sub" / "push.py").write_bytes(b"# coding: latin-1\nname = '\xe9'\n")
    (tmp_path / "broken.py").write_text("x = 1\nif x\n", encoding="utf-8")
    (tmp_path / "binary.py").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "nul.py").write_bytes(b"x = 1\x00")
    (tmp_path / "magic.py").write_text("%matplotlib inline\n", encoding="utf-8")
    (tmp_path / "deep.py").write_text("(" * 5000 + ")" * 5000, encoding="utf-8")
    (tmp_path / "large.py").write_text("#" * 1024**2 + "\n", encoding="utf-8")
    return tmp_path


def written(folder: Path, text: str) -> str:
    path = folder / "hooks.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_every_key_means_what_it_says(folder: Path) -> None:
    orders, push, made = read_hooks(written(folder, WHOLE), ENV)
    assert (orders.name, orders.kind, orders.answer, orders.wait_s) == ("orders", "standard", "result", 5.0)
    assert (orders.context, orders.timeout_s, orders.principal, orders.max_bytes) == ("orders", 30.0, "shop", 4096)
    assert orders.code == "total = await later(payload)\n"
    assert orders.session == SessionRule(path=("data", "customer", "id"), prefix="customer-")
    assert orders.keys[0] == bytes(range(32))
    assert len(orders.keys) == 2
    assert (push.events, push.session, push.code) == (
        ("push", "pull_request"),
        SessionRule(fixed=push.session.fixed),
        "# coding: latin-1\nname = 'é'\n",
    )
    assert push.session.fixed == "builds"
    assert push.keys == (b"It's a Secret to Everybody",)
    assert made.takes(Event("1", "/shop", "com.example.made"))
    assert not made.takes(Event("1", "/shop", "com.example.sold"))
    assert not orders.takes(Event("1", "/shop", "com.example.made"))


def test_what_is_left_out_has_a_default(folder: Path) -> None:
    (hook,) = read_hooks(written(folder, LEAST), ENV)
    assert (hook.session, hook.answer, hook.context, hook.principal) == (SessionRule(), "accepted", "default", "local")
    assert (hook.wait_s, hook.max_bytes, hook.timeout_s) == (DEFAULT_WAIT_S, DEFAULT_MAX_BYTES, None)


def test_a_file_without_hooks_has_none(folder: Path) -> None:
    assert read_hooks(written(folder, "# none yet\n"), ENV) == ()


def test_neither_code_nor_secrets_are_shown(folder: Path) -> None:
    for hook in read_hooks(written(folder, WHOLE), ENV):
        assert "Everybody" not in repr(hook)
        assert "keys" not in repr(hook)
        assert "total" not in repr(hook)


def test_hooks_can_be_read_without_their_secrets(folder: Path) -> None:
    hooks = read_hooks(written(folder, WHOLE), None)
    assert all(not hook.keys for hook in hooks)
    assert secret_keys(hooks[1], ENV) == (b"It's a Secret to Everybody",)
    with pytest.raises(ConfigError, match="'push' cannot be used: the variable GITHUB_SECRET is not set"):
        secret_keys(hooks[1], {})


def least(**changed: str | None) -> str:
    """Return the least hook with lines changed, added or (for None) left out; the first line of a change is line 2."""
    lines = dict(line.split(" = ", 1) for line in LEAST.splitlines()[1:])
    return "[[hooks]]\n" + "".join(f"{key} = {value}\n" for key, value in {**lines, **changed}.items() if value)


EVENT = {"kind": '"event"', "secrets": None}


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("[[hooks]]\nname = \n", 2, "no TOML"),
        ("[[hooks]]\nname = 'a'\nname = 'b'\n", 3, "no TOML"),
        ("[[hook]]\nname = 'a'\n", 1, "only [[hooks]] is"),
        ("[hooks]\nname = 'a'\n", 1, "[[hooks]]"),
        ("hooks = 3\n", 1, "[[hooks]]"),
        (least(secret='"x"'), 6, "`secret` is not known"),
        (least(events='["push"]'), 6, "events` is not known"),
        (least(filter='{ exact = { type = "x" } }'), 6, "filter` is not known"),
        (least(kind='"gitlab"'), 3, "one of 'standard', 'github', 'event'"),
        (least(kind=None), 1, "kind` must be one of"),
        (least(name=None), 1, "name` must be 1 to 64"),
        (least(name='"my hook"'), 2, "name` must be 1 to 64"),
        (least(name='"a/b"'), 2, "name` must be 1 to 64"),
        (least(name="7"), 2, "name` must be 1 to 64"),
        (least(secrets=None), 1, "`secrets` must be a list of names"),
        (least(secrets="[]"), 4, "`secrets` must be a list of names"),
        (least(secrets='["NOT_SET"]'), 4, "the variable NOT_SET is not set"),
        (least(secrets='[\n"HOOK_SECRET",\n"NOT_SET"]'), 6, "the variable NOT_SET is not set"),
        (least(secrets='["GITHUB_SECRET"]'), 4, "the secret in GITHUB_SECRET must be whsec_"),
        (least(secrets='["WEAK"]'), 4, "the secret in WEAK must be whsec_"),
        (least(kind='"github"', secrets='["WEAK"]'), 4, "at least 16 characters"),
        (least(code=None), 1, "code` must be"),
        (least(code='""'), 5, "code` must be"),
        (least(code='"none.py"'), 5, "'none.py' cannot be read: No such file"),
        (least(code='"sub"'), 5, "'sub' cannot be read"),
        (least(code='"a\\u0000b"'), 5, "cannot be read"),
        (least(code='"broken.py"'), 5, "broken.py:2: expected ':'"),
        (least(code='"binary.py"'), 5, "no Python"),
        (least(code='"nul.py"'), 5, "no Python"),
        (least(code='"magic.py"'), 5, "magic.py:1: invalid syntax"),
        (least(code='"deep.py"'), 5, "no Python"),
        (least(code='"large.py"'), 5, "larger than 1048576 bytes"),
        (least(session='"mine"'), 6, '"delivery"'),
        (least(session="{}"), 6, "fixed"),
        (least(session='{ fixed = "a b" }'), 6, "1 to 64"),
        (least(session='{ fixed = "a", key = "b" }'), 6, "fixed"),
        (least(session='{ key = "" }'), 6, "a path such as"),
        (least(session='{ key = "a..b" }'), 6, "a path such as"),
        (least(session='{ key = "a[x]", prefix = "a/" }'), 6, "at most 32"),
        (least(session="{ key = 3 }"), 6, '"delivery"'),
        (least(answer='"later"'), 6, "one of 'accepted', 'result'"),
        (least(wait_s="5"), 6, '`wait_s` is how long an answer = "result"'),
        (least(answer='"result"', wait_s="0"), 7, "wait_s` must be a number from 0.1 to 300"),
        (least(timeout_s='"1m"'), 6, "timeout_s` must be a number"),
        (least(timeout_s="1e9"), 6, "timeout_s` must be a number"),
        (least(timeout_s="nan"), 6, "timeout_s` must be a number"),
        (least(max_bytes="0"), 6, "max_bytes` must be a whole number from 1"),
        (least(max_bytes="1.5"), 6, "max_bytes` must be a whole number from 1"),
        (least(context='"a b"'), 6, "context` must be 1 to 64"),
        (least(principal='"a b"'), 6, "principal` must be 1 to 64"),
        (LEAST + LEAST, 7, "the name 'orders' is that of the hook in line 2"),
        (least(kind='"github"', secrets='["GITHUB_SECRET"]', events="[]"), 6, "leave it out"),
        (least(kind='"github"', secrets='["GITHUB_SECRET"]', events='"push"'), 6, "a list of names of X-GitHub-Event"),
        (least(kind='"github"', secrets='["GITHUB_SECRET"]', events='["a b"]'), 6, "a name of X-GitHub-Event"),
        (least(**EVENT), 1, "filter` must be a filter such as"),
        (least(**EVENT, filter="{}"), 5, "filter` must be a filter such as"),
        (least(**EVENT, filter='{ exact = { type = "" } }'), 5, "not empty"),
        (least(**EVENT, filter='{ like = { type = "x" } }'), 5, "one of exact, prefix"),
        (least(kind='"event"', filter='{ exact = { type = "x" } }'), 4, "secrets` is not known"),
        (least(**EVENT, name='"Made"', filter='{ exact = { type = "x" } }'), 2, "name` must be"),
    ],
)
def test_what_is_wrong_is_told_with_file_and_line(folder: Path, text: str, line: int, said: str) -> None:
    path = written(folder, text)
    with pytest.raises(ConfigError) as caught:
        read_hooks(path, {**ENV, "WEAK": "whsec_c2hvcnQ="})
    assert caught.value.message.startswith(f"{path}:{line}: ")
    assert said in caught.value.message


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"hooks\.toml: this cannot be read: No such file"):
        read_hooks(str(tmp_path / "hooks.toml"), ENV)


@pytest.mark.parametrize("given", ['["whsec_aaaaaaaaaaaaaaaa"]', '"whsec_aaaaaaaaaaaaaaaa"', '["s3cretlowercase"]'])
def test_a_secret_that_was_written_into_the_file_is_not_shown(folder: Path, given: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_hooks(written(folder, least(secrets=given)), ENV)
    assert given.strip('[]"') not in caught.value.message
    assert "environment variable" in caught.value.message


PAYLOAD = {"repository": {"full_name": "octo/hello"}, "items": [{"id": 7}, {"id": True}], "none": None, "empty": ""}


@pytest.mark.parametrize(
    ("rule", "session"),
    [
        (SessionRule(), None),
        (SessionRule(path=("items", "0", "id")), "7"),
        (SessionRule(path=("items", "1", "id")), "true"),
        (SessionRule(path=("items", "0", "id"), prefix="item-"), "item-7"),
        (SessionRule(path=("repository", "full_name")), readable_id("octo/hello")),
    ],
)
def test_a_payload_names_its_session(rule: SessionRule, session: str | None) -> None:
    assert rule.session_of(PAYLOAD) == session


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("repository.owner.name", "there is no 'repository.owner'"),
        ("repository", "it is an object"),
        ("items", "it is an array"),
        ("items.2.id", "there is no 'items.2'"),
        ("items.-1", "there is no 'items.-1'"),
        ("items.x", "there is no 'items.x'"),
        ("none", "it is null"),
        ("empty", "it is an empty text"),
        ("repository.full_name.x", "there is no 'repository.full_name.x'"),
    ],
)
def test_a_payload_without_the_key_is_told_the_path(path: str, said: str) -> None:
    with pytest.raises(Unprocessable) as caught:
        SessionRule(path=tuple(path.split("."))).session_of(PAYLOAD)
    assert repr(path) in caught.value.message
    assert said in caught.value.message


@pytest.mark.parametrize("key", ["a.b.0.id", "a.b[0].id"])
def test_an_index_may_stand_in_brackets(folder: Path, key: str) -> None:
    (hook,) = read_hooks(written(folder, least(session=f'{{ key = "{key}" }}')), ENV)
    assert hook.session.session_of({"a": {"b": [{"id": "x"}]}}) == "x"


@pytest.mark.parametrize("text", ["octo", "A_b-9", "7", "x" * 64, "6dcb09b5b57875f334f61aebed695e2e4193db5e"])
def test_a_text_that_is_an_id_stays_as_it_is(text: str) -> None:
    assert readable_id(text) == text


def test_what_is_no_id_stays_readable_and_never_meets_another() -> None:
    texts = ["octo/hello", "octo-hello", "octo hello", "octo//hello", "a@b.c", "/", "🐍", "\ud800", "x" * 65, "x" * 66]
    texts += ["é", "", "-", "a" * 10_000, "\0", "octo/hello\n"]
    texts += [readable_id(text) for text in texts if readable_id(text) != text]  # made to look as if it had a hash
    ids = [readable_id(text) for text in texts]
    assert len(set(ids)) == len(texts)
    assert all(
        1 <= len(id) <= 64 and id.isascii() and id.replace("-", "").replace("_", "").isalnum()
        for id in ids
        if id != "-"
    )
    assert ids[0].startswith("octo-hello-")
    assert len(readable_id("a/" * 100, prefix="p" * 32)) <= 64
