"""The product on a real cluster, put there once for all tests here and removed at the end.

    make test-cluster                                             all of it; it starts the cluster of tests where it can
    KUBECONFIG=... .venv/bin/python -m pytest tests/cluster -n 0  these alone, with the images of `scripts/images`

It takes any cluster with Knative that has no namespace `caesarion` yet. CAESARION_TEST_GATEWAY=host:port names its
gateway, where the names of its services do not lead to it; for the cluster of tests it is known.
"""

import contextlib
import json
import os
import subprocess
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.cluster.kubectl import FUNCTIONS, OUTSIDE, SANDBOXES, SERVICE, Json, Lines, found, kubectl, names, wait
from tests.platform.conftest import Session, new_session

ROOT = Path(__file__).parents[2]
HERE = ROOT / "tests" / "cluster"
RIG = Path.home() / ".cache" / "caesarion-cluster"
RIG_GATEWAY = "127.0.0.1:18080"
HOW = (
    "needs a cluster with Knative and our images: run `make test-cluster`, or see the head of tests/cluster/conftest.py"
)
PRINCIPAL = "tester"
DEPLOY_DEADLINE_S, TEST_DEADLINE_S = 300.0, 600
STORY_LINES = 80


@dataclass(frozen=True, slots=True)
class Installation:
    """The product as it is seen from outside: its one public address, a key for it, and what the broker tells."""

    url: str
    host: str
    key: str
    client: httpx.Client
    events: Lines
    outside: str

    def send(self, kind: str, *, id: str, data: Any, source: str = "/tests") -> None:
        """Give the broker an event, as a program in the cluster does."""
        headers = {
            "ce-specversion": "1.0",
            "ce-type": kind,
            "ce-source": source,
            "ce-id": id,
            "content-type": "application/json",
        }
        asked = {"data": json.dumps(data), "headers": headers}
        broker = "http://broker-ingress.knative-eventing.svc.cluster.local/caesarion/default"
        code = (
            "import urllib.request as r\n"
            f"asked = {asked!r}\n"
            f"print(r.urlopen(r.Request({broker!r}, asked['data'].encode(), asked['headers'])).status)"
        )
        assert kubectl("-n", OUTSIDE, "exec", self.outside, "--", "python", "-c", code) == "202\n"

    def event(self, kind: str, wanted: Callable[[Json], bool]) -> Json:
        """Wait for an event that the broker tells everybody."""
        return self.events.having(lambda event: event["type"] == kind and wanted(event))

    def session(self, id: str) -> Session:
        """Return a session that is there or will be."""
        return Session(id, self.client)


@pytest.fixture(scope="session")
def installation() -> Iterator[Installation]:
    """The product in the cluster, with nothing used yet."""
    _find_cluster()
    with contextlib.ExitStack() as stack:
        stack.callback(_remove)
        key = _deploy()
        pod = _stand_ins()
        events = Lines(OUTSIDE, pod)
        stack.callback(events.close)
        host = urlsplit(kubectl("-n", FUNCTIONS, "get", "ksvc", "frontend", "-o", "jsonpath={.status.url}")).netloc
        gateway = os.environ.get("CAESARION_TEST_GATEWAY") or host
        headers = {"Host": host, "Authorization": f"Bearer {key}"}
        client = stack.enter_context(httpx.Client(base_url=f"http://{gateway}", headers=headers, timeout=200))
        port = f":{gateway.rpartition(':')[2]}" if gateway != host else ""
        yield Installation(f"http://{host}{port}", host, key, client, events, pod)
        left = _left()
    assert not left, f"sessions or sandboxes outlived their tests: {left}"


@pytest.fixture
def client(installation: Installation) -> httpx.Client:
    return installation.client


@pytest.fixture
def session(client: httpx.Client) -> Iterator[Session]:
    """A session of its own, which ends with the test."""
    session = new_session(client)
    yield session
    assert client.delete(session.path).status_code == 204


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the first test the time that it takes to put the product there."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.timeout(TEST_DEADLINE_S))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what pods said and what happened to them with a test that failed."""
    report = yield
    if report.failed and HERE in item.path.parents:
        report.sections.append(("the cluster", _told()))
    return report


