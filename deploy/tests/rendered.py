"""What kustomize makes of the overlays."""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import yaml

from deployments import HOUSE, run

K8S = HOUSE / "deploy" / "k8s"
OVERLAYS = ("local", "production", "production-operators")
WORKLOADS = ("Deployment", "StatefulSet", "Job")
APPLICATION = ("scim-gateway", "provisioner", "admin-api")

Manifest = dict[str, Any]


def make_secrets() -> None:
    """Overlay `local` takes its secrets from files that are not in the repository."""
    run("deploy/docker/make-secrets", str(K8S / "overlays" / "local" / "secrets"))


@cache
def render(overlay: str) -> str:
    """The overlay's manifests as YAML."""
    make_secrets()
    return run("kubectl", "kustomize", str(K8S / "overlays" / overlay))


@cache
def manifests(overlay: str) -> tuple[Manifest, ...]:
    return tuple(yaml.safe_load_all(render(overlay)))


def of_kind(overlay: str, *kinds: str) -> Iterator[Manifest]:
    return (each for each in manifests(overlay) if each["kind"] in kinds)


def named(overlay: str, kind: str, name: str) -> Manifest:
    """The one of this name; a generated name ends in a hash of its content."""
    wanted = re.compile(rf"{re.escape(name)}(-[a-z0-9]{{10}})?")
    (found,) = [each for each in of_kind(overlay, kind) if wanted.fullmatch(name_of(each))]
    return found


def name_of(manifest: Manifest) -> str:
    return manifest["metadata"]["name"]


def pod_of(workload: Manifest) -> Manifest:
    """The specification of a workload's pods."""
    return workload["spec"]["template"]["spec"]


def labels_of(workload: Manifest) -> dict[str, str]:
    return workload["spec"]["template"]["metadata"]["labels"]


def matches(selector: Manifest, labels: dict[str, str]) -> bool:
    """Whether a label selector selects; an empty one selects everything."""
    wanted = selector.get("matchLabels", {})
    if any(labels.get(key) != value for key, value in wanted.items()):
        return False
    return all(labels.get(each["key"]) in each["values"] for each in selector.get("matchExpressions", []))
