"""The Kubernetes manifests, without a cluster: valid by the strictest schemas there are, and what must hold in them."""

import json
from collections.abc import Iterator
from functools import cache
from itertools import product
from typing import Any, ClassVar

import kubernetes_validate
import pytest
import yaml
from jsonschema import Draft202012Validator

from deployments import HOUSE, run
from rendered import (
    APPLICATION,
    K8S,
    OVERLAYS,
    WORKLOADS,
    Manifest,
    labels_of,
    manifests,
    matches,
    name_of,
    named,
    of_kind,
    pod_of,
)

pytestmark = pytest.mark.timeout(900)

STALE = """
import sys
sys.path.insert(0, "deploy/k8s")
import render
print(*[file for file, make in render.MADE.items() if file.read_text() != make()], end="")
"""
KUBERNETES = "1.34"
KUBE_SCORE = "github.com/zegl/kube-score/cmd/kube-score@v1.20.0"
# What kube-score asks for and we decline.
DECLINED = (
    # The operators make the pods of Kafka and Postgres.
    "networkpolicy-targets-pod",
    # It knows `latest` and Always only; the images are pinned by tag, and production may pin digests.
    "container-image-pull-policy",
    # The policies select by what a pod uses, which kube-score does not follow.
    "pod-networkpolicy",
    # Kafka and Postgres of overlay `local` have one replica; production runs others.
    "statefulset-has-poddisruptionbudget",
    "statefulset-has-host-podantiaffinity",
    "container-security-context-user-group-id",  # those two run as their images' users, below 10,000
)


def workloads() -> list[tuple[str, Manifest]]:
    return [(overlay, each) for overlay in OVERLAYS for each in of_kind(overlay, *WORKLOADS)]


def identity(value: object) -> str:
    return f"{value['kind']}/{name_of(value)}" if isinstance(value, dict) else str(value)


every_workload = pytest.mark.parametrize(("overlay", "workload"), workloads(), ids=identity)
every_overlay = pytest.mark.parametrize("overlay", OVERLAYS)


class TestSchemas:
    @every_overlay
    def test_every_manifest_is_valid_and_has_no_unknown_field(self, overlay: str) -> None:
        custom = schemas()
        for manifest in manifests(overlay):
            group = manifest["apiVersion"].rpartition("/")[0]
            if (manifest["apiVersion"], manifest["kind"]) in custom:
                errors = list(custom[manifest["apiVersion"], manifest["kind"]].iter_errors(manifest))
                assert not errors, f"{identity(manifest)}: {[error.message for error in errors]}"
            else:
                assert "." not in group or group.endswith("k8s.io"), f"{identity(manifest)}: nobody knows its schema"
                kubernetes_validate.validate(manifest, KUBERNETES, strict=True)

    @pytest.mark.parametrize(
        ("kind", "path", "value"),
        [
            ("Deployment", ("spec", "template", "spec", "containers", 0, "privilegd"), True),
            ("ScaledObject", ("spec", "maxReplicasCount"), 3),
            ("KafkaUser", ("spec", "authorization", "acl"), []),
            ("Cluster", ("spec", "instances"), "three"),
        ],
    )
    def test_a_mistake_is_found(self, kind: str, path: tuple[str | int, ...], value: object) -> None:
        manifest = json.loads(json.dumps(next(of_kind("production-operators", kind))))
        at: Any = manifest
        for step in path[:-1]:
            at = at[step]
        at[path[-1]] = value

        if kind == "Deployment":
            with pytest.raises(kubernetes_validate.ValidationError):
                kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
        else:
            assert list(schemas()[manifest["apiVersion"], kind].iter_errors(manifest))

    @every_overlay
    def test_kube_score_finds_nothing_critical(self, overlay: str) -> None:
        known = yaml.safe_dump_all(each for each in manifests(overlay) if identity_group(each) in BUILT_IN)
        ignored = [part for name in DECLINED for part in ("--ignore-test", name)]
        command = [
            str(kube_score()),
            "score",
            "--output-format",
            "json",
            "--kubernetes-version",
            "v1.34",
            *ignored,
            "-",
        ]
        # It ends with 1 when it finds something; what it found tells more.
        report = json.loads(run("sh", "-c", '"$@" || true', "sh", *command, input=known))

        bad = [
            f"{score['object_name']}: {check['check']['name']}: {[c['summary'] for c in check['comments'] or []]}"
            for score in report
            for check in score["checks"]
            if check["grade"] == 1 and not check["skipped"]
        ]
        assert bad == []

    def test_what_follows_from_the_code_is_up_to_date(self) -> None:
        stale = run(".venv/bin/python", "-c", STALE)

        assert stale == "", "run deploy/k8s/render.py"