def _find_cluster() -> None:
    """Have KUBECONFIG name a cluster, or skip."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        pytest.skip("the product is put into a cluster once: run `make test-cluster`, or pytest tests/cluster -n 0")
    rig = RIG / "kubeconfig"
    if os.environ.setdefault("KUBECONFIG", str(rig)) == str(rig):
        os.environ.setdefault("CAESARION_TEST_GATEWAY", RIG_GATEWAY)
        os.environ["PATH"] = f"{RIG / 'bin'}:{os.environ['PATH']}"
    try:
        there = kubectl("get", "namespaces", "-o", "name").split()
    except (AssertionError, OSError) as exc:
        pytest.skip(f"{HOW} ({exc})")
    taken = {f"namespace/{name}" for name in (FUNCTIONS, SANDBOXES, OUTSIDE)} & set(there)
    if taken:
        pytest.fail(f"the cluster has {', '.join(sorted(taken))} already: remove it, or name another cluster")


def _deploy() -> str:
    """Put the product into the cluster and return an API key."""
    kubectl("create", "namespace", OUTSIDE)
    done = subprocess.run(
        ["scripts/deploy", "tests/cluster/overlay"],
        cwd=ROOT,
        env={**os.environ, "PRINCIPAL": PRINCIPAL},
        capture_output=True,
        text=True,
        timeout=DEPLOY_DEADLINE_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    ready = "--for=jsonpath={.status.readyReplicas}=2"
    wait(SANDBOXES, "replicaset/caesarion-sandboxes", ready)
    return next(line for line in done.stdout.splitlines() if line.startswith("cz_"))


def _stand_ins() -> str:
    """Put the model and the receiver of events into the cluster and return their pod's name."""
    files = [f"--from-file={ROOT / 'tests' / name}" for name in ("chat/scripted_model.py", "cluster/stand_ins.py")]
    kubectl("-n", OUTSIDE, "create", "configmap", "code", *files)
    path = "jsonpath={.spec.template.spec.containers[0].image}"
    image = kubectl("-n", FUNCTIONS, "get", "ksvc", "chat", "-o", path)
    manifests = (HERE / "stand_ins.yaml").read_text(encoding="utf-8")
    kubectl("apply", "-f", "-", text=manifests.replace("image: caesarion-chat", f"image: {image}"))
    wait(OUTSIDE, "deployment/stand-ins", "--for=condition=Available")
    wait(FUNCTIONS, "trigger/everything", "--for=condition=Ready")
    [pod] = names(found(OUTSIDE, "pods"))
    return pod


def _left() -> list[str]:
    """Return what is there of sessions."""
    pods = [pod for pod in found(SANDBOXES, "pods") if "ownerReferences" not in pod["metadata"]]
    pods = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
    return names([*pods, *found(SANDBOXES, "secrets")])


def _remove() -> None:
    """Remove everything. Pods of functions may take an hour to end what they do, and a namespace waits for its pods."""
    namespaces = [FUNCTIONS, SANDBOXES, OUTSIDE]
    kubectl("-n", FUNCTIONS, "delete", "ksvc,trigger,pingsource", "--all", "--ignore-not-found")
    kubectl("delete", "namespace", *namespaces, "--ignore-not-found", "--wait=false")
    for name in namespaces:
        kubectl("-n", name, "delete", "pods", "--all", "--grace-period=0", "--force")
    kubectl("annotate", "namespace", FUNCTIONS, "look-again=now")
    kubectl("delete", "namespace", *namespaces, "--ignore-not-found")


def _told() -> str:
    """Return what pods said last, and what happened to them."""
    logs = ["logs", "--all-containers", "--prefix", f"--tail={STORY_LINES}", "-l"]
    asked = (
        ["-n", FUNCTIONS, *logs, SERVICE],
        ["get", "pods", "-n", FUNCTIONS, "-o", "wide"],
        ["get", "pods", "-n", SANDBOXES, "-o", "wide"],
        *(["get", "events", "-n", name, "--sort-by=.lastTimestamp"] for name in (FUNCTIONS, SANDBOXES)),
    )
    told = []
    for arguments in asked:
        with contextlib.suppress(AssertionError, OSError, subprocess.TimeoutExpired):
            told += ["$ kubectl " + " ".join(arguments), *kubectl(*arguments).splitlines()[-STORY_LINES:]]
    return "\n".join(told)
