"""Schemas and resource types (RFC 7643): the table against which every name, value and path is resolved.

Attribute names compare without case (RFC 7643 section 2.1); all lookups here do, by tables made once.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal, cast, get_args

from scim.errors import InvalidValue
from scim.urns import (
    BULK_REQUEST,
    BULK_RESPONSE,
    CORE_GROUP,
    CORE_USER,
    ENTERPRISE_USER,
    ERROR,
    LEGACY_CORE,
    LEGACY_EXTENSIONS,
    LIST_RESPONSE,
    PATCH_OP,
    SCHEMA,
    SEARCH_REQUEST,
)

__all__ = [
    "BULK_REQUEST", "BULK_RESPONSE", "COMMON_ATTRIBUTES", "CORE_GROUP", "CORE_USER", "ENTERPRISE_USER",
    "ENTERPRISE_USER_SCHEMA", "ERROR", "GROUP", "GROUP_SCHEMA", "LIST_RESPONSE", "PATCH_OP", "SCHEMAS",
    "SEARCH_REQUEST", "USER", "USER_SCHEMA", "Attribute", "ResourceType", "Schema", "schema_from_json",
]  # fmt: skip

type AttributeType = Literal["string", "boolean", "decimal", "integer", "dateTime", "reference", "complex", "binary"]
type MutabilityKind = Literal["readWrite", "readOnly", "immutable", "writeOnly"]
type ReturnedKind = Literal["default", "always", "never", "request"]
type UniquenessKind = Literal["none", "server", "global"]

MAX_VALUES = 1_000  # of a multi-valued attribute in one request
MAX_MEMBERS = 100_000  # of a group in one request: what its 8 MB hold


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute and its characteristics (RFC 7643 sections 2.2 and 7).

    Not published: `max_values` bounds a multi-valued attribute in one request; `identifier` says how a string
    that identifies something compares, and so what is refused in it: "identity" by `keys.identity_key`, "name" by
    `keys.name_key`, "exact" byte for byte.
    """

    name: str
    type: AttributeType = "string"
    multi_valued: bool = False
    required: bool = False
    case_exact: bool = False
    mutability: MutabilityKind = "readWrite"
    returned: ReturnedKind = "default"
    uniqueness: UniquenessKind = "none"
    description: str = ""
    canonical_values: tuple[str, ...] = ()
    reference_types: tuple[str, ...] = ()
    sub_attributes: tuple["Attribute", ...] = ()
    max_values: int = MAX_VALUES
    identifier: Literal["identity", "name", "exact"] | None = None
    required_subs: tuple[str, ...] = field(init=False, repr=False, compare=False)
    _subs: Mapping[str, "Attribute"] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_subs", _by_name(self.sub_attributes))
        object.__setattr__(self, "required_subs", tuple(sub.name for sub in self.sub_attributes if sub.required))

    @property
    def is_complex(self) -> bool:
        return self.type == "complex"

    @property
    def read_only(self) -> bool:
        return self.mutability == "readOnly"

    def sub_attribute(self, name: str) -> "Attribute | None":
        """The sub-attribute of that name in any case."""
        return self._subs.get(name) or self._subs.get(name.lower())


@dataclass(frozen=True, slots=True)
class Schema:
    """A named set of attributes (RFC 7643 section 7)."""

    id: str
    name: str
    description: str = ""
    attributes: tuple[Attribute, ...] = ()
    required: tuple[str, ...] = field(init=False, repr=False, compare=False)
    _attributes: Mapping[str, Attribute] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_attributes", _by_name(self.attributes))
        object.__setattr__(self, "required", tuple(item.name for item in self.attributes if item.required))

    def attribute(self, name: str) -> Attribute | None:
        """The attribute of that name in any case."""
        return self._attributes.get(name) or self._attributes.get(name.lower())


