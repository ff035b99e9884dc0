"""Writes the manifests that follow from the code: `.venv/bin/python deploy/k8s/render.py`; a test finds stale ones."""

from pathlib import Path

import yaml

from contracts import TOPICS, Topic

HERE = Path(__file__).parent
TOPICS_FILE = HERE / "components" / "strimzi" / "topics.yaml"
RULES_FILE = HERE / "components" / "monitoring" / "rules.yaml"
RULES = HERE.parent / "observability" / "rules.yaml"


def topic_manifest(topic: Topic) -> dict[str, object]:
    return {
        "apiVersion": "kafka.strimzi.io/v1beta2",
        "kind": "KafkaTopic",
        "metadata": {"name": topic.name, "labels": {"strimzi.io/cluster": "kafka"}},
        "spec": {
            "partitions": topic.partitions,
            "replicas": 3,
            "config": {key: int(value) if value.isdecimal() else value for key, value in topic.settings().items()},
        },
    }


def topics() -> str:
    head = "# Made by deploy/k8s/render.py from contracts.TOPICS.\n"
    return head + yaml.safe_dump_all([topic_manifest(topic) for topic in TOPICS], sort_keys=False)


def rules() -> str:
    head = "# Made by deploy/k8s/render.py from deploy/observability/rules.yaml.\n"
    manifest = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "directory-sync"},
        "spec": yaml.safe_load(RULES.read_text()),
    }
    return head + yaml.safe_dump(manifest, sort_keys=False, width=120)


MADE = {TOPICS_FILE: topics, RULES_FILE: rules}

if __name__ == "__main__":
    for file, make in MADE.items():
        file.write_text(make())
