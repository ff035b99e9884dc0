"""What crosses a process boundary, as an AsyncAPI 3 document; `make asyncapi` renews it.

The document is refused while it breaks a promise of the one that is there: a reader of either release must be able to
read what the other one writes, unless the message's version rises.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic.json_schema import models_json_schema

from contracts.changes import CHANGE_ID_HEADER, TRACEPARENT_HEADER, Change, Json, Message, Outcome, RefusedRequest
from contracts.events import EVENT_CONTENT_TYPE, Event
from contracts.topics import CHANGES, DEAD_LETTERS, EVENTS, OUTCOMES, REFUSALS, Topic

MESSAGES: dict[str, type[Message]] = {
    "change": Change,
    "outcome": Outcome,
    "refusedRequest": RefusedRequest,
    "event": Event,
}

CHANNELS: dict[str, tuple[Topic, str, str]] = {
    "changes": (CHANGES, "change", "Requested changes, keyed by organization: internal."),
    "outcomes": (OUTCOMES, "outcome", "Final answers to changes, to the gateway that waits: internal."),
    "refusals": (
        REFUSALS,
        "refusedRequest",
        "What gateways refused by themselves, for the provisioning log: internal.",
    ),
    "events": (EVENTS, "event", "What happened to accounts and groups, keyed by the subject: for other services."),
    "deadLetters": (DEAD_LETTERS, "change", "Changes that could not be applied, bytes as they came: for operators."),
}

_HEADERS = {
    "change": (CHANGE_ID_HEADER, TRACEPARENT_HEADER),
    "outcome": (CHANGE_ID_HEADER,),
    "refusedRequest": (),
    "event": ("content-type",),
}
_ANNOTATIONS = frozenset(("title", "description", "default", "examples"))


def document() -> Json:
    """The AsyncAPI document of all topics."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "directory sync",
            "version": "1",
            "description": "Kafka topics of directory sync. Members may be added; a reader ignores what it does not "
            "know. Anything else raises `version`, and a reader stops at a version newer than its own.",
        },
        "defaultContentType": "application/json",
        "channels": {name: _channel(*channel) for name, channel in CHANNELS.items()},
        "operations": {
            "publishEvents": {
                "action": "send",
                "channel": {"$ref": "#/channels/events"},
                "summary": "After commit, at least once, in order for each subject.",
            }
        },
        "components": {"messages": {name: _message(name) for name in MESSAGES}, "schemas": schemas()},
    }


def schemas() -> Json:
    """JSON Schema of every message and of what it is made of, by class name."""
    _, found = models_json_schema(
        [(message, "validation") for message in MESSAGES.values()], ref_template="#/components/schemas/{model}"
    )
    return found["$defs"]


def breaks(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What of the schemas `after` a reader or writer of `before` would get wrong; empty when they go together."""
    risen = {name for name in before if name in after and _versions(before[name]) < _versions(after[name])}
    may_grow = {name for root in risen for name in _reached(after, root)}
    return [
        problem
        for name in before
        for problem in ([f"{name} is gone"] if name not in after else _broken(name, before, after, name in may_grow))
    ]


def _broken(name: str, before: Mapping[str, Any], after: Mapping[str, Any], may_grow: bool) -> Iterator[str]:
    old, new = before[name], after[name]
    if gone := set(old.get("enum", ())) - set(new.get("enum", ())):
        yield f"{name} loses {sorted(gone)}"
    if (added := set(new.get("enum", ())) - set(old.get("enum", ()))) and not may_grow:
        yield f"{name} gains {sorted(added)}, which an older reader does not know: raise the version"
    members, required = old.get("properties", {}), set(old.get("required", ()))
    for member in members:
        if member not in new.get("properties", {}):
            yield f"{name}.{member} is gone"
        elif member != "version" and _bare(members[member]) != _bare(new["properties"][member]):
            yield f"{name}.{member} changes its type"
    for member in sorted(required ^ set(new.get("required", ()))):
        yield f"{name}.{member} is {'not required any more' if member in required else 'required now'}"


def _versions(schema: Mapping[str, Any]) -> set[int]:
    version = schema.get("properties", {}).get("version", {})
    return set(version.get("enum", [version["const"]] if "const" in version else ()))


def _reached(schemas: Mapping[str, Any], root: str) -> set[str]:
    """The schemas that a message is made of."""
    found, waiting = set[str](), [root]
    while waiting:
        name = waiting.pop()
        if name not in found and name in schemas:
            found.add(name)
            waiting += _references(schemas[name])
    return found


def _references(schema: Any) -> list[str]:
    if isinstance(schema, list):
        return [name for each in schema for name in _references(each)]
    if not isinstance(schema, dict):
        return []
    here = [schema["$ref"].rpartition("/")[2]] if "$ref" in schema else []
    return here + [name for each in schema.values() for name in _references(each)]


def _bare(schema: Any) -> Any:
    """The schema without what only people read."""
    if isinstance(schema, list):
        return [_bare(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {name: _bare(value) for name, value in schema.items() if name not in _ANNOTATIONS}


def _channel(topic: Topic, message: str, description: str) -> Json:
    settings = {name: int(value) if value.isdigit() else value for name, value in topic.settings().items()}
    return {
        "address": topic.name,
        "description": description,
        "messages": {message: {"$ref": f"#/components/messages/{message}"}},
        "bindings": {"kafka": {"topic": topic.name, "partitions": topic.partitions, "topicConfiguration": settings}},
    }


def _message(name: str) -> Json:
    content_type = EVENT_CONTENT_TYPE if name == "event" else "application/json"
    headers = {header: {"type": "string"} for header in _HEADERS[name]}
    return {
        "name": name,
        "contentType": content_type,
        "headers": {"type": "object", "properties": headers},
        "payload": {"$ref": f"#/components/schemas/{MESSAGES[name].__name__}"},
    }


def main(path: Path) -> None:
    """Renew the document at `path`, or say why not and exit with 1."""
    new = document()
    if path.exists():
        problems = breaks(json.loads(path.read_text())["components"]["schemas"], new["components"]["schemas"])
        if problems:
            sys.exit("\n".join(["not compatible with the document that is there:", *problems]))
    path.write_text(json.dumps(new, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
