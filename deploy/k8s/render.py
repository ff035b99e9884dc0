"""Writes the manifests that follow from the code: `.venv/bin/python deploy/k8s/render.py`; a test finds stale ones."""

from pathlib import Path

import yaml

from contracts import TOPICS, Topic

TOPICS_FILE = Path(__file__).parent / "components" / "strimzi" / "topics.yaml"


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


if __name__ == "__main__":
    TOPICS_FILE.write_text(topics())
