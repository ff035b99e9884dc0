"""What libs/scim costs per request, in microseconds of CPU: `make bench-scim`.

Each figure is the best of several repeats, which is what the code costs when nothing else runs. Exit code 1 when a
figure is above its target.
"""

import json
import sys
import timeit
from collections.abc import Callable

from scim.filter import compile_filter
from scim.grammar import parse_filter
from scim.patch import apply_patch, parse_patch
from scim.resource import parse_resource
from scim.schema import CORE_USER, ENTERPRISE_USER, PATCH_OP, USER
from scim.strictjson import loads

USER_BODY = json.dumps(
    {
        "schemas": [CORE_USER, ENTERPRISE_USER],
        "externalId": "0a21f0f2-8d2a-4f8e-bf98-7363c4aed4ef",
        "userName": "mara.quill@example.com",
        "active": True,
        "displayName": "Mara Quill",
        "emails": [{"primary": True, "type": "work", "value": "mara.quill@example.com"}],
        "meta": {"resourceType": "User"},
        "name": {"formatted": "Mara Quill", "familyName": "Quill", "givenName": "Mara"},
        "title": "Fitter",
        "preferredLanguage": "en-US",
        "phoneNumbers": [{"type": "work", "value": "555-0100"}],
        "roles": [],
        ENTERPRISE_USER: {
            "employeeNumber": "E-1000",
            "department": "Tooling",
            "manager": {"value": "26118915-6090-4610-87e4-49d8ca9f808d"},
        },
    }
).encode()
PATCH = {"op": "Replace", "path": 'emails[type eq "work"].value', "value": "new@example.com"}
PATCH_BODY = json.dumps({"schemas": [PATCH_OP], "Operations": [PATCH]}).encode()
FILTER = 'emails[type eq "work" and value co "@example.com"] and active eq true'
REPEATS = 15
SECONDS = 0.05  # of each repeat


def main() -> int:
    resource = parse_resource(USER, loads(USER_BODY))
    cases: list[tuple[str, Callable[[], object], float]] = [
        ("read, validate and normalise an enterprise user", lambda: parse_resource(USER, loads(USER_BODY)), 60),
        ("read and apply a PATCH of one operation", lambda: _patched(resource), 60),
        ("compile a filter, never seen before", _compile_anew, 50),
        ("compile a filter again", _compile, 5),
    ]
    is_met = True
    print(f"{'':50} {'us':>6} {'target':>7}")
    for name, run, target in cases:
        cost = _microseconds(run)
        is_met &= cost < target
        print(f"{name:50} {cost:6.1f} {target:7.0f}{'' if cost < target else '  missed'}")
    return 0 if is_met else 1


def _patched(resource: dict[str, object]) -> object:
    return apply_patch(USER, resource, parse_patch(USER, loads(PATCH_BODY), resource_id="user-1"))


def _compile() -> object:
    return compile_filter(USER, FILTER)


def _compile_anew() -> object:
    compile_filter.cache_clear()
    parse_filter.cache_clear()
    return _compile()


def _microseconds(run: Callable[[], object]) -> float:
    run()
    timer = timeit.Timer(run)
    number = max(1, int(SECONDS / max(timer.timeit(100) / 100, 1e-7)))
    return min(timer.repeat(REPEATS, number)) / number * 1e6


if __name__ == "__main__":
    sys.exit(main())
