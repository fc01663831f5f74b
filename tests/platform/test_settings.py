"""Settings: what variables mean, what is said of bad ones, and the page that tells of all."""

import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from caesarion.errors import ConfigError
from caesarion.parsing import names, text
from caesarion.principals import key_digest
from caesarion.settings import Secret, Variable, check_binding, is_loopback, variables
from caesarion_cli.all_in_one import Settings, groups

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "configuration.md"
DIGEST = key_digest("a key")


def known() -> dict[str, tuple[Variable, Any]]:
    """Return every variable with its default, by name."""
    found = {}
    for kind in groups():
        for name, variable in variables(kind).items():
            assert variable.name not in found, "two fields read one variable"
            found[variable.name] = (variable, getattr(kind(), name))
    return found


def told(**env: str) -> str:
    """Return what is said of settings that cannot be used."""
    with pytest.raises(ConfigError) as caught:
        Settings.from_env(env)
    return caught.value.message


def test_every_field_is_a_variable_that_says_what_it_means_and_in_which_unit() -> None:
    for kind in groups():
        assert set(variables(kind)) == {field.name for field in fields(kind)}
        for name, variable in variables(kind).items():
            assert variable.name == "PORT" or variable.name.startswith(("CAESARION_", "OPENAI_", "K_"))
            assert variable.meaning.endswith(".")
            unit = {"bytes": "bytes", "s": "seconds"}.get(name.rpartition("_")[2], variable.unit)
            assert variable.unit == unit


def test_the_page_has_a_row_for_each_variable_as_it_is() -> None:
    rows = [
        re.fullmatch(r"\| `(\w+)` \| (.*?) \| (.*?) \| (.*?) \|", line) for line in PAGE.read_text("utf-8").split("\n")
    ]
    shown = {row[1]: (row[2].strip("`"), row[3], row[4]) for row in rows if row}
    assert list(shown) == list(known())
    for name, (variable, default) in known().items():
        value, unit, meaning = shown[name]
        assert value or not default
        assert not value or variable.parse(value) == default
        assert (unit, meaning) == (variable.unit, variable.meaning)


def test_the_page_is_what_its_script_prints() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "configuration")]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert PAGE.read_text(encoding="utf-8") == printed


def test_nothing_set_means_the_defaults() -> None:
    settings = Settings.from_env({"HOME": "/home/me"})
    assert settings == Settings.from_env({"HOME": "/home/me", **dict.fromkeys(known(), " ")})
    assert settings.local.home == "/home/me/.local/state/caesarion"
    assert Settings.from_env({"XDG_STATE_HOME": "/state"}).local.home == "/state/caesarion"
    assert (settings.serving.host, settings.serving.port) == ("127.0.0.1", 8080)


def test_all_that_is_wrong_is_told_at_once_by_name() -> None:
    bad = {
        name: "!"
        for name, (variable, _) in known().items()
        if variable.parse not in (text, names, Secret) or name == "CAESARION_API_KEYS"
    }
    message = told(**bad)
    assert [name for name in bad if name not in message] == []
    assert len(message.splitlines()) == 1 + len(bad)


def test_a_secret_is_never_shown() -> None:
    for keys in (f"alice:{DIGEST[:-1]}", f"a b:{DIGEST}", f"{DIGEST}", f"alice:{DIGEST},bob:secret"):
        message = told(CAESARION_API_KEYS=keys, CAESARION_POOL_SIZE="many")
        assert "CAESARION_API_KEYS" in message
        assert "CAESARION_POOL_SIZE" in message
        assert DIGEST[:-1] not in message
        assert "secret" not in message
    settings = Settings.from_env({"CAESARION_API_KEYS": f"alice:{DIGEST}"})
    assert DIGEST not in repr(settings) + str(settings) + f"{settings.serving.api_keys}"
    assert settings.serving.api_keys.reveal() == f"alice:{DIGEST}"


GOOD: dict[str, list[tuple[str, object]]] = {
    "CAESARION_SANDBOX_NETWORK": [("internet", "internet")],
    "CAESARION_SANDBOX_CPUS": [("0.5", 0.5), ("2", 2.0), ("1e1", 10.0)],
    "CAESARION_KEEP_SANDBOXES": [("1", True), ("TRUE", True), ("no", False), ("off", False)],
    "CAESARION_UPLOAD_TYPES": [("xlsx, .PARQUET,,", ("xlsx", "parquet"))],
    "CAESARION_ALLOWED_ORIGINS": [
        ("https://App.example/, http://localhost:3000", ("https://app.example", "http://localhost:3000")),
        ("http://[::1]:3000", ("http://[::1]:3000",)),
    ],
    "CAESARION_ALLOWED_HOSTS": [("API.example.com, *.example.org.", ("api.example.com", "*.example.org"))],
}
BAD: dict[str, list[str]] = {
    "CAESARION_SANDBOX_NETWORK": ["lan", "None"],
    "CAESARION_SANDBOX_CPUS": ["0", "nan", "inf", "-1", "half"],
    "CAESARION_SANDBOX_MEMORY_BYTES": ["1", "2GiB", "1e9", "-1", "9" * 30],
    "CAESARION_POOL_SIZE": ["-1", "1.5", "1001", "0x1"],
    "PORT": ["65536", "-1", "http"],
    "CAESARION_KEEP_SANDBOXES": ["2", "maybe"],
    "CAESARION_UPLOAD_TYPES": ["tar.gz", "a/b", "*", "x" * 17],
    "CAESARION_ALLOWED_ORIGINS": [
        "*",
        "app.example",
        "ftp://a.example",
        "https://a.example/path",
        "https://u@a.example",
    ],
    "CAESARION_ALLOWED_HOSTS": ["*", "a.example:80", "https://a.example", "a b"],
}


@pytest.mark.parametrize("name", GOOD)
def test_a_variable_is_read_as_it_is_meant(name: str) -> None:
    for given, meant in GOOD[name]:
        assert known()[name][0].parse(given) == meant


@pytest.mark.parametrize("name", BAD)
def test_a_variable_that_cannot_be_read_is_told_with_what_it_must_be(name: str) -> None:
    for given in BAD[name]:
        message = told(**{name: given})
        assert f"{name} must be " in message
        assert repr(given)[:60] in message


def test_a_default_time_over_the_longest_one_is_refused() -> None:
    message = told(CAESARION_EXECUTION_TIMEOUT_S="100", CAESARION_MAX_EXECUTION_TIMEOUT_S="50")
    assert "CAESARION_EXECUTION_TIMEOUT_S must not be over CAESARION_MAX_EXECUTION_TIMEOUT_S" in message


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.255.0.9", "localhost", "LocalHost.", "::1", "[::1]", "::ffff:127.0.0.1"]
)
def test_this_machine_alone_needs_no_key(host: str) -> None:
    assert is_loopback(host)
    check_binding(host, has_keys=False)


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "", "10.0.0.1", "127.0.0", "127.0.0.1.example", "127.0.0.256", "127.0.0.²"]
)
def test_an_address_that_others_reach_is_refused_without_a_key(host: str) -> None:
    assert not is_loopback(host)
    with pytest.raises(ConfigError, match="at least one API key"):
        check_binding(host, has_keys=False)
    check_binding(host, has_keys=True)
