"""Filters and sort keys as SQL over a row: a Predicate of `scim.filter` compiled to a parameterised condition.

The compiled condition selects the rows whose rendered resource `scim.filter.holds` accepts; a test generates
resources and filters and compares both. What is relied on: `resource` is canonical (no unassigned values, types as
the schema says, multi-valued attributes are arrays).

SQL's NULL stands for false: AND and OR keep that meaning, `IS NOT TRUE` and `IS DISTINCT FROM` end it, so that plain
comparisons stay plain and an index can serve them. Names come from the schema, values are always bound.

Text that is not caseExact compares by `scim.keys.fold` (decomposed, case folded as Python does, composed). No
function of Postgres folds like that, so the characters to fold travel along as a map: some dozens of them suffice for
a literal in ASCII, which nearly all are. A value in ASCII needs none.
"""

import sys
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from uuid import UUID

from scim.errors import InvalidValue
from scim.filter import And, AnyElement, Condition, Not, Or, Predicate, Target, targets
from scim.keys import email_key
from scim.schema import Attribute, ResourceType


@dataclass(frozen=True, slots=True)
class Column:
    """An attribute that is not read from `resource`, or that an index knows under `sql`."""

    sql: str
    is_key: bool = False  # it holds what `scim.filter.text_key` makes of the value


@dataclass(frozen=True, slots=True)
class Where:
    """SQL over the table's row whose parameters start at $2; $1 is the connection."""

    sql: str
    parameters: tuple[Any, ...]


# What every resource table has; (attribute, sub-attribute).
COLUMNS: Mapping[tuple[str, str | None], Column] = {
    ("id", None): Column("id::text"),
    ("externalId", None): Column("external_id"),
    # A client sees milliseconds.
    ("meta", "created"): Column("date_trunc('milliseconds', created_at)"),
    ("meta", "lastModified"): Column("date_trunc('milliseconds', last_modified)"),
    ("meta", "version"): Column("('W/\"' || version || '\"')"),
}


@dataclass(frozen=True, slots=True)
class Relation:
    """A multi-valued `attribute` whose values are rows of other tables.

    `values` selects those of the resource `{row}`, with the columns value (uuid), path ("$ref" without its base), type
    and, where the attribute `has_display`, display. `holders`, where there is one, is a condition on `{row}` that some
    value, `{alias}`, satisfies `{condition}`; it knows all columns but those in `per_row`. A resource may have very
    many values where the relation `is_large`.
    """

    attribute: str
    values: str
    holders: str | None = None
    has_display: bool = True
    per_row: frozenset[str] = frozenset()
    is_large: bool = False

    def some(self, row: str, alias: str, condition: str, names: Iterable[str]) -> str:
        """That some value satisfies `condition`, which looks at the sub-attributes `names`."""
        if self.holders is None or not self.per_row.isdisjoint(names):
            return f"EXISTS (SELECT FROM ({self.values.format(row=row)}) AS {alias} WHERE {condition})"
        return self.holders.format(row=row, alias=alias, condition=condition)


@dataclass(frozen=True, slots=True)
class Layout:
    """Where `table` keeps what: `columns` by (attribute, sub-attribute), one attribute in `relation`, everything else
    in `resource`.

    `email_keys` names, for a multi-valued attribute, the column with the `scim.keys.email_key` of each of its values
    that is an address: an index to find candidates by. `folded` has, by (extension, attribute), what another index is
    made of: the value in lower case, or '' when it is not ASCII.
    """

    table: str
    columns: Mapping[tuple[str, str | None], Column]
    relation: Relation
    email_keys: Mapping[str, str] = field(default_factory=dict)
    folded: Mapping[tuple[str | None, str], str] = field(default_factory=dict)


