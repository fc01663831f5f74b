"""A cluster through kubectl: what tests look at, what they break, and what they wait for."""

import contextlib
import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import Any

Json = dict[str, Any]
DEADLINE_S, COMMAND_DEADLINE_S = 150.0, 200.0
FUNCTIONS, SANDBOXES, OUTSIDE = "caesarion", "caesarion-sandboxes", "caesarion-outside"
SERVICE = "serving.knative.dev/service"
SESSION = "caesarion.dev/session"
POOL = "caesarion.dev/pool"


def kubectl(*arguments: str, text: str | None = None) -> str:
    """Run a command and return what it said. Raises AssertionError with its complaint."""
    done = subprocess.run(
        ["kubectl", *arguments], input=text, capture_output=True, text=True, timeout=COMMAND_DEADLINE_S
    )
    assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
    return done.stdout


def found(namespace: str, kind: str, selector: str = "") -> list[Json]:
    """Return the objects of a kind, those that are being ended too."""
    items = json.loads(kubectl("-n", namespace, "get", kind, "-l", selector, "-o", "json"))["items"]
    assert isinstance(items, list)
    return items


def names(objects: list[Json]) -> list[str]:
    """Return the names of objects."""
    return sorted(one["metadata"]["name"] for one in objects)


def pods_of(service: str) -> list[Json]:
    """Return the pods of a function that are ready and go on."""
    pods = found(FUNCTIONS, "pods", f"{SERVICE}={service}")
    return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"] and _is_ready(pod)]


def wait(namespace: str, what: str, how: str) -> None:
    """Wait for a condition of objects, by a watch."""
    kubectl(*_waiting(namespace, how), what)


def until_zero(*services: str) -> None:
    """Wait until functions are scaled to zero: pods that are there still serve nobody."""
    selector = f"{SERVICE} in ({','.join(services)})"
    while names([one for one in found(FUNCTIONS, "deployments", selector) if one["spec"]["replicas"]]):
        kubectl(*_waiting(FUNCTIONS, "--for=jsonpath={.spec.replicas}=0"), "deployments", "-l", selector)


def until_gone(namespace: str, selector: str) -> None:
    """Wait until there is no pod of these, also none that came meanwhile."""
    while found(namespace, "pods", selector):
        kubectl(*_waiting(namespace, "--for=delete"), "pods", "-l", selector)


def kill(namespace: str, selector: str) -> None:
    """End pods as a machine does that fails: nobody is asked, nothing is finished."""
    kubectl("-n", namespace, "delete", "pods", "-l", selector, "--grace-period=0", "--force", "--wait=false")


def run_in(namespace: str, pod: str, code: str, container: str | None = None) -> str:
    """Run Python in a pod that is none of the product's sandboxes, and return what it printed."""
    where = ["-c", container] if container else []
    return kubectl("-n", namespace, "exec", pod, *where, "--", "python", "-c", code)


@contextlib.contextmanager
def forwarded(namespace: str, pod: str, port: int) -> Iterator[str]:
    """Give an address at which this very pod answers, until the end of the block."""
    command = ["kubectl", "-n", namespace, "port-forward", f"pod/{pod}", f":{port}", "--address", "127.0.0.1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()  # Forwarding from 127.0.0.1:39571 -> 8080
            assert line.startswith("Forwarding from "), line
            yield f"http://{line.split()[2]}"
        finally:
            process.terminate()


class Lines:
    """The lines of JSON that a pod writes, as they come."""

    def __init__(self, namespace: str, pod: str) -> None:
        command = ["kubectl", "-n", namespace, "logs", "--follow", pod]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self._thread = threading.Thread(target=self._read, name=f"lines of {pod}")
        self._more = threading.Condition()
        self.all: list[Json] = []
        self._thread.start()

    def having(self, wanted: Callable[[Json], bool], deadline_s: float = DEADLINE_S) -> Json:
        """Wait for a line and return the first of its kind."""
        with self._more:
            came = self._more.wait_for(lambda: any(map(wanted, self.all)), deadline_s)
            assert came, f"no such line among {self.all}"
            return next(filter(wanted, self.all))

    def close(self) -> None:
        """Read no more."""
        self._process.terminate()
        self._thread.join()
        self._process.wait()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                with self._more:
                    self.all.append(json.loads(line))
                    self._more.notify_all()


def _waiting(namespace: str, how: str) -> list[str]:
    return ["-n", namespace, "wait", f"--timeout={DEADLINE_S:.0f}s", how]


def _is_ready(pod: Json) -> bool:
    conditions = pod["status"].get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