@dataclass(frozen=True, slots=True, eq=False)
class ResourceType:
    """A core schema, the extensions allowed beside it, and where it is served (RFC 7643 section 6).

    Compared and hashed by identity: it is a key of caches, and its schemas are large.
    """

    id: str
    name: str
    endpoint: str
    description: str
    schema: Schema
    extensions: tuple[Schema, ...] = ()
    _core: Mapping[str, Attribute] = field(init=False, repr=False)
    _extensions: Mapping[str, Schema] = field(init=False, repr=False)
    _hides: bool = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_core", _by_name((*COMMON_ATTRIBUTES, *self.schema.attributes)))
        extensions = {spelling: extension for extension in self.extensions for spelling in _spellings(extension.id)}
        object.__setattr__(self, "_extensions", MappingProxyType(extensions))
        hides = any(_is_hidden(attribute) for extension in self.extensions for attribute in extension.attributes)
        object.__setattr__(self, "_hides", hides)

    @property
    def required(self) -> tuple[str, ...]:
        """Names of the core attributes that every resource must have."""
        return self.schema.required

    @property
    def hides_attributes(self) -> bool:
        """Whether any attribute of an extension is returned only on request, or never."""
        return self._hides

    def attribute(self, name: str) -> Attribute | None:
        """The core or common (`id`, `externalId`, `meta`, `schemas`) attribute of that name in any case."""
        return self._core.get(name) or self._core.get(name.lower())

    def extension(self, urn: str) -> Schema | None:
        """The extension of that URN, in any case and also in a legacy spelling."""
        return self._extensions.get(urn) or self._extensions.get(urn.lower())

    def is_core_urn(self, urn: str) -> bool:
        """Whether `urn` is this type's core schema, in any case and also in a legacy spelling."""
        return urn == self.schema.id or urn.lower() == self.schema.id.lower() or urn.lower() in LEGACY_CORE

    def find(self, urn: str | None, name: str) -> Attribute | None:
        """The attribute that a path names: core when `urn` is None or the core URN, else of that extension."""
        if urn is None or self.is_core_urn(urn):
            return self.attribute(name)
        extension = self.extension(urn)
        return extension.attribute(name) if extension else None

    def split_urn(self, path: str) -> tuple[str | None, str]:
        """`path` without its schema URN, and that URN as spelled canonically: None for the core schema or no URN.

        A URN alone gives an empty rest. A URN that this type does not know is returned as it was sent, cut at
        the last colon before the first `[`, so that colons and dots in it or in a value filter split nothing else.
        """
        lowered = path.lower()
        if not lowered.startswith("urn:"):
            return None, path
        core = self.schema.id.lower()
        if lowered == core or lowered.startswith(core + ":"):
            return None, path[len(core) + 1 :]
        for spelling, extension in self._extensions.items():
            if lowered == spelling or lowered.startswith(spelling + ":"):
                return extension.id, path[len(spelling) + 1 :]
        for legacy in LEGACY_CORE:
            if lowered == legacy or lowered.startswith(legacy + ":"):
                return None, path[len(legacy) + 1 :]
        bracket = path.find("[")
        colon = path.rfind(":", 0, bracket if bracket >= 0 else len(path))
        return path[:colon], path[colon + 1 :]

    def all_attributes(self) -> Iterable[Attribute]:
        """Core attributes, then those of each extension; the common ones are left out."""
        yield from self.schema.attributes
        for extension in self.extensions:
            yield from extension.attributes

    def with_extensions(self, *schemas: Schema) -> "ResourceType":
        """This type with `schemas` allowed as well; a URN that it already has is refused."""
        taken = {self.schema.id.lower(), *(extension.id.lower() for extension in self.extensions)}
        for schema in schemas:
            if schema.id.lower() in taken:
                raise InvalidValue(f"The schema {schema.id} is already part of {self.name}.")
            taken.add(schema.id.lower())
        return replace(self, extensions=(*self.extensions, *schemas))


def _by_name(attributes: Iterable[Attribute]) -> Mapping[str, Attribute]:
    """Attributes under the spelling of the schema (the common case, found at once) and in lower case."""
    table: dict[str, Attribute] = {}
    for attribute in attributes:
        table[attribute.name.lower()] = table[attribute.name] = attribute
    return MappingProxyType(table)


