"""Namespaces of a cluster that are made for a while."""

import contextlib
from collections.abc import Mapping

from caesarion.adapters.kubernetes_api import Api, ApiError

PATH = "/api/v1/namespaces"


async def make_namespace(api: Api, name: str, labels: Mapping[str, str] | None = None) -> None:
    """Make a namespace and return when pods may be made in it."""
    metadata = {"name": name, "labels": dict(labels or {})}
    await api.create(PATH, {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    accounts = f"{PATH}/{name}/serviceaccounts"
    found, version = await api.list(accounts)
    if not found:
        await anext(api.watch(accounts, {}, version))


async def remove_namespace(api: Api, name: str) -> None:
    """Remove a namespace and return when it is gone."""
    await api.delete(f"{PATH}/{name}")
    selector = {"fieldSelector": f"metadata.name={name}"}
    while True:
        found, version = await api.list(PATH, selector)
        if not found:
            return
        with contextlib.suppress(ApiError):
            async for kind, _ in api.watch(PATH, selector, version):
                if kind == "DELETED":
                    return
