"""What user code finds of the cluster around its sandbox, and who reaches a sandbox: tried from the inside.

What is forbidden is tried from the outside too, where it is allowed: so a refusal is the policy's.
"""

import json
from collections.abc import Iterator

import pytest

from tests.cluster.conftest import Installation
from tests.cluster.kubectl import FUNCTIONS, OUTSIDE, POOL, SANDBOXES, found, kubectl, pods_of, run_in
from tests.platform.conftest import Session, new_session

CONNECT_TIMEOUT_S = 2
SANDBOX_PORT = 8080
METADATA = "169.254.169.254"
PROBE = """\
import concurrent.futures, json, socket
def reached(place):
    try:
        socket.create_connection(place, timeout={timeout_s}).close()
        return True
    except OSError:
        return False
places = {places!r}
with concurrent.futures.ThreadPoolExecutor(len(places)) as threads:
    print(json.dumps(list(threads.map(reached, places))))
"""
RESOLVE = """\
import json, socket
def known(name):
    try:
        return bool(socket.getaddrinfo(name, 80))
    except OSError:
        return False
print(json.dumps([known(name) for name in {names!r}]))
"""
ASK = """\
import socket
query = bytes.fromhex('000101000001000000000000') + b'\\x07default\\x03svc\\x07cluster\\x05local\\x00' + b'\\0\\1\\0\\1'
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
    asking.settimeout({timeout_s})
    asking.sendto(query, ({server!r}, 53))
    try:
        print(len(asking.recv(512)) > 0)
    except OSError:
        print(False)
"""

Place = tuple[str, int]


@pytest.fixture(scope="module")
def inside(installation: Installation) -> Iterator[Session]:
    """A session whose user looks around."""
    session = new_session(installation.client)
    yield session
    assert installation.client.delete(session.path).status_code == 204


@pytest.fixture
def waiting() -> str:
    """The address of a sandbox that waits to be claimed."""
    kubectl("-n", SANDBOXES, "wait", "--for=condition=Ready", "pods", "-l", POOL, "--timeout=100s")
    return str(found(SANDBOXES, "pods", POOL)[0]["status"]["podIP"])


def probe(*places: Place) -> str:
    """Return code that says which of these places it reaches."""
    return PROBE.format(timeout_s=CONNECT_TIMEOUT_S, places=list(places))


def address(installation: Installation, name: str) -> str:
    """Return the address that the cluster's name server has for a name."""
    return run_in(OUTSIDE, installation.outside, f"import socket; print(socket.gethostbyname({name!r}))").strip()


def service(namespace: str, name: str) -> str:
    """Return the address of a service."""
    return kubectl("-n", namespace, "get", "service", name, "-o", "jsonpath={.spec.clusterIP}")


def test_no_other_sandbox_is_reached(inside: Session, waiting: str) -> None:
    assert inside.said(probe((waiting, SANDBOX_PORT))) == "[false]\n"


def test_the_api_server_is_not_reached(inside: Session, installation: Installation) -> None:
    [subset] = json.loads(kubectl("get", "endpointslices", "-n", "default", "-o", "json"))["items"]
    places = [
        (service("default", "kubernetes"), 443),
        (subset["endpoints"][0]["addresses"][0], subset["ports"][0]["port"]),
    ]
    assert run_in(OUTSIDE, installation.outside, probe(*places)) == "[true, true]\n"
    assert inside.said(probe(*places)) == "[false, false]\n"


def test_the_metadata_address_is_not_reached(inside: Session) -> None:
    assert inside.said(probe((METADATA, 80))) == "[false]\n"


def test_no_name_is_resolved(inside: Session, installation: Installation) -> None:
    known = RESOLVE.format(names=["kubernetes.default.svc.cluster.local", "execute.caesarion.svc.cluster.local"])
    assert run_in(OUTSIDE, installation.outside, known) == "[true, true]\n"
    assert inside.said(known) == "[false, false]\n"
    asked = ASK.format(timeout_s=CONNECT_TIMEOUT_S, server=service("kube-system", "kube-dns"))
    assert run_in(OUTSIDE, installation.outside, asked) == "True\n"
    assert inside.said(asked) == "False\n"


def test_functions_and_broker_are_not_reached(inside: Session, installation: Installation) -> None:
    [outside] = found(OUTSIDE, "pods")
    open_to_others = [
        (address(installation, "execute.caesarion.svc.cluster.local"), 80),
        (service("knative-eventing", "broker-ingress"), 80),
        (outside["status"]["podIP"], 8082),
    ]
    assert run_in(OUTSIDE, installation.outside, probe(*open_to_others)) == "[true, true, true]\n"
    assert inside.said("print(1)") == "1\n"
    function = pods_of("execute")[0]["status"]["podIP"]
    assert inside.said(probe(*open_to_others, (function, 8012), (function, 8080))) == f"{[False] * 5}\n".lower()


def test_no_service_account_token_is_there(inside: Session) -> None:
    look = "import os; print(os.path.exists('/var/run/secrets'), os.path.exists('/run/secrets'), list(os.environ))"
    said = inside.said(look)
    assert said.startswith("False False")
    assert "KUBERNETES" not in said and "CAESARION" not in said and "SERVICE" not in said


def test_root_file_system_is_read_only(inside: Session) -> None:
    code = """\
import errno, os
for folder in ("/", "/etc", "/opt/sandbox", "/usr/bin", "/home", "/var"):
    try:
        open(os.path.join(folder, "x"), "w")
    except OSError as error:
        print(errno.errorcode[error.errno])
"""
    said = inside.said(code).split()
    assert len(said) == 6 and set(said) <= {"EROFS", "EACCES"}, said
    mounts = "print([line.split()[3] for line in open('/proc/mounts') if line.split()[1] == '/'][0].split(',')[0])"
    assert inside.said(mounts) == "ro\n"


def test_other_pods_cannot_call_a_sandbox(inside: Session, installation: Installation, waiting: str) -> None:
    assert inside.said("print(1)") == "1\n"
    function = pods_of("execute")[0]["metadata"]["name"]
    calling = probe((waiting, SANDBOX_PORT))
    assert run_in(FUNCTIONS, function, calling, "execute") == "[true]\n"
    assert run_in(OUTSIDE, installation.outside, calling) == "[false]\n"
