"""`python -m bench.cluster`: measure what depends on a cluster, and write it to bench/results/cluster.json.

It takes the cluster that KUBECONFIG names, with Knative and the images of `scripts/images` (under TAG), and has to run
where pods can be reached; `make bench-cluster` does so in the cluster of tests. It makes namespaces of its own.
"""

import sys
from pathlib import Path

from bench import cluster_claims, cluster_many, cluster_rounds, cluster_zero
from bench.__main__ import Measure, main

RESULTS = Path(__file__).with_name("results") / "cluster.json"
PARTS: dict[str, tuple[str, Measure]] = {
    "claims": (cluster_claims.NAME, cluster_claims.measure),
    "rounds": (cluster_rounds.NAME, cluster_rounds.measure),
    "zero": (cluster_zero.NAME, cluster_zero.measure),
    "many": (cluster_many.NAME, cluster_many.measure),
}

if __name__ == "__main__":
    sys.exit(main(parts=PARTS, results=RESULTS, prog="make bench-cluster"))