def _spellings(urn: str) -> Iterable[str]:
    """Lower-case and legacy spellings first: `split_urn` compares lower case, `extension` also the exact one."""
    yield urn.lower()
    yield from (legacy for legacy, canonical in LEGACY_EXTENSIONS.items() if canonical == urn)
    yield urn


def _is_hidden(attribute: Attribute) -> bool:
    return attribute.returned in ("never", "request") or any(map(_is_hidden, attribute.sub_attributes))


# --- RFC 7643 section 3.1: attributes of every resource -----------------------------------------------------------

SCHEMAS = Attribute(
    "schemas", "reference", multi_valued=True, required=True, case_exact=True, returned="always",
    reference_types=("uri",), description="URNs of the schemas that the resource uses.",
)  # fmt: skip
COMMON_ATTRIBUTES = (
    SCHEMAS,
    Attribute("id", case_exact=True, identifier="exact", mutability="readOnly", returned="always", uniqueness="server",
              description="Identifier issued by this server; it never changes and is never used again."),
    Attribute("externalId", case_exact=True, identifier="exact",
              description="Identifier of the resource at the client."),
    Attribute("meta", "complex", mutability="readOnly", description="What the server knows about the resource.",
              sub_attributes=(
        Attribute("resourceType", case_exact=True, mutability="readOnly", description="Name of the resource type."),
        Attribute("created", "dateTime", mutability="readOnly", description="When the resource was added."),
        Attribute("lastModified", "dateTime", mutability="readOnly", description="When it was last changed."),
        Attribute("location", "reference", case_exact=True, mutability="readOnly", reference_types=("uri",),
                  description="URI of the resource."),
        Attribute("version", case_exact=True, mutability="readOnly", description="Weak entity tag of this version."),
    )),
)  # fmt: skip


# --- RFC 7643 section 4.1: User ------------------------------------------------------------------------------------


def _string(name: str, description: str, **characteristics: Any) -> Attribute:
    return Attribute(name, description=description, **characteristics)


def _plural(
    name: str, description: str, value: Attribute, types: tuple[str, ...] = (), **characteristics: Any
) -> Attribute:
    """A multi-valued attribute with the default sub-attributes (RFC 7643 section 2.4)."""
    subs = (
        value,
        _string("display", "A human-readable name."),
        _string("type", "A label for the function of the value.", canonical_values=types),
        Attribute("primary", "boolean", description="Whether this is the preferred value; true at most once."),
    )
    return Attribute(name, "complex", True, description=description, sub_attributes=subs, **characteristics)


