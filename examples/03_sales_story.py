"""From a CSV to a plot, by plain HTTP: `python examples/03_sales_story.py sales.csv`.

Start the product with `make run` (CAESARION_URL names another address) and make the CSV with 01_make_csv.py. Writes
`sales-by-month.png`, `summary.csv` and `sales.ipynb` beside it.
"""

import base64
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

URL = os.environ.get("CAESARION_URL", "http://127.0.0.1:8080")

LOAD = """
import pandas as pd
sales = pd.read_csv("sales.csv", parse_dates=["date"])
print(f"{len(sales):,} rows, {sales.date.min():%Y-%m-%d} to {sales.date.max():%Y-%m-%d}")
"""
GROUP = """
sales["revenue"] = sales.units * sales.price
by_region = sales.groupby("region").revenue.sum().round().sort_values(ascending=False)
print(by_region.to_string())
"""
PLOT = """
import matplotlib.pyplot as plt
sales.groupby(sales.date.dt.to_period("M")).revenue.sum().plot(title="Revenue by month", ylim=0)
plt.show()
"""
WRITE = """
by_region.to_csv("summary.csv")
"""
ENDLESS = """
step = 0
print("counting", flush=True)
while True:
    step += 1
"""
STILL_THERE = """
print(f"{step:,} steps, and still {len(sales):,} rows and {len(by_region)} regions")
"""


def main(csv: Path) -> None:
    """Tell the story."""
    with httpx.Client(base_url=URL, timeout=120) as client:
        session = client.post("/sessions").raise_for_status().json()["id"]
        client.base_url = httpx.URL(f"{URL}/sessions/{session}/")
        print(f"session {session}")

        upload = client.post("files", files={"file": ("sales.csv", csv.read_bytes())}).raise_for_status().json()
        print(f"uploaded {upload['files'][0]['path']}, {upload['files'][0]['size_bytes']:,} bytes")

        run(client, LOAD)
        run(client, GROUP)

        png = next(output["data"]["image/png"] for output in run(client, PLOT) if "image/png" in output.get("data", {}))
        save(csv.with_name("sales-by-month.png"), base64.b64decode(png))

        run(client, WRITE)
        save(csv.with_name("summary.csv"), client.get("files/summary.csv").raise_for_status().content)

        print(f"interrupted: {interrupted(client, ENDLESS)}")
        run(client, STILL_THERE)

        save(csv.with_name("sales.ipynb"), client.get("notebook.ipynb").raise_for_status().content)
        client.delete(f"{URL}/sessions/{session}").raise_for_status()


def run(client: httpx.Client, code: str) -> list[dict[str, Any]]:
    """Run code, show its text as it comes, and return all outputs."""
    outputs = []
    with client.stream("POST", "executions", json={"code": code}) as reply:
        for output in lines(reply):
            print(output.get("text", ""), end="", flush=True)
            outputs.append(output)
    if outputs[-1]["status"] != "ok":
        sys.exit(f"the code ended with {outputs[-2:]}")
    return outputs


def interrupted(client: httpx.Client, code: str) -> str:
    """Run code that never ends, interrupt it once it prints, and return how it finished."""
    with client.stream("POST", "executions", json={"code": code}) as reply:
        for output in lines(reply):
            if output["type"] == "stream":
                client.delete(f"executions/{reply.headers['X-Execution-Id']}").raise_for_status()
    return str(output["status"])


def lines(reply: httpx.Response) -> Iterator[dict[str, Any]]:
    """Yield the outputs of an execution, each as soon as it is there."""
    if reply.is_error:
        sys.exit(reply.read().decode())
    for line in reply.iter_lines():
        yield json.loads(line)


def save(path: Path, content: bytes) -> None:
    """Write a file and say so."""
    path.write_bytes(content)
    print(f"saved {path.name}, {len(content):,} bytes")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
