"""What is in `knative/`, read without a cluster: complete, named as elsewhere, and equal to what the product prints."""

import importlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from caesarion import pods
from caesarion.pods import Pool, pool_manifest
from caesarion.settings import SandboxSettings, variables
from caesarion_cli.all_in_one import groups

yaml: Any = importlib.import_module("yaml")  # it comes with moto and has no types
ROOT = Path(__file__).parents[2]
KNATIVE = ROOT / "knative"
BASE, OVERLAYS, COMPONENTS = KNATIVE / "base", KNATIVE / "overlays", KNATIVE / "components"
FUNCTIONS = ("chat", "execute", "cleanup")
IMAGES = {f"caesarion-{name}" for name in ("sandbox", *FUNCTIONS, "frontend", "store")}
OF_CLOUDS = re.compile(r"AWS_[A-Z_]+")  # obstore's
OF_THE_PAGE = {"CAESARION_CHAT_ADDRESS", "CAESARION_EXECUTE_ADDRESS"}  # docs/page.md
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "runAsUser": pods.USER,
    "runAsGroup": pods.USER,
    "seccompProfile": {"type": "RuntimeDefault"},
}

Object = Mapping[str, Any]


def read(path: Path) -> list[Object]:
    """Return the objects of a file."""
    return [found for found in yaml.safe_load_all(path.read_text(encoding="utf-8")) if found is not None]


def kustomizations() -> list[Path]:
    """Return every kustomization, as paths below knative/."""
    return sorted(path.relative_to(KNATIVE) for path in KNATIVE.rglob("kustomization.yaml"))


def objects(*kinds: str) -> list[Object]:
    """Return all objects of the base and the components, of these kinds only if some are named."""
    found = []
    for folder in (BASE, *sorted(COMPONENTS.iterdir())):
        kustomization = read(folder / "kustomization.yaml")[0]
        for name in kustomization.get("resources", ()):
            found += read(folder / name)
    return [one for one in found if not kinds or one["kind"] in kinds]


def knative_services() -> dict[str, Object]:
    """Return Knative's services by name."""
    found = [one for one in objects("Service") if one["apiVersion"] == "serving.knative.dev/v1"]
    return {one["metadata"]["name"]: one for one in found}


def pod_specs() -> Iterator[tuple[str, Object]]:
    """Yield all specs of pods with the name of what makes them."""
    for one in objects("Service", "Deployment", "ReplicaSet"):
        if "template" in one["spec"]:
            yield one["metadata"]["name"], one["spec"]["template"]["spec"]


def set_variables() -> set[str]:
    """Return the names of all variables that are set, by manifests and by generated ConfigMaps."""
    found = {env["name"] for _, spec in pod_specs() for one in spec["containers"] for env in one.get("env", ())}
    for path in kustomizations():
        for generated in read(KNATIVE / path)[0].get("configMapGenerator", ()):
            lines = list(generated.get("literals", ()))
            for file in generated.get("envs", ()):
                lines += (KNATIVE / path).with_name(file).read_text(encoding="utf-8").splitlines()
            found |= {line.partition("=")[0] for line in lines if line and not line.startswith("#")}
    return found