USER_SCHEMA = Schema(
    CORE_USER,
    "User",
    "User Account",
    (
        _string("userName", "Unique identifier of the user at the client, used to sign in.",
                required=True, uniqueness="server", identifier="identity"),
        Attribute("name", "complex", description="The components of the user's name.", sub_attributes=(
            _string("formatted", "The full name as displayed."),
            _string("familyName", "The family name, or last name."),
            _string("givenName", "The given name, or first name."),
            _string("middleName", "The middle name or names."),
            _string("honorificPrefix", "The title before the name."),
            _string("honorificSuffix", "The suffix after the name."),
        )),
        _string("displayName", "The name of the user, suitable for display."),
        _string("nickName", "The casual way to address the user."),
        Attribute("profileUrl", "reference", case_exact=True, reference_types=("external",),
                  description="URI of a page with the user's profile."),
        _string("title", "The user's title, such as Vice President."),
        _string("userType", "The relation of the user to the organization, such as Employee."),
        _string("preferredLanguage", "The user's preferred languages, as in Accept-Language."),
        _string("locale", "The user's location for localizing currency, dates and numbers."),
        _string("timezone", "The user's time zone in IANA format, such as America/Los_Angeles."),
        Attribute("active", "boolean", description="Whether the user may use the service."),
        _string("password", "Dropped by this server: never stored, never returned.",
                mutability="writeOnly", returned="never"),
        _plural("emails", "Email addresses of the user.", _string("value", "The email address.", identifier="identity"),
                ("work", "home", "other")),
        _plural("phoneNumbers", "Phone numbers of the user.", _string("value", "The phone number."),
                ("work", "home", "mobile", "fax", "pager", "other")),
        _plural("ims", "Instant messaging addresses of the user.", _string("value", "The address."),
                ("aim", "gtalk", "icq", "xmpp", "msn", "skype", "qq", "yahoo")),
        _plural("photos", "URIs of photos of the user.",
                Attribute("value", "reference", case_exact=True, reference_types=("external",),
                          description="URI of a photo."),
                ("photo", "thumbnail")),
        Attribute("addresses", "complex", True, description="Physical addresses of the user.", sub_attributes=(
            _string("formatted", "The full address as displayed or printed."),
            _string("streetAddress", "Street, house number and so on; may hold line breaks."),
            _string("locality", "The city or locality."),
            _string("region", "The state or region."),
            _string("postalCode", "The postal code."),
            _string("country", "The country, as two letters of ISO 3166-1."),
            _string("type", "A label for the function of the address.", canonical_values=("work", "home", "other")),
            Attribute("primary", "boolean", description="Whether this is the preferred address; true at most once."),
        )),
        Attribute("groups", "complex", True, mutability="readOnly",
                  description="Groups that the user belongs to; changed through the group.", sub_attributes=(
            _string("value", "The id of the group.", mutability="readOnly", case_exact=True),
            Attribute("$ref", "reference", case_exact=True, mutability="readOnly", reference_types=("User", "Group"),
                      description="URI of the group."),
            _string("display", "The group's displayName.", mutability="readOnly"),
            _string("type", "How the user came to be a member.", mutability="readOnly",
                    canonical_values=("direct", "indirect")),
        )),
        _plural("entitlements", "Things that the user has.", _string("value", "The entitlement.")),
        _plural("roles", "Roles of the user at the client; they grant nothing here.", _string("value", "The role.")),
        _plural("x509Certificates", "Certificates issued to the user.",
                Attribute("value", "binary", case_exact=True, description="DER certificate in base64.")),
    ),
)  # fmt: skip

ENTERPRISE_USER_SCHEMA = Schema(
    ENTERPRISE_USER,
    "EnterpriseUser",
    "Enterprise User",
    (
        _string("employeeNumber", "Identifier of the person within the organization."),
        _string("costCenter", "The name of a cost center."),
        _string("organization", "The name of an organization."),
        _string("division", "The name of a division."),
        _string("department", "The name of a department."),
        Attribute("manager", "complex", description="The user's manager.", sub_attributes=(
            _string("value", "The id of the user's manager.", case_exact=True, identifier="exact"),
            Attribute("$ref", "reference", case_exact=True, reference_types=("User",),
                      description="URI of the user's manager."),
            _string("displayName", "The displayName of the user's manager.", mutability="readOnly"),
        )),
    ),
)  # fmt: skip


# --- RFC 7643 section 4.2: Group -----------------------------------------------------------------------------------

GROUP_SCHEMA = Schema(
    CORE_GROUP,
    "Group",
    "Group",
    (
        # Section 8.7.1 says required false, uniqueness none; section 4.2 says REQUIRED, and this server keeps names
        # unique within a connection because Entra and role mappings match groups by them.
        _string("displayName", "The name of the group.", required=True, uniqueness="server", identifier="name"),
        Attribute("members", "complex", True, max_values=MAX_MEMBERS, description="The members of the group.",
                  sub_attributes=(
            _string("value", "The id of the member.", mutability="immutable", case_exact=True, identifier="exact"),
            Attribute("$ref", "reference", case_exact=True, mutability="immutable", reference_types=("User", "Group"),
                      description="URI of the member."),
            _string("type", "The member's resource type.", mutability="immutable", canonical_values=("User", "Group")),
        )),
    ),
)  # fmt: skip