@dataclass(slots=True)
class Compiler:
    """Compiles for one resource type; `base_url` is where its endpoint is."""

    type: ResourceType
    layout: Layout
    base_url: str
    _parameters: list[Any] = field(default_factory=list)
    _aliases: int = 0

    def where(self, predicate: Predicate) -> Where:
        sql = self._row(predicate)
        return Where(sql, tuple(self._parameters))

    # --- predicates over the row ---------------------------------------------------------------------------------

    def _row(self, predicate: Predicate) -> str:
        match predicate:
            case Condition():
                return self._row_test(predicate)
            case AnyElement(target, inner):
                return self._any_element(target, inner)
            case And(items):
                return _joined(" AND ", [self._row(item) for item in items], "TRUE")
            case Or(items):
                return _joined(" OR ", [self._row(item) for item in items], "FALSE")
            case Not(item):
                return f"({self._row(item)}) IS NOT TRUE"

    def _row_test(self, test: Condition) -> str:
        target = test.target
        name = target.attribute.name
        if target.extension is None:
            if name == "schemas":
                return self._schemas_test(test)
            if name == "meta":
                return self._meta_test(test)
            column = self.layout.columns.get((name, target.sub_attribute.name if target.sub_attribute else None))
            if column is not None:
                return self._column_test(column, test)
            if name == self.layout.relation.attribute:
                return self._relation_test(test)
        if target.attribute.multi_valued:
            return self._multi_valued_test(test)
        container = _container(target)
        if target.sub_attribute is None:
            return self._folded(test) + self._member_test(container, target.attribute, test)
        return self._member_test(f"({container} -> {_quoted(name)})", target.sub_attribute, test)

    def _multi_valued_test(self, test: Condition) -> str:
        target = test.target
        array = f"({_container(target)} -> {_quoted(target.attribute.name)})"
        if test.operator == "pr" and target.sub_attribute is None:
            return f"{array} IS NOT NULL"
        alias = self._alias()
        if target.sub_attribute is None:
            item = self._comparison(f"({alias}.item #>> '{{}}')", target.attribute, test)
        else:
            item = self._member_test(f"{alias}.item", target.sub_attribute, test)
        some = f"EXISTS (SELECT FROM jsonb_array_elements({array}) AS {alias}(item) WHERE {item})"
        return f"({array} IS NULL OR {some})" if test.operator == "ne" else self._candidates(target, test) + some

    def _any_element(self, target: Target, inner: Predicate) -> str:
        if target.extension is None and target.attribute.name == "meta":
            return self._row(inner)
        if target.extension is None and target.attribute.name == self.layout.relation.attribute:
            return self._some_related(inner)
        element = f"({_container(target)} -> {_quoted(target.attribute.name)})"
        if not target.attribute.multi_valued:
            return f"({element} IS NOT NULL AND ({self._element(inner, element)}))"
        alias = self._alias()
        condition = self._element(inner, f"{alias}.item")
        some = f"EXISTS (SELECT FROM jsonb_array_elements({element}) AS {alias}(item) WHERE {condition})"
        return self._candidates(target, inner) + some

    def _candidates(self, target: Target, predicate: Predicate) -> str:
        """What an index can tell beforehand, when `predicate` is that one element has a certain address."""
        column = self.layout.email_keys.get(target.attribute.name) if target.extension is None else None
        key = _wanted_address(predicate) if column else None
        return f"{column} @> ARRAY[{self._bind(key)}::text] AND " if key else ""

    def _folded(self, test: Condition) -> str:
        """The same for an attribute that an index has in lower case."""
        key = self.layout.folded.get((test.target.extension, test.target.attribute.name))
        return f"{key} IN ({self._bind(str(test.value))}::text, '') AND " if key and test.operator == "eq" else ""

    def _element(self, predicate: Predicate, element: str) -> str:
        """A predicate over one element, whose tests are on its sub-attributes."""
        match predicate:
            case Condition():
                return self._member_test(element, predicate.target.leaf, predicate)
            case And(items):
                return _joined(" AND ", [self._element(item, element) for item in items], "TRUE")
            case Or(items):
                return _joined(" OR ", [self._element(item, element) for item in items], "FALSE")
            case Not(item):
                return f"({self._element(item, element)}) IS NOT TRUE"
            case AnyElement():
                return "FALSE"

    # --- the attribute that is in other tables --------------------------------------------------------------------

    def _relation_test(self, test: Condition) -> str:
        if test.operator == "pr":
            return self._some_related(And(()))  # its values have all their sub-attributes
        some = self._some_related(test)
        return f"({some} OR NOT {self._some_related(And(()))})" if test.operator == "ne" else some

    def _some_related(self, predicate: Predicate) -> str:
        alias = self._alias()
        names = {target.leaf.name for target in targets(predicate)}
        return self.layout.relation.some(self.layout.table, alias, self._related(predicate, alias), names)

    def _related(self, predicate: Predicate, alias: str) -> str:
        """A predicate over one row of the relation."""
        match predicate:
            case Condition():
                return self._related_test(predicate, alias)
            case And(items):
                return _joined(" AND ", [self._related(item, alias) for item in items], "TRUE")
            case Or(items):
                return _joined(" OR ", [self._related(item, alias) for item in items], "FALSE")
            case Not(item):
                return f"({self._related(item, alias)}) IS NOT TRUE"
            case AnyElement():
                return "FALSE"

    def _related_test(self, test: Condition, alias: str) -> str:
        leaf = test.target.leaf
        if test.operator == "pr":
            return "TRUE"
        if leaf.name == "$ref":
            return self._comparison(f"({self._bind(self.base_url)}::text || {alias}.path)", leaf, test)
        if leaf.name != "value":
            return self._comparison(f"{alias}.{leaf.name}", leaf, test)
        if test.operator == "eq":
            resource_id = _uuid(test.value)
            return f"{alias}.value = {self._bind(resource_id)}" if resource_id else "FALSE"
        return self._comparison(f"{alias}.value::text", leaf, test)

    # --- attributes that are columns ------------------------------------------------------------------------------

    def _column_test(self, column: Column, test: Condition) -> str:
        if test.operator == "pr":
            return f"{column.sql} IS NOT NULL"
        if test.operator == "eq" and test.target.attribute.name == "id":
            resource_id = _uuid(test.value)
            return f"id = {self._bind(resource_id)}" if resource_id else "FALSE"
        if column.is_key:
            return self._text_comparison(column.sql, test.operator, str(test.value))
        return self._comparison(column.sql, test.target.leaf, test)

    def _meta_test(self, test: Condition) -> str:
        if test.operator == "pr":
            return "TRUE"
        sub_attribute = test.target.leaf
        if sub_attribute.name == "resourceType":
            return self._comparison(f"{self._bind(self.type.name)}::text", sub_attribute, test)
        if sub_attribute.name == "location":
            location = f"{self.base_url}{self.type.endpoint}/"
            return self._comparison(f"({self._bind(location)}::text || id::text)", sub_attribute, test)
        return self._comparison(self.layout.columns["meta", sub_attribute.name].sql, sub_attribute, test)

    def _schemas_test(self, test: Condition) -> str:
        if test.operator == "pr":
            return "TRUE"
        alias = self._alias()
        core = self._bind(self.type.schema.id)
        extensions = self._bind([extension.id for extension in self.type.extensions])
        condition = self._comparison(f"{alias}.urn", test.target.leaf, test)
        return (
            f"EXISTS (SELECT FROM unnest({extensions}::text[] || {core}::text) AS {alias}(urn)"
            f" WHERE ({alias}.urn = {core} OR resource ? {alias}.urn) AND {condition})"
        )

    # --- one value ------------------------------------------------------------------------------------------------

    def _member_test(self, container: str, leaf: Attribute, test: Condition) -> str:
        """A test on the member `leaf` of the JSON object `container`."""
        if test.operator == "pr":
            return f"{container} ? {_quoted(leaf.name)}"
        arrow = "->" if leaf.type in ("boolean", "integer", "decimal") else "->>"
        return self._comparison(f"({container} {arrow} {_quoted(leaf.name)})", leaf, test)

    def _comparison(self, value: str, leaf: Attribute, test: Condition) -> str:
        """`value operator literal`; `value` is text, a timestamp column, or jsonb for booleans and numbers."""
        match leaf.type:
            case "boolean" | "integer" | "decimal":
                return _compare(value, test.operator, f"{self._bind(test.value)}::jsonb")
            case "dateTime":
                instant = value if test.target.attribute.name == "meta" else _instant(value)
                return _compare(instant, test.operator, f"{self._bind(test.value)}::timestamptz")
            case _:
                literal = str(test.value)
                return self._text_comparison(self._text_key(value, leaf, literal), test.operator, literal)

    def _text_comparison(self, value: str, operator: str, literal: str) -> str:
        bound = f"{self._bind(literal)}::text"
        match operator:
            case "co":
                return f"strpos({value}, {bound}) > 0"
            case "sw":
                return f"starts_with({value}, {bound})"
            case "ew":
                return f"right({value}, char_length({bound})) = {bound}"
            case _:
                return _compare(f'({value} COLLATE "C")', operator, bound)

    def _text_key(self, value: str, leaf: Attribute, literal: str) -> str:
        """`scim.filter.text_key` of a value that is to be compared with `literal`."""
        if leaf.case_exact or leaf.type == "binary":
            return value
        if leaf.identifier == "identity":
            value = f"trim({value})"
        alias, folds = self._alias(), self._bind(fold_map(literal.isascii()))
        folded = (
            f"(SELECT normalize(string_agg(coalesce({folds}::jsonb ->> {alias}.c, {alias}.c), '' ORDER BY {alias}.i))"
            f" FROM string_to_table(normalize({value}, NFD), NULL) WITH ORDINALITY AS {alias}(c, i))"
        )
        is_ascii = f"octet_length({value}) = char_length({value})"
        return f'CASE WHEN {is_ascii} THEN lower({value} COLLATE "C") ELSE {folded} END'

    # --- plumbing -------------------------------------------------------------------------------------------------

    def _bind(self, value: Any) -> str:
        self._parameters.append(value)
        return f"${len(self._parameters) + 1}"

    def _alias(self) -> str:
        self._aliases += 1
        return f"t{self._aliases}"


