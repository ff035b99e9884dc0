"""What the services of a stack measure, as Prometheus reads it; and which metrics a query names."""

import json
import re

import httpx
import yaml
from prometheus_client.parser import text_string_to_metric_families

from e2e.stack import HOUSE, Stack

OBSERVABILITY = HOUSE / "deploy" / "observability"
OPENMETRICS = "application/openmetrics-text"

type Series = tuple[str, frozenset[tuple[str, str]]]

# What is left of a query, when its texts, label lists and durations are gone, are names, of which some are PromQL's.
_NO_NAMES = re.compile(
    r"""
    "(?:[^"\\\\]|\\\\.)*" | \{[^}]*\} | \[[^\]]*\] | \b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)
""",
    re.VERBOSE,
)
_NAME = re.compile(r"[A-Za-z_:][A-Za-z0-9_:]*(?!\s*\(|[A-Za-z0-9_:])")
_WORDS = {"and", "or", "unless", "bool", "offset", "sum", "min", "max"}


async def scrape(stack: Stack, accept: str = "text/plain") -> str:
    """The metrics of all services, one after the other."""
    async with httpx.AsyncClient(trust_env=False, timeout=10, headers={"accept": accept}) as http:
        answers = [await http.get(url) for url in stack.metrics_urls.values()]
    return "\n".join(answer.raise_for_status().text for answer in answers)


async def series(stack: Stack) -> set[Series]:
    """Every sample's name and labels."""
    families = text_string_to_metric_families(await scrape(stack))
    return {(sample.name, frozenset(sample.labels.items())) for family in families for sample in family.samples}


def names_of(query: str) -> set[str]:
    """The metrics that a PromQL expression names; those of recording rules have a colon."""
    return set(_NAME.findall(_NO_NAMES.sub(" ", query))) - _WORDS


def queries() -> dict[str, str]:
    """Every expression of the dashboards and of the rules, by where it stands."""
    found = {}
    for file in sorted((OBSERVABILITY / "dashboards").glob("*.json")):
        for panel in json.loads(file.read_text())["panels"]:
            for target in panel["targets"]:
                found[f"{file.stem}: {panel['title']} {target['refId']}"] = target["expr"]
    return found | _rules((OBSERVABILITY / "rules.yaml").read_text())


def _rules(text: str) -> dict[str, str]:
    rules = [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]
    return {rule.get("alert") or rule["record"]: rule["expr"] for rule in rules}