USER = ResourceType("User", "User", "/Users", "User Account", USER_SCHEMA, (ENTERPRISE_USER_SCHEMA,))
GROUP = ResourceType("Group", "Group", "/Groups", "Group", GROUP_SCHEMA)


# --- custom schemas ------------------------------------------------------------------------------------------------

_RESERVED = ("urn:ietf:", "urn:scim:", "urn:iana:", "urn:oasis:")
_URN = re.compile(r"urn:[a-z0-9][a-z0-9-]{1,31}(?::[a-z0-9][a-z0-9._-]*)+", re.IGNORECASE | re.ASCII)
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}", re.IGNORECASE | re.ASCII)
_MAX_ATTRIBUTES = 200
_MAX_TEXT = 1_000
_CHARACTERISTICS = frozenset(
    {"name", "type", "multiValued", "required", "caseExact", "mutability", "returned", "uniqueness", "description",
     "canonicalValues", "referenceTypes", "subAttributes"}
)  # fmt: skip


def schema_from_json(document: Any) -> Schema:
    """The extension schema that `document` (RFC 7643 section 7) describes.

    Raises InvalidValue with the place and the reason: a reserved URN, an unknown characteristic (a spelling mistake
    would otherwise be silently ignored), a name twice, a combination that cannot work.
    """
    if not isinstance(document, dict):
        raise InvalidValue("A schema is a JSON object.")
    unknown = set(document) - {"schemas", "id", "name", "description", "attributes", "meta"}
    if unknown:
        raise InvalidValue(f"A schema has no member {_quoted(unknown)}.")
    urns = document.get("schemas", [SCHEMA])
    if not isinstance(urns, list) or SCHEMA not in urns:
        raise InvalidValue(f"The schemas of a schema document must hold {SCHEMA}.")
    return Schema(
        id=_schema_urn(document.get("id")),
        name=_text(document, "name", "The schema", required=True),
        description=_text(document, "description", "The schema"),
        attributes=_attributes(document.get("attributes"), "attributes", nested=False),
    )


def _schema_urn(value: Any) -> str:
    if not isinstance(value, str) or len(value) > 200 or not _URN.fullmatch(value):
        raise InvalidValue("The schema's id must be a URN such as urn:example:params:scim:schemas:Badge.")
    if value.lower().startswith(_RESERVED):
        raise InvalidValue("The schema's id is in a reserved namespace; use a URN of your organization.")
    return value


def _attributes(value: Any, where: str, *, nested: bool) -> tuple[Attribute, ...]:
    if not isinstance(value, list) or not value:
        raise InvalidValue(f"{where} must be a list with at least one attribute.")
    if len(value) > _MAX_ATTRIBUTES:
        raise InvalidValue(f"{where} may hold at most {_MAX_ATTRIBUTES} attributes.")
    attributes = tuple(_attribute(item, f"{where}[{index}]", nested) for index, item in enumerate(value))
    seen: set[str] = set()
    for attribute in attributes:
        if attribute.name.lower() in seen:
            raise InvalidValue(f"{where} names {attribute.name} twice (names compare without case).")
        seen.add(attribute.name.lower())
    return attributes


