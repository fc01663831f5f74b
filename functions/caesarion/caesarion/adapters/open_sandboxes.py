"""The sandboxes that the settings name, and only their modules."""

from caesarion.ports import ObjectStore, Sandboxes
from caesarion.settings import KubernetesSettings, LocalSettings, SandboxSettings


def open_sandboxes(
    kubernetes: KubernetesSettings, sandbox: SandboxSettings, local: LocalSettings, store: ObjectStore
) -> Sandboxes:
    """Return pods of a cluster or processes of this machine. Nothing is reached for yet. Raises ConfigError."""
    if kubernetes.sandboxes == "kubernetes":
        from caesarion.adapters.checkpoints import largest_bytes
        from caesarion.adapters.kubernetes import KubernetesSandboxes

        return KubernetesSandboxes(kubernetes, store, checkpoint_limit_bytes=largest_bytes(sandbox))
    from caesarion.adapters.local import LocalSandboxes

    return LocalSandboxes(sandbox, local, store)