def sort_key(target: Target, layout: Layout) -> str:
    """What rows are sorted by: the value, or the primary one (else the first) of several (RFC 7644 section 3.4.2.3).

    Text that is not caseExact sorts without the case of ASCII letters; a missing value is NULL.
    """
    attribute, leaf = target.attribute, _comparable(target)
    column = layout.columns.get((attribute.name, target.sub_attribute.name if target.sub_attribute else None))
    if target.extension is None and column is not None:
        return column.sql if leaf.type == "dateTime" else f'{column.sql} COLLATE "C"'
    value = f"({_container(target)} -> {_quoted(attribute.name)})"
    if attribute.multi_valued:
        value = (
            f"(SELECT item FROM jsonb_array_elements({value}) WITH ORDINALITY AS items(item, i)"
            " ORDER BY (item -> 'primary') = 'true'::jsonb DESC NULLS LAST, i LIMIT 1)"
        )
    if leaf is not attribute:
        value = f"({value} -> {_quoted(leaf.name)})"
    return value if leaf.type in ("boolean", "integer", "decimal") else _sortable_text(value, leaf)


def sort_type(target: Target, layout: Layout) -> str:
    """The Postgres type of `sort_key`."""
    leaf = _comparable(target)
    name = (target.attribute.name, target.sub_attribute.name if target.sub_attribute else None)
    if target.extension is None and name in layout.columns:
        return "timestamptz" if leaf.type == "dateTime" else "text"
    return "jsonb" if leaf.type in ("boolean", "integer", "decimal") else "text"