def _attribute(value: Any, where: str, nested: bool) -> Attribute:
    if not isinstance(value, dict):
        raise InvalidValue(f"{where} must be an object.")
    unknown = set(value) - _CHARACTERISTICS
    if unknown:
        raise InvalidValue(f"{where} has the unknown characteristic {_quoted(unknown)}.")
    name = value.get("name")
    if not isinstance(name, str) or not (_NAME.fullmatch(name) or (nested and name == "$ref")):
        raise InvalidValue(f"{where}.name must start with a letter, then letters, digits, '-' or '_', 64 at most.")
    where = f"{where} ({name})"
    if name.lower() == "password":
        raise InvalidValue(f"{where}: this server stores no passwords.")
    kind = cast(AttributeType, _choice(value, "type", AttributeType, "string", where))
    attribute = Attribute(
        name=name,
        type=kind,
        multi_valued=_flag(value, "multiValued", where),
        required=_flag(value, "required", where),
        case_exact=_flag(value, "caseExact", where, default=kind in ("reference", "binary")),
        mutability=cast(MutabilityKind, _choice(value, "mutability", MutabilityKind, "readWrite", where)),
        returned=cast(ReturnedKind, _choice(value, "returned", ReturnedKind, "default", where)),
        uniqueness=cast(UniquenessKind, _choice(value, "uniqueness", UniquenessKind, "none", where)),
        description=_text(value, "description", where),
        canonical_values=_texts(value, "canonicalValues", where),
        reference_types=_texts(value, "referenceTypes", where),
        sub_attributes=_sub_attributes(value, kind, where, nested),
    )
    _check_combination(attribute, where, nested)
    return attribute


def _sub_attributes(value: dict[str, Any], kind: str, where: str, nested: bool) -> tuple[Attribute, ...]:
    if kind != "complex":
        if value.get("subAttributes"):
            raise InvalidValue(f"{where} has sub-attributes and is not complex.")
        return ()
    if nested:
        raise InvalidValue(f"{where}: a sub-attribute cannot be complex (RFC 7643 section 2.3.8).")
    return _attributes(value.get("subAttributes"), f"{where}.subAttributes", nested=True)


def _check_combination(attribute: Attribute, where: str, nested: bool) -> None:
    if nested and attribute.multi_valued:
        raise InvalidValue(f"{where}: a multi-valued sub-attribute is not supported.")
    if attribute.required and attribute.read_only:
        raise InvalidValue(f"{where} is required and readOnly; no client could ever supply it.")
    if attribute.mutability == "writeOnly":
        raise InvalidValue(f"{where} is writeOnly; this server keeps no secrets for others.")
    # Nothing here enforces it: a promise that the server does not keep is worse than none.
    if attribute.uniqueness != "none":
        raise InvalidValue(f"{where}: uniqueness of a custom attribute must be none.")
    if attribute.reference_types and attribute.type != "reference":
        raise InvalidValue(f"{where} has referenceTypes and is not a reference.")
    if attribute.canonical_values and attribute.type != "string":
        raise InvalidValue(f"{where} has canonicalValues and is not a string.")


def _flag(value: dict[str, Any], key: str, where: str, *, default: bool = False) -> bool:
    flag = value.get(key, default)
    if not isinstance(flag, bool):
        raise InvalidValue(f"{where}.{key} must be true or false.")
    return flag


def _choice(value: dict[str, Any], key: str, choices: Any, default: str, where: str) -> str:
    allowed = get_args(choices.__value__)
    choice = value.get(key, default)
    if not isinstance(choice, str) or choice not in allowed:
        raise InvalidValue(f"{where}.{key} must be one of {', '.join(allowed)}.")
    return choice


def _text(value: dict[str, Any], key: str, where: str, *, required: bool = False) -> str:
    text = value.get(key, "")
    if not isinstance(text, str) or len(text) > _MAX_TEXT or (required and not text.strip()):
        raise InvalidValue(f"{where}.{key} must be a string of at most {_MAX_TEXT} characters.")
    return text


def _texts(value: dict[str, Any], key: str, where: str) -> tuple[str, ...]:
    texts = value.get(key, [])
    valid = isinstance(texts, list) and len(texts) <= _MAX_ATTRIBUTES
    if not valid or not all(isinstance(text, str) and 0 < len(text) <= _MAX_TEXT for text in texts):
        raise InvalidValue(f"{where}.{key} must be a list of strings.")
    return tuple(texts)


def _quoted(names: Iterable[Any]) -> str:
    """One of `names`, quoted when it is safe to repeat (threat T36)."""
    name = min(map(str, names))
    return f"'{name}'" if _NAME.fullmatch(name) else "of that name"
