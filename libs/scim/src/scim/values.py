"""One attribute's value, from any client's spelling to the canonical one (RFC 7643 sections 2.3 to 2.5).

PATCH and whole resources come through here alike. A refusal names the attribute and never repeats the value (T36).
"""

import base64
import binascii
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

from scim import strictjson
from scim.errors import InvalidValue, PayloadTooLarge, ScimError
from scim.keys import identity_key, name_key
from scim.schema import Attribute

MAX_EXACT = 512  # characters of a case-exact identifier: fits an index row of Postgres whatever the script

_BOOLEANS = {"true": True, "false": False}
_INTEGER = re.compile(r"[+-]?[0-9]{1,17}", re.ASCII)
_DECIMAL = re.compile(r"[+-]?[0-9]{1,17}(?:\.[0-9]{1,17})?", re.ASCII)
_LINE_CHARACTERS = re.compile("[\t\n\r]")
_LABELS = frozenset({"type", "primary"})
_EMBEDDED = frozenset({"roles", "entitlements"})


def canonical_value(attribute: Attribute, value: Any) -> Any:
    """`value` as the schema spells it, None when it means "unassigned" (null, empty, or nothing known in it).

    Raises InvalidValue when it does not fit, PayloadTooLarge when there are too many values.
    """
    if value is None or value == "":
        return None
    if attribute.multi_valued:
        return _values(attribute, value)
    if attribute.type == "complex":
        return _single_complex(attribute, value)
    return _SCALARS[attribute.type](attribute, value, "")


def canonical_sub_value(attribute: Attribute, sub: Attribute, value: Any) -> Any:
    """`canonical_value` of one sub-attribute of a complex `attribute`."""
    if value is None or value == "":
        return None
    return _SCALARS[sub.type](sub, value, attribute.name + ".")


def without_duplicates(attribute: Attribute, values: list[Any]) -> list[Any]:
    """`values` (canonical) with each repeated one left out; members repeat when their `value` does."""
    if len(values) < 2:
        return values
    if attribute.name == "members":
        return list({item.get("value"): item for item in reversed(values)}.values())[::-1]
    if attribute.type == "complex":
        return list({frozenset(item.items()): item for item in values}.values())
    return list(dict.fromkeys(values))


def _values(attribute: Attribute, value: Any) -> list[Any] | None:
    """A list of canonical values; one value alone counts as a list of it."""
    items = value if type(value) is list else _listed(attribute, value)
    if len(items) > attribute.max_values:
        raise PayloadTooLarge(f"{attribute.name} may hold at most {attribute.max_values:,} values in one request.")
    if attribute.type == "complex":
        values = [item for item in [_element(attribute, item) for item in items] if item]
        _check_primary(attribute, values)
    else:
        scalar = _SCALARS[attribute.type]
        values = [scalar(attribute, item, "") for item in items if item is not None and item != ""]
    return without_duplicates(attribute, values) or None


def _listed(attribute: Attribute, value: Any) -> list[Any]:
    embedded = _embedded(attribute, value)
    return [_renamed(item) for item in embedded] if type(embedded) is list else [value]


def _single_complex(attribute: Attribute, value: Any) -> dict[str, Any] | None:
    """Entra sends a manager as an id, as an object, and as a list of one (scim-behaviour.md section 3.3)."""
    if type(value) is list:
        if len(value) > 1:
            raise InvalidValue(f"{attribute.name} takes one value, not a list.")
        value = value[0] if value else None
        if value is None or value == "":
            return None
    return _complex(attribute, value) or None


def _element(attribute: Attribute, value: Any) -> dict[str, Any] | None:
    """One element of a multi-valued complex attribute; None when it says no more than its type."""
    if value is None or value == "":
        return None
    if attribute.name in _EMBEDDED:
        value = _unpacked(attribute, value)
    element = _complex(attribute, value)
    if "value" in element:
        return element
    if element and attribute.name == "members":
        raise InvalidValue("members.value is required.")
    # An email of type work without a value is how some clients write "no work email".
    return None if element.keys() <= _LABELS and attribute.sub_attribute("primary") else element


def _complex(attribute: Attribute, value: Any) -> dict[str, Any]:
    if type(value) is not dict:
        value = {"value": _plain(attribute, value)}
    result: dict[str, Any] = {}
    for name, item in value.items():
        if item is None or item == "":
            continue
        sub = attribute.sub_attribute(name)
        if sub is not None and sub.mutability != "readOnly":
            result[sub.name] = _SCALARS[sub.type](sub, item, attribute.name + ".")
    if result and attribute.required_subs:
        _check_required(attribute, result)
    return result


def _plain(attribute: Attribute, value: Any) -> Any:
    """A string may stand for the object whose `value` it is."""
    if type(value) is not str or attribute.sub_attribute("value") is None:
        raise InvalidValue(
            f"{attribute.name} must be {'a list of objects' if attribute.multi_valued else 'an object'}."
        )
    return value