def printed(*command: str, **env: str) -> str:
    """Return what a program of ours prints with these variables alone."""
    clean = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
    done = subprocess.run([sys.executable, *command], cwd=ROOT, env={**clean, **env}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("path", kustomizations(), ids=str)
def test_what_a_kustomization_names_is_there(path: Path) -> None:
    folder = (KNATIVE / path).parent
    kustomization = read(KNATIVE / path)[0]
    files = [*kustomization.get("resources", ()), *kustomization.get("components", ())]
    files += kustomization.get("configurations", ())
    files += [patch["path"] for patch in kustomization.get("patches", ()) if "path" in patch]
    files += [file for one in kustomization.get("configMapGenerator", ()) for file in one.get("envs", ())]
    assert [name for name in files if not (folder / name).exists()] == []
    assert all((folder / name / "kustomization.yaml").exists() for name in files if (folder / name).is_dir())


def test_every_manifest_is_used() -> None:
    for folder in (BASE, *COMPONENTS.iterdir(), *OVERLAYS.iterdir()):
        text = (folder / "kustomization.yaml").read_text(encoding="utf-8")
        unused = [
            path.name for path in folder.glob("*.yaml") if path.name != "kustomization.yaml" and path.name not in text
        ]
        assert unused == []


def test_every_object_has_a_name_of_its_own_and_a_namespace() -> None:
    names = [(one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"]) for one in objects()]
    assert len(names) == len(set(names))
    namespaces = {name for kind, _, name in names if kind == "Namespace"}
    assert namespaces == {"caesarion", "caesarion-sandboxes"}
    assert {namespace for kind, namespace, _ in names if kind != "Namespace"} == namespaces


def test_variables_that_are_set_are_documented_settings() -> None:
    known = {variable.name for kind in groups() for variable in variables(kind).values()}
    assert {name for name in set_variables() - known - OF_THE_PAGE if not OF_CLOUDS.fullmatch(name)} == set()


def test_images_are_ours_and_every_overlay_says_where_all_of_them_are() -> None:
    base = {one["image"] for _, spec in pod_specs() for one in spec["containers"]}
    assert base == IMAGES
    for name in ("local", "production"):
        overlay = read(OVERLAYS / name / "kustomization.yaml")[0]
        needed = IMAGES if "../../components/store" in overlay["components"] else IMAGES - {"caesarion-store"}
        assert {image["name"] for image in overlay["images"]} == needed
        assert all(image["newTag"] != "latest" for image in overlay["images"])


def test_every_container_is_confined_as_a_restricted_namespace_wants_it() -> None:
    for name, spec in pod_specs():
        for one in spec["containers"]:
            if name != "caesarion-sandboxes":  # its pods say it once for both containers; test_pods has them
                assert one["securityContext"] == RESTRICTED, name
            assert {*one["resources"]["requests"], *one["resources"]["limits"]} == {"cpu", "memory"}
        assert spec["enableServiceLinks"] is False


def test_only_functions_have_a_token_and_each_has_a_role() -> None:
    accounts = {one["metadata"]["name"]: one for one in objects("ServiceAccount")}
    with_token = {name for name, one in accounts.items() if one.get("automountServiceAccountToken", True)}
    roles = {one["metadata"]["name"] for one in objects("Role")}
    bound = {
        (subject["namespace"], subject["name"])
        for one in objects("RoleBinding")
        if one["roleRef"]["name"] in roles
        for subject in one["subjects"]
    }
    assert with_token == set(FUNCTIONS)
    assert bound == {("caesarion", name) for name in FUNCTIONS}
    assert {one["metadata"]["namespace"] for one in objects("Role", "RoleBinding")} == {"caesarion-sandboxes"}
    for name, spec in pod_specs():
        account = spec.get("serviceAccountName")
        assert account == name if account else spec["automountServiceAccountToken"] is False


def test_only_the_page_is_public_and_all_can_be_at_zero() -> None:
    services = knative_services()
    assert set(services) == {*FUNCTIONS, "frontend"}
    local = {
        name
        for name, one in services.items()
        if one["metadata"].get("labels", {}).get("networking.knative.dev/visibility") == "cluster-local"
    }
    assert local == set(FUNCTIONS)
    for one in services.values():
        template = one["spec"]["template"]
        assert template["metadata"]["annotations"]["autoscaling.knative.dev/min-scale"] == "0"
        assert template["spec"]["timeoutSeconds"] == SandboxSettings().max_execution_timeout_s


def test_secrets_are_not_in_the_repository() -> None:
    assert objects("Secret") == []
    assert not any("secretGenerator" in read(KNATIVE / path)[0] for path in kustomizations())


def test_a_sandbox_reaches_nothing_and_only_functions_reach_it() -> None:
    (policy,) = (one for one in read(BASE / "30-network-sandboxes.yaml"))
    spec = policy["spec"]
    assert (spec["podSelector"], spec["policyTypes"], "egress" in spec) == ({}, ["Ingress", "Egress"], False)
    (rule,) = spec["ingress"]
    assert rule["ports"] == [{"protocol": "TCP", "port": pods.PORT}]
    (peer,) = rule["from"]
    assert peer["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "caesarion"}
    (expression,) = peer["podSelector"]["matchExpressions"]
    assert (expression["key"], set(expression["values"])) == ("serving.knative.dev/service", set(FUNCTIONS))


def test_the_pool_is_what_the_product_makes() -> None:
    assert (BASE / "20-pool.yaml").read_text(encoding="utf-8") == printed("scripts/pool")
    pool = Pool("caesarion-sandboxes", "caesarion-sandboxes", "caesarion-sandbox")
    assert read(BASE / "20-pool.yaml") == [pool_manifest(pool, SandboxSettings())]


def test_the_pool_with_the_internet_is_what_the_product_makes() -> None:
    patch = (COMPONENTS / "internet" / "pool.yaml").read_text(encoding="utf-8")
    assert patch == printed("scripts/pool", "--patch", CAESARION_SANDBOX_NETWORK="internet")
    pool = read(BASE / "20-pool.yaml")[0]
    spec = pool["spec"]["template"]["spec"]
    changed = yaml.safe_load(patch)["spec"]["template"]["spec"]
    args = {one["name"]: one["args"] for one in changed.pop("containers")}
    containers = [{**one, "args": args[one["name"]]} for one in spec["containers"]]
    merged = {name: value for name, value in {**spec, **changed}.items() if value is not None}
    made = pool_manifest(
        Pool("caesarion-sandboxes", "caesarion-sandboxes", "caesarion-sandbox"), SandboxSettings(network="internet")
    )
    assert {**merged, "containers": containers} == made["spec"]["template"]["spec"]


def test_ticks_and_triggers_are_what_the_command_prints(tmp_path: Path) -> None:
    env = {"CAESARION_HOME": str(tmp_path), "CAESARION_SWEEP_SCHEDULE": "*/10 * * * *"}
    told = printed("-m", "tests.broker.command", "manifests", "--namespace", "caesarion", **env)
    _, _, kept = (BASE / "51-events.yaml").read_text(encoding="utf-8").partition("\n")
    assert kept == told
