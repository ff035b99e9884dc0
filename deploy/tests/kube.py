"""Overlay `local` in a real cluster: `../shared/containers/cluster-up`'s, or the one that KUBECONFIG names."""

import json
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from deployments import HOUSE, IMAGES, SCIM_PATH, SERVICES, CommandFailed, following, run, write_stack
from rendered import K8S, make_secrets

NAMESPACE = "directory-sync"
# Beside the project, or where deploy/ci has found them.
CONTAINERS = Path(os.environ.get("CONTAINERS") or HOUSE.parent / "shared" / "containers")
CLUSTER_UP = CONTAINERS / "cluster-up"
# Of the node ports of overlay `local`.
NODE = os.environ.get("NODE_ADDRESS", "127.0.0.1")
LOGS = {"gateway": "scim-gateway", "provisioner": "provisioner", "admin-api": "admin-api"}
PUBLIC_IMAGES = ("apache/kafka:4.3.1", "postgres:17-trixie")


class Cluster:
    """A cluster by its KUBECONFIG."""

    def __init__(self, kubeconfig: str) -> None:
        self.env = {"KUBECONFIG": kubeconfig}

    def kubectl(self, *arguments: str, input: str | None = None, timeout: float = 400) -> str:
        return run("kubectl", *arguments, env=self.env, input=input, timeout=timeout)

    def __call__(self, *arguments: str, timeout: float = 400) -> str:
        """kubectl in our namespace."""
        return self.kubectl("--namespace", NAMESPACE, *arguments, timeout=timeout)

    def pods(self, name: str) -> list[str]:
        selector = f"app.kubernetes.io/name={name}"
        listed = self("get", "pods", "-l", selector, "--field-selector=status.phase=Running", "-o", "name")
        return listed.split()

    def rolled_out(self, name: str) -> None:
        self("rollout", "status", f"deployment/{name}", "--timeout=300s")


@contextmanager
def running_cluster() -> Iterator[Cluster]:
    """A cluster that has our images; one that we started is stopped."""
    if given := os.environ.get("KUBECONFIG"):
        yield Cluster(given)
        return
    try:
        path = started()
        run(str(CLUSTER_UP), "--load", *IMAGES[: len(SERVICES)], *PUBLIC_IMAGES)
        yield Cluster(path)
    finally:
        run(str(CLUSTER_UP), "--stop")


def started() -> str:
    """The path of a KUBECONFIG. Where the cluster runs already the script may fail; then it is stopped first."""
    try:
        return run(str(CLUSTER_UP), timeout=3000).split()[-1]
    except CommandFailed:
        run(str(CLUSTER_UP), "--stop")
        return run(str(CLUSTER_UP), timeout=3000).split()[-1]


class Deployed:
    """The system in our namespace."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster = cluster
        self.folder = folder
        self.stack_file = folder / "stack.json"
        self.logs = folder / "logs"

    def deploy(self) -> None:
        """The overlay, all at once: whoever needs something waits for it."""
        self._apply()
        self._done()

    def upgrade(self) -> None:
        """As docs/runbooks/upgrade.md says: schema and topics, provisioners, the rest."""
        self.cluster("delete", "job", "migrate", "topics", "--ignore-not-found")
        self._apply(without=SERVICES)
        self._done()
        self._apply(without=("scim-gateway", "admin-api"))
        self.cluster.rolled_out("provisioner")
        self._apply()
        for name in SERVICES:
            self.cluster.rolled_out(name)

    def _apply(self, without: Sequence[str] = ()) -> None:
        chosen = ("-l", f"app.kubernetes.io/name notin ({', '.join(without)})") if without else ()
        self.cluster.kubectl("apply", "-k", str(K8S / "overlays" / "local"), *chosen)

    def _done(self) -> None:
        for job in ("migrate", "topics"):
            self.cluster("wait", "--for=condition=complete", f"job/{job}", "--timeout=380s")

    def describe(self) -> None:
        """`stack.json`, from what the Job `bootstrap` said."""
        self.cluster("wait", "--for=condition=complete", "job/bootstrap", "--timeout=300s")
        secrets = K8S / "overlays" / "local" / "secrets"
        # The black-box suite finds the pepper beside the file, as an operator would have it.
        (self.folder / "secrets").symlink_to(secrets)
        write_stack(
            self.stack_file,
            json.loads(self.cluster("logs", "job/bootstrap").strip().splitlines()[-1]),
            scimBaseUrl=f"http://{NODE}:30080{SCIM_PATH}",
            adminUrl=f"http://{NODE}:30081",
            adminPassword=(secrets / "admin_password").read_text(),
            databaseUrl=(secrets / "database_url").read_text().replace("@postgres:5432", f"@{NODE}:30432"),
            logs=str(self.logs),
        )

    @contextmanager
    def logging(self) -> Iterator[None]:
        follow = ("kubectl", "--namespace", NAMESPACE, "logs", "--follow", "--tail=-1", "--max-log-requests=20", "-l")
        files = {self.logs / f"{n}.log": (*follow, f"app.kubernetes.io/name={s}") for n, s in LOGS.items()}
        with following(files, self.cluster.env):
            yield


@contextmanager
def deployed(cluster: Cluster) -> Iterator[Deployed]:
    """Everything anew; the namespace goes at the end."""
    make_secrets()
    delete(cluster, NAMESPACE)
    with tempfile.TemporaryDirectory(prefix="kubernetes-") as name:
        system = Deployed(cluster, Path(name))
        system.logs.mkdir()
        try:
            system.deploy()
            for each in SERVICES:
                cluster.rolled_out(each)
            system.describe()
            yield system
        except BaseException:
            print(cluster("get", "all"))
            print(cluster("get", "events", "--sort-by=.lastTimestamp")[-3000:])
            raise
        finally:
            delete(cluster, NAMESPACE)


def delete(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl("delete", "namespace", namespace, "--ignore-not-found", "--timeout=300s")


def until(condition: object, what: str, deadline: float = 120) -> None:
    """Wait until the callable `condition` returns something true."""
    assert callable(condition)
    end = time.monotonic() + deadline
    while not condition():
        assert time.monotonic() < end, f"waited {deadline:.0f} s for {what}"
        time.sleep(0.5)