def _check_required(attribute: Attribute, value: dict[str, Any]) -> None:
    for name in attribute.required_subs:
        if name not in value:
            raise InvalidValue(f"{attribute.name}.{name} is required.")


def _check_primary(attribute: Attribute, values: list[dict[str, Any]]) -> None:
    """RFC 7643 section 2.4. Choosing one of two for the client would choose the account's email address."""
    if len(values) > 1 and sum(value.get("primary") is True for value in values) > 1:
        raise InvalidValue(f"{attribute.name} has more than one primary value.")


# --- Entra's roles: a JSON document inside a string, alone or as `value` ------------------------------------------


def _embedded(attribute: Attribute, value: Any) -> Any:
    if attribute.name not in _EMBEDDED or type(value) is not str or value[:1] not in ("{", "["):
        return None
    try:
        return strictjson.loads(value.encode(errors="surrogatepass"))
    except ScimError:
        return None  # a role's name may begin with a brace


def _unpacked(attribute: Attribute, value: Any) -> Any:
    outer = value if type(value) is dict else {}
    inner = _embedded(attribute, outer.get("value") if outer else value)
    if type(inner) is not dict:
        return value
    labels = {name: item for name, item in outer.items() if name.lower() in _LABELS}
    return {**labels, **_renamed(inner)}


def _renamed(role: Any) -> Any:
    """Entra's app role calls its label displayName."""
    return {"display": role.get("displayName"), **role} if type(role) is dict else role


# --- simple types (RFC 7643 section 2.3) ---------------------------------------------------------------------------


def _string(attribute: Attribute, value: Any, parent: str) -> str:
    if type(value) is not str:
        raise InvalidValue(f"{parent}{attribute.name} must be a string.")
    if attribute.identifier is not None:
        _check_identifier(attribute, value, parent)
    return value


def _check_identifier(attribute: Attribute, value: str, parent: str) -> None:
    try:
        if attribute.identifier == "identity":
            identity_key(value)
        elif attribute.identifier == "name":
            name_key(value)
        elif len(value) > MAX_EXACT:
            raise InvalidValue(f"An identifier may have at most {MAX_EXACT} characters.")
        elif _LINE_CHARACTERS.search(value):
            raise InvalidValue("An identifier must not hold control characters.")
    except InvalidValue as error:
        raise InvalidValue(f"{parent}{attribute.name}: {error.detail}") from error


def _boolean(attribute: Attribute, value: Any, parent: str) -> bool:
    """Entra sends "True" and "False" (recorded: entra.json)."""
    if type(value) is bool:
        return value
    if type(value) is str and (known := _BOOLEANS.get(value.lower())) is not None:
        return known
    raise InvalidValue(f"{parent}{attribute.name} must be true or false.")


def _integer(attribute: Attribute, value: Any, parent: str) -> int:
    if type(value) is int:
        return value
    if type(value) is str and _INTEGER.fullmatch(value) and abs(int(value)) <= strictjson.MAX_INTEGER:
        return int(value)
    raise InvalidValue(f"{parent}{attribute.name} must be an integer.")


def _decimal(attribute: Attribute, value: Any, parent: str) -> int | float:
    if type(value) is float or type(value) is int:
        return value
    if type(value) is str and _DECIMAL.fullmatch(value):
        return float(value)
    raise InvalidValue(f"{parent}{attribute.name} must be a number.")


def _date_time(attribute: Attribute, value: Any, parent: str) -> str:
    """Checked, and kept as sent (RFC 7643 section 2.3.5: xsd:dateTime with a time)."""
    if type(value) is str and "T" in value:
        try:
            datetime.fromisoformat(value)
        except ValueError:
            pass
        else:
            return value
    raise InvalidValue(f"{parent}{attribute.name} must be a date and time such as 2008-01-23T04:56:22Z.")


def _binary(attribute: Attribute, value: Any, parent: str) -> str:
    """Base64, also in the URL alphabet and wrapped over lines; kept as sent."""
    if type(value) is str:
        try:
            encoded = "".join(value.split()).translate(_STANDARD_ALPHABET).encode("ascii")
            base64.b64decode(encoded + b"=" * (-len(encoded) % 4), validate=True)
        except (binascii.Error, UnicodeEncodeError):
            pass
        else:
            return value
    raise InvalidValue(f"{parent}{attribute.name} must be base64.")


def _nested(attribute: Attribute, value: Any, parent: str) -> Any:
    raise InvalidValue(f"{parent}{attribute.name} cannot be set.")


_STANDARD_ALPHABET = str.maketrans("-_", "+/")
_SCALARS: dict[str, Callable[[Attribute, Any, str], Any]] = {
    "string": _string,
    "reference": _string,
    "boolean": _boolean,
    "integer": _integer,
    "decimal": _decimal,
    "dateTime": _date_time,
    "binary": _binary,
    "complex": _nested,
}