@cache
def fold_map(for_ascii: bool) -> Mapping[str, str]:
    """What case folding makes of each decomposed character that it changes. Takes half a second, once.

    For a literal in ASCII those that fold into ASCII are enough: every other character, folded or not, differs from
    all of the literal's and is greater.
    """
    if for_ascii:
        return {c: folded for c, folded in fold_map(False).items() if any(part.isascii() for part in folded)}
    characters = (chr(code) for code in range(sys.maxunicode + 1))
    return {
        character: folded
        for character in characters
        if (folded := character.casefold()) != character and unicodedata.normalize("NFD", character) == character
    }


def _comparable(target: Target) -> Attribute:
    leaf = target.leaf
    return leaf.sub_attribute("value") or leaf if leaf.is_complex else leaf


def _sortable_text(value: str, leaf: Attribute) -> str:
    text = f"({value} #>> '{{}}')"
    return f'{text} COLLATE "C"' if leaf.case_exact else f'lower({text} COLLATE "C")'


def _container(target: Target) -> str:
    return f"(resource -> {_quoted(target.extension)})" if target.extension else "resource"


def _compare(value: str, operator: str, bound: str) -> str:
    sign = {"eq": "=", "ne": "IS DISTINCT FROM", "gt": ">", "ge": ">=", "lt": "<", "le": "<="}[operator]
    return f"{value} {sign} {bound}"


def _instant(text: str) -> str:
    """A checked xsd:dateTime as `timestamptz`, as `scim.filter.instant` reads it: UTC without an offset, microseconds
    cut off. The offset is applied by hand, because Postgres refuses those beyond 15:59."""
    local = f"(left({text}, 19) || coalesce(substring({text} from '^.{{19}}(\\.\\d{{1,6}})'), ''))::timestamp"
    offset = f"coalesce(substring({text} from '[-+ ]\\d\\d:\\d\\d$'), '+00:00')"
    shift = f"(translate({offset}, ' ', '+'))::interval"
    return f"(({local} - {shift}) AT TIME ZONE 'UTC')"


def _joined(operator: str, parts: list[str], empty: str) -> str:
    return f"({operator.join(f'({part})' for part in parts)})" if parts else empty


def _quoted(name: str | None) -> str:
    return "'" + (name or "").replace("'", "''") + "'"


def _wanted_address(predicate: Predicate) -> str | None:
    """The key of the address that an element must have to satisfy `predicate`; None when there is no such one."""
    match predicate:
        case Condition(target, "eq", str() as value) if target.leaf.name == "value":
            try:
                return email_key(value)
            except InvalidValue:
                return None  # no address that is kept has such characters
        case And(items):
            return next((key for item in items if (key := _wanted_address(item))), None)
    return None


def _uuid(value: Any) -> UUID | None:
    try:
        return parsed if str(parsed := UUID(str(value))) == value else None
    except ValueError:
        return None
