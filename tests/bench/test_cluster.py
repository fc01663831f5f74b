"""`make bench-cluster` at tiny sizes, where a cluster is."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.cluster import PARTS
from tests.contracts import cluster

ROOT = Path(__file__).parents[2]
DEADLINE_S = 400.0

pytestmark = pytest.mark.timeout(DEADLINE_S)


@pytest.mark.parametrize("name", PARTS)
def test_a_part_is_measured_in_a_cluster_and_written_down(name: str, tmp_path: Path) -> None:
    if "KUBECONFIG" not in os.environ:
        pytest.skip(cluster.HOW)
    written = tmp_path / "figures.json"
    command = [sys.executable, "-m", "bench.cluster", "--quick", "--only", name, "--output", str(written)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (part,) = json.loads(written.read_text(encoding="utf-8"))["parts"]
    assert part["figures"]
    assert all(one["name"] in done.stdout for one in part["figures"])
