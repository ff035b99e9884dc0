"""What the console tells people to enter at an identity provider is what the guides say."""

import re
from pathlib import Path

import pytest

from admin_api.console.presets import BASE_URL, PRESETS, SCIM_PATH, TOKEN, Preset, guess

GUIDES = Path(__file__).parents[3] / "docs" / "setup"
KNOWN = [preset for preset in PRESETS if preset.key != "other"]


def fields_of(guide: str) -> dict[str, str]:
    """The first table of the guide: field and value, without marks of emphasis."""
    table = guide.split("| Field | Value |")[1].split("\n\n")[0]
    rows = [re.split(r" *\| *", line.strip("| ")) for line in table.splitlines() if line.startswith("| ")]
    return {name: value.replace("`", "") for name, value in rows}


@pytest.mark.parametrize("preset", KNOWN, ids=lambda preset: preset.key)
def test_fields_and_values_are_those_of_the_guide(preset: Preset) -> None:
    guide = fields_of((GUIDES / f"{preset.key}.md").read_text())

    assert [name for name, _ in preset.fields] == list(guide)
    for name, value in preset.fields:
        said = guide[name]
        match value:
            case _ if value == BASE_URL:
                assert said == f"https://<your host>{SCIM_PATH}"
            case _ if value == TOKEN:
                assert said.startswith("the token")
            case _:
                assert said.startswith(value), name


@pytest.mark.parametrize("preset", KNOWN, ids=lambda preset: preset.key)
def test_the_guide_names_what_the_console_says_to_switch_on(preset: Preset) -> None:
    """Words that the provider's own pages bear begin with a capital, in the steps as in the guide."""
    guide = (GUIDES / f"{preset.key}.md").read_text().replace("*", "").replace("\n", " ")
    for step in preset.steps:
        for words in re.findall(r"(?<=[a-z,›] )(?:[A-Z][a-zA-Z]+ ?)(?:[A-Z][a-zA-Z]+ ?|and (?=[A-Z]))*", step):
            for name in words.strip().split(" and "):
                assert name in guide, f"{preset.name}: {name!r}"


@pytest.mark.parametrize(
    ("provider_id", "key"),
    [("okta", "okta"), ("Okta-Staging", "okta"), ("entra.eu", "entra"), ("onelogin", "onelogin"), ("hr", "other")],
)
def test_a_connection_is_known_by_its_name(provider_id: str, key: str) -> None:
    assert guess(provider_id).key == key