BUILT_IN = {"", "apps", "batch", "policy", "autoscaling", "networking.k8s.io"}


def identity_group(manifest: Manifest) -> str:
    return manifest["apiVersion"].rpartition("/")[0]


@cache
def schemas() -> dict[tuple[str, str], Draft202012Validator]:
    """A strict validator for each custom resource, by apiVersion and kind."""
    run(str(K8S / "schemas" / "fetch"))
    found = {}
    for file in (HOUSE / ".cache" / "crds").glob("*.yaml"):
        for crd in yaml.safe_load_all(file.read_text()):
            spec = crd["spec"]
            for version in spec["versions"]:
                schema = closed(version["schema"]["openAPIV3Schema"])
                schema["properties"] |= {"apiVersion": {}, "kind": {}, "metadata": {}}
                found[f"{spec['group']}/{version['name']}", spec["names"]["kind"]] = Draft202012Validator(schema)
    return found


def closed(schema: Any) -> Any:
    """The schema with unknown members forbidden, as the API server's strict mode does."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    result = {key: closed(value) for key, value in schema.items()}
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    is_open = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    if schema.get("type") == "object" and isinstance(schema.get("properties"), dict) and not is_open:
        result["additionalProperties"] = False
    if schema.get("nullable") and isinstance(schema.get("type"), str):
        result["type"] = [schema["type"], "null"]
    return result


def kube_score() -> str:
    """The program, built once from its Go module."""
    folder = HOUSE / ".cache" / "bin"
    if not (folder / "kube-score").exists():
        run("go", "install", KUBE_SCORE, env={"GOBIN": str(folder), "GOFLAGS": ""}, timeout=900)
    return str(folder / "kube-score")


class TestContainers:
    """Threat T61: nothing to escape with, and nothing to find."""

    @every_workload
    def test_t61_pods_are_restricted(self, overlay: str, workload: Manifest) -> None:
        pod = pod_of(workload)
        security = pod["securityContext"]
        assert security["runAsNonRoot"] is True
        assert security["runAsUser"] >= 999
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        assert not [volume for volume in pod["volumes"] if "hostPath" in volume]
        for container in pod["containers"] + pod.get("initContainers", []):
            own = container["securityContext"]
            assert own["allowPrivilegeEscalation"] is False
            assert own["capabilities"] == {"drop": ["ALL"]}
            assert own["readOnlyRootFilesystem"] is (container["name"] != "kafka")

    @every_workload
    def test_t61_pods_get_no_token_of_the_cluster(self, overlay: str, workload: Manifest) -> None:
        assert pod_of(workload)["automountServiceAccountToken"] is False
        assert pod_of(workload)["enableServiceLinks"] is False

    @every_overlay
    def test_t61_service_accounts_have_no_rights_and_no_token(self, overlay: str) -> None:
        accounts = {name_of(each): each for each in of_kind(overlay, "ServiceAccount")}
        used = {pod_of(each).get("serviceAccountName") for each in of_kind(overlay, "Deployment", "Job")}

        assert used == set(accounts)
        assert all(each["automountServiceAccountToken"] is False for each in accounts.values())
        assert not list(of_kind(overlay, "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"))

    @every_overlay
    def test_t61_the_namespace_admits_restricted_pods_only(self, overlay: str) -> None:
        (namespace,) = of_kind(overlay, "Namespace")

        assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
        assert {each["metadata"].get("namespace") for each in manifests(overlay) if each["kind"] != "Namespace"} == {
            name_of(namespace)
        }

    @every_workload
    def test_t61_resources_are_bounded_and_images_pinned(self, overlay: str, workload: Manifest) -> None:
        for container in pod_of(workload)["containers"]:
            for kind, resource in product(("requests", "limits"), ("cpu", "memory", "ephemeral-storage")):
                assert resource in container["resources"][kind]
            tag = container["image"].rpartition(":")[2]
            assert tag not in ("", "latest"), container["image"]
            assert "/" not in tag, container["image"]

    @every_workload
    def test_t61_secrets_are_files_never_variables(self, overlay: str, workload: Manifest) -> None:
        for container in pod_of(workload)["containers"]:
            sources = [each.get("valueFrom", {}) for each in container.get("env", [])] + container.get("envFrom", [])
            assert not [source for source in sources if "secretKeyRef" in source or "secretRef" in source]


class TestAvailability:
    @every_overlay
    @pytest.mark.parametrize("name", APPLICATION)
    def test_a_deployment_can_be_restarted_drained_and_spread(self, overlay: str, name: str) -> None:
        deployment = named(overlay, "Deployment", name)
        pod = pod_of(deployment)
        (container,) = pod["containers"]

        assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
        assert {"startupProbe", "livenessProbe", "readinessProbe"} <= container.keys()
        assert container["livenessProbe"]["httpGet"]["path"] == "/health/live"
        assert container["readinessProbe"]["httpGet"]["path"] == "/health/ready"
        assert pod["topologySpreadConstraints"][0]["topologyKey"] == "topology.kubernetes.io/zone"
        (budget,) = [each for each in of_kind(overlay, "PodDisruptionBudget") if name_of(each) == name]
        assert budget["spec"]["maxUnavailable"] == 1
        assert matches(budget["spec"]["selector"], labels_of(deployment))
        if name != "provisioner":
            drain = container["lifecycle"]["preStop"]["sleep"]["seconds"]
            assert drain >= 5
            assert pod["terminationGracePeriodSeconds"] >= drain + 15 + 10  # GATEWAY_DRAIN_DEADLINE, and room

    @every_overlay
    def test_an_autoscaled_deployment_leaves_its_number_to_the_autoscaler(self, overlay: str) -> None:
        scaled = [
            each["spec"]["scaleTargetRef"]["name"]
            for each in of_kind(overlay, "HorizontalPodAutoscaler", "ScaledObject")
        ]

        assert "scim-gateway" in scaled
        assert all("replicas" not in named(overlay, "Deployment", name)["spec"] for name in scaled)

    def test_there_are_never_more_provisioners_than_partitions(self) -> None:
        from contracts import CHANGES

        for overlay in ("production", "production-operators"):
            (scaled,) = of_kind(overlay, "ScaledObject")
            (trigger,) = scaled["spec"]["triggers"]
            assert scaled["spec"]["maxReplicaCount"] == CHANGES.partitions
            assert scaled["spec"]["minReplicaCount"] >= 2
            assert trigger["metadata"]["topic"] == CHANGES.name


class TestNetwork:
    """Threat T58; where policies are not enforced, as in the test's cluster, this is what holds them."""

    @every_overlay
    def test_t58_everything_is_denied_that_is_not_named(self, overlay: str) -> None:
        deny = named(overlay, "NetworkPolicy", "default-deny")

        assert deny["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}

    @every_overlay
    def test_t58_our_pods_reach_names_kafka_and_postgres_only(self, overlay: str) -> None:
        for workload in of_kind(overlay, "Deployment", "Job"):
            ports = {
                port["port"]
                for policy in policies_of(overlay, labels_of(workload))
                for rule in policy["spec"].get("egress", [])
                for port in rule["ports"]
            }
            gateway = {"http"} if name_of(workload) == "admin-api" else set()  # previews
            assert ports == gateway | {53, 5432, 9092 if overlay == "local" else 9093}, identity(workload)
            assert all(
                rule.get("to")
                for policy in policies_of(overlay, labels_of(workload))
                for rule in policy["spec"].get("egress", [])
            )

    @every_overlay
    def test_t58_who_may_come_in(self, overlay: str) -> None:
        allowed = {
            "scim-gateway": {
                ("http", "directory-sync/ingress"),
                ("http", "admin-api"),
                ("metrics", "directory-sync/monitoring"),
            },
            "admin-api": {("http", "directory-sync/ingress"), ("metrics", "directory-sync/monitoring")},
            "provisioner": {("metrics", "directory-sync/monitoring")},
        }
        for name, expected in allowed.items():
            assert set(incoming(overlay, labels_of(named(overlay, "Deployment", name)))) == expected
        for job in of_kind(overlay, "Job"):
            assert set(incoming(overlay, labels_of(job))) == set()

    def test_t58_only_our_pods_reach_the_servers(self) -> None:
        for name, port in (("kafka", 9092), ("postgres", 5432)):
            for policy in policies_of("local", labels_of(named("local", "StatefulSet", name))):
                for rule in policy["spec"].get("ingress", []):
                    assert rule == {
                        "from": [{"podSelector": {"matchLabels": {"directory-sync/uses": "servers"}}}],
                        "ports": [{"protocol": "TCP", "port": port}],
                    }

    @pytest.mark.parametrize("overlay", ["production", "production-operators"])
    def test_t58_production_speaks_tls_and_says_who_it_is(self, overlay: str) -> None:
        servers = named(overlay, "ConfigMap", "servers")["data"]

        assert servers["KAFKA_SECURITY_PROTOCOL"] == "SASL_SSL"
        assert servers["PGSSLMODE"] == "verify-full"
        names = {name: environment(named(overlay, "Deployment", name))["KAFKA_USERNAME"] for name in APPLICATION}
        assert names == {name: name for name in APPLICATION}

    @every_overlay
    def test_t58_a_service_gets_its_own_secrets_only(self, overlay: str) -> None:
        common = {"kafka-cluster-ca-cert", "postgres-ca"}
        for name in APPLICATION:
            secrets = {
                secret.rpartition("-")[0] if overlay == "local" and "secrets-" in secret else secret
                for secret in secrets_of(named(overlay, "Deployment", name))
            }
            assert secrets == common | {name, f"{name}-secrets"}


def policies_of(overlay: str, labels: dict[str, str]) -> Iterator[Manifest]:
    return (each for each in of_kind(overlay, "NetworkPolicy") if matches(each["spec"]["podSelector"], labels))


def incoming(overlay: str, labels: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Port, and the label of the namespaces or the name of the pods that may use it."""
    for policy in policies_of(overlay, labels):
        for rule in policy["spec"].get("ingress", []):
            for source, port in product(rule["from"], rule["ports"]):
                if "podSelector" in source:
                    yield port["port"], source["podSelector"]["matchLabels"]["app.kubernetes.io/name"]
                else:
                    (label,) = source["namespaceSelector"]["matchLabels"]
                    yield port["port"], label


def environment(workload: Manifest) -> dict[str, str]:
    (container,) = pod_of(workload)["containers"]
    return {each["name"]: each["value"] for each in container["env"]}


def secrets_of(workload: Manifest) -> Iterator[str]:
    for volume in pod_of(workload)["volumes"]:
        if "secret" in volume:
            yield volume["secret"]["secretName"]
        for source in volume.get("projected", {}).get("sources", []):
            yield source["secret"]["name"]


class TestInterfaces:
    """Threat T66: health and metrics are for the inside."""

    INTERFACES: ClassVar = {
        "/api/auth/scim/v2": "scim-gateway",
        "/api/auth": "admin-api",
        "/api/v1/admin": "admin-api",
        "/admin": "admin-api",
    }

    def test_t66_the_ingress_knows_the_interfaces_only(self) -> None:
        (ingress,) = of_kind("production", "Ingress")
        (rule,) = ingress["spec"]["rules"]

        assert {path["path"]: path["backend"]["service"]["name"] for path in rule["http"]["paths"]} == self.INTERFACES
        assert [rule["host"]] == ingress["spec"]["tls"][0]["hosts"]

    def test_t66_the_gateway_api_knows_the_same(self) -> None:
        (route,) = of_kind("production-operators", "HTTPRoute")
        (gateway,) = of_kind("production-operators", "Gateway")

        assert {
            match["path"]["value"]: rule["backendRefs"][0]["name"]
            for rule in route["spec"]["rules"]
            for match in rule["matches"]
        } == self.INTERFACES
        assert [each["protocol"] for each in gateway["spec"]["listeners"]] == ["HTTPS"]
        assert not list(of_kind("production-operators", "Ingress"))

    @every_overlay
    def test_t66_metrics_are_on_a_port_that_no_service_of_an_interface_has(self, overlay: str) -> None:
        port = int(named(overlay, "ConfigMap", "directory-sync")["data"]["METRICS_PORT"])
        for name in APPLICATION:
            ports = {
                each["name"]: each["containerPort"]
                for each in pod_of(named(overlay, "Deployment", name))["containers"][0]["ports"]
            }
            assert ports["metrics"] == port
            assert list(ports.values()).count(port) == 1
        for service in of_kind(overlay, "Service"):
            if name_of(service) != "metrics":
                assert all(each.get("targetPort") not in ("metrics", port) for each in service["spec"]["ports"])


class TestProduction:
    """It is the tested overlay `local` by named patches and nothing else."""

    MAY_DIFFER: ClassVar = {
        ("Deployment", "spec.template.spec.containers.0.image"),
        ("Deployment", "spec.template.spec.containers.0.envFrom"),  # names of ConfigMaps end in a hash of their content
        ("Deployment", "spec.template.spec.volumes"),  # so do those of local's Secrets
        ("Deployment", "spec.template.spec.containers.0.resources.requests.cpu"),
        ("Deployment", "spec.replicas"),  # KEDA's
        ("Job", "spec.template.spec.containers.0.image"),
        ("Job", "spec.template.spec.containers.0.envFrom"),
        ("Job", "spec.template.spec.volumes"),
        ("Service", "spec.type"),
        ("Service", "spec.ports"),
        ("HorizontalPodAutoscaler", "spec.minReplicas"),
        ("HorizontalPodAutoscaler", "spec.maxReplicas"),
        ("NetworkPolicy", "spec.egress"),  # of policy `servers`
    }

    @pytest.mark.parametrize("overlay", ["production", "production-operators"])
    def test_it_differs_from_local_in_named_ways_only(self, overlay: str) -> None:
        ours = {identity(each): each for each in manifests("local") if not is_local(each)}
        theirs = {identity(each): each for each in manifests(overlay)}
        assert ours.keys() <= theirs.keys()

        found = {(ours[name]["kind"], path) for name in ours for path in differences(ours[name], theirs[name])}
        assert {(kind, path) for kind, path in found if not allowed(kind, path)} == set()

    def test_a_configmap_differs_in_addresses_only(self) -> None:
        for name, keys in (("directory-sync", set()), ("public", {"PUBLIC_URL"})):
            ours, theirs = (named(overlay, "ConfigMap", name)["data"] for overlay in ("local", "production"))
            assert {key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)} == keys


def is_local(manifest: Manifest) -> bool:
    """Whether it belongs to overlay `local` alone: its servers, its secrets, its first organization."""
    if manifest["kind"] in ("Secret", "ConfigMap"):
        return True
    return name_of(manifest) in ("kafka", "postgres", "bootstrap")


def differences(ours: Any, theirs: Any, path: str = "") -> Iterator[str]:
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in ours.keys() | theirs.keys():
            yield from differences(ours.get(key), theirs.get(key), f"{path}.{key}".lstrip("."))
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for index, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            yield from differences(one, other, f"{path}.{index}")
    elif ours != theirs:
        yield path


def allowed(kind: str, path: str) -> bool:
    return any(kind == other and f"{path}.".startswith(f"{prefix}.") for other, prefix in TestProduction.MAY_DIFFER)


def test_no_secret_is_in_the_manifests() -> None:
    assert not run("git", "ls-files", "deploy/k8s/overlays/local/secrets")
    for overlay in ("production", "production-operators"):
        assert not list(of_kind(overlay, "Secret"))
