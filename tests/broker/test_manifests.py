"""`caesarion manifests`: Knative objects from the files, read back by a YAML parser that nobody here wrote."""

import importlib
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from caesarion_cli.manifests import as_yaml

# It comes with moto and has no types.
yaml: Any = importlib.import_module("yaml")
ROOT = Path(__file__).parents[2]

SCHEDULES = """
[[schedules]]
name = "nightly"
cron = "0 3 * * mon-fri"
time_zone = "Europe/Berlin"
code = "report.py"
session = "reports"
principal = "ann"
"""
TRIGGERS = """
[[triggers]]
name = "orders"
filters = [
  { exact = { type = "com.example.made", color = "red" } },
  { any = [{ prefix = { source = "/a" } }, { not = { suffix = { subject = "no" } } }] },
]
subscriber = "https://example.com/in"
delivery = { retry = 2, backoffPolicy = "linear", backoffDelay = "PT1.5S", retryAfterMax = "PT1M" }

[[triggers]]
name = "old"
filter.attributes = { type = "com.example.old" }
subscriber = "/events/chat"
"""
HOOKS = """
[[hooks]]
name = "on-order"
kind = "event"
code = "report.py"
filter = { exact = { type = "com.example.order" } }

[[hooks]]
name = "github"
kind = "github"
code = "report.py"
secrets = ["NOT_SET_HERE"]
"""
CODE = 'print("ü: \\\\", """\n# --- {x}\t""")\n'


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "report.py").write_text(CODE, encoding="utf-8")
    (tmp_path / "schedules.toml").write_text(SCHEDULES, encoding="utf-8")
    (tmp_path / "triggers.toml").write_text(TRIGGERS, encoding="utf-8")
    (tmp_path / "hooks.toml").write_text(HOOKS, encoding="utf-8")
    return tmp_path


def manifests(home: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "tests.broker.command", "manifests", *arguments],
        cwd=ROOT,
        env={"CAESARION_HOME": str(home), "LANG": "C.UTF-8"},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


def objects(home: Path, *arguments: str) -> dict[str, Any]:
    """Return the specs of what is printed by kind and name."""
    done = manifests(home, *arguments)
    assert done.returncode == 0, done.stderr
    return {f"{one['kind']}/{one['metadata']['name']}": one for one in yaml.safe_load_all(done.stdout)}


