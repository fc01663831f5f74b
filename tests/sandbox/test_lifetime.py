"""When a sandbox ends by itself."""

from datetime import UTC, datetime

from tests.sandbox.conftest import new_server

CLAIM = {"session": "s", "idle_timeout_s": 0.01}


def test_an_idle_session_is_ended_by_its_sandbox_only_when_nobody_asks_for_it_either() -> None:
    grace_s = 1.0
    with new_server(abandoned_grace_s=grace_s) as server:
        server.client.post("/v1/claim", json=CLAIM).raise_for_status()
        idle_s = 0.0
        while idle_s < 1.5 * grace_s:  # the checks come more often than that
            status = server.client.get("/v1/status").json()
            idle_s = (datetime.now(UTC) - datetime.fromisoformat(status["last_activity_at"])).total_seconds()
        server.wait()
        assert "ending: abandoned" in (server.folder / "log").read_text()