def test_schedules_and_the_sweep_become_ping_sources_that_send_to_the_broker(home: Path) -> None:
    found = objects(home, "--broker", "main")
    nightly = found["PingSource/nightly"]
    data = json.loads(nightly["spec"].pop("data"))
    assert data == {"code": CODE, "session": "reports"}
    broker = {"ref": {"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "name": "main"}}
    assert nightly == {
        "apiVersion": "sources.knative.dev/v1",
        "kind": "PingSource",
        "metadata": {"name": "nightly", "labels": {"app.kubernetes.io/part-of": "caesarion"}},
        "spec": {
            "schedule": "0 3 * * mon-fri",
            "timezone": "Europe/Berlin",
            "contentType": "application/json",
            "sink": broker,
        },
    }
    assert found["PingSource/caesarion-sweep"]["spec"] == {"schedule": "* * * * *", "timezone": "UTC", "sink": broker}
    assert "in the name of CAESARION_EVENTS_PRINCIPAL, not of ann" in manifests(home).stderr


def test_triggers_of_all_kinds_become_triggers(home: Path) -> None:
    found = objects(home)
    assert {name for name in found if name.startswith("Trigger/")} == {
        f"Trigger/{name}"
        for name in (
            "caesarion-execute", "caesarion-chat", "caesarion-schedules", "caesarion-sweep", "orders", "old",
            "hook-on-order",
        )
    }  # fmt: skip
    assert found["Trigger/orders"] == {
        "apiVersion": "eventing.knative.dev/v1",
        "kind": "Trigger",
        "metadata": {"name": "orders", "labels": {"app.kubernetes.io/part-of": "caesarion"}},
        "spec": {
            "broker": "default",
            "filters": [
                {"exact": {"type": "com.example.made"}},
                {"exact": {"color": "red"}},
                {"any": [{"prefix": {"source": "/a"}}, {"not": {"suffix": {"subject": "no"}}}]},
            ],
            "subscriber": {"uri": "https://example.com/in"},
            "delivery": {
                "retry": 2,
                "backoffPolicy": "linear",
                "backoffDelay": "PT1.5S",
                "timeout": "PT1H",
                "retryAfterMax": "PT1M",
                "deadLetterSink": {
                    "ref": {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "name": "cleanup"},
                    "uri": "/events/dead",
                },
            },
        },
    }
    assert "orders: Knative refuses `retryAfterMax` unless its feature" in manifests(home).stderr
    assert found["Trigger/old"]["spec"]["filter"] == {"attributes": {"type": "com.example.old"}}
    execute = {"ref": {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "name": "execute"}}
    hook = found["Trigger/hook-on-order"]["spec"]
    assert hook["filters"] == [{"exact": {"type": "com.example.order"}}]
    assert hook["subscriber"] == {**execute, "uri": "/events/execute?hook=on-order"}
    ticks = found["Trigger/caesarion-schedules"]["spec"]
    assert ticks["filters"] == [
        {"exact": {"type": "dev.knative.sources.ping"}},
        {"any": [{"suffix": {"source": "/pingsources/nightly"}}]},
    ]
    sweep = found["Trigger/caesarion-sweep"]["spec"]
    assert sweep["filters"][1] == {"suffix": {"source": "/pingsources/caesarion-sweep"}}
    assert (sweep["subscriber"]["ref"]["name"], sweep["subscriber"]["uri"]) == ("cleanup", "/events/cleanup")


def test_without_a_broker_ticks_go_straight_to_the_functions(home: Path) -> None:
    found = objects(home, "--direct", "--namespace", "work")
    assert set(found) == {"PingSource/nightly", "PingSource/caesarion-sweep"}
    assert {one["metadata"]["namespace"] for one in found.values()} == {"work"}
    assert found["PingSource/nightly"]["spec"]["sink"] == {
        "ref": {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "name": "execute"},
        "uri": "/events/execute",
    }


def test_an_empty_home_has_the_sweep_and_what_is_built_in(tmp_path: Path) -> None:
    assert set(objects(tmp_path)) == {
        "PingSource/caesarion-sweep",
        "Trigger/caesarion-execute",
        "Trigger/caesarion-chat",
        "Trigger/caesarion-sweep",
    }


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("schedules.toml", SCHEDULES.replace("0 3", "0 33"), "schedules.toml:4: `cron` must be a cron line whose hour"),
        (
            "triggers.toml",
            TRIGGERS.replace("/events/chat", "/events/mine"),
            "triggers.toml:14: `subscriber` must be one of",
        ),
        ("hooks.toml", HOOKS.replace("exact", "exactly"), "hooks.toml:6: `filter` must be a table with one of"),
    ],
)
def test_what_cannot_be_used_is_told_and_nothing_printed(home: Path, name: str, text: str, told: str) -> None:
    (home / name).write_text(text, encoding="utf-8")
    done = manifests(home)
    assert (done.returncode, done.stdout) == (3, "")
    assert told in done.stderr


@pytest.mark.parametrize("seed", range(50))
def test_whatever_is_written_is_read_back_as_it_was(seed: int) -> None:
    chance = random.Random(seed)

    def text() -> str:
        pieces = [
            "a",
            "yes",
            "No",
            "null",
            "~",
            "1",
            "0x1f",
            "1e3",
            "- ",
            ": ",
            "#",
            "\n",
            "\t",
            '"',
            "'",
            "\\",
            "ü",
            "😀",
        ]
        pieces += ["\x7f", "\x85", "\u2028", "\ufeff", "\x00", " ", "{", "[", "&", "*", "!", "%", "@", "2026-01-01"]
        return "".join(chance.choice(pieces) for _ in range(chance.randrange(1, 5)))

    def value(depth: int) -> Any:
        match chance.randrange(6 if depth else 4):
            case 0:
                return chance.choice([True, False, None, 5, -1.5])
            case 4:
                return [value(depth - 1) for _ in range(chance.randrange(4))]
            case 5:
                return {text(): value(depth - 1) for _ in range(chance.randrange(4))}
        return text()

    document = {"kind": value(4), text(): value(4)}
    assert yaml.safe_load(as_yaml(document)) == document
