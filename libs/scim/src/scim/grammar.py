"""The filter and path grammar of RFC 7644 (sections 3.4.2.2 and 3.5.2), without any schema: text <-> syntax tree.

    filter     = conjunction *("or" conjunction)              and binds tighter than or
    conjunction= factor *("and" factor)
    factor     = ["not"] "(" filter ")" / comparison / valuePath
    comparison = attrPath "pr" / attrPath operator literal
    valuePath  = attrPath "[" filter "]" ["." subAttr ("pr" / operator literal)]     no value path inside a value path
    patchPath  = attrPath / attrPath "[" filter "]" ["." subAttr]

Keywords, operators and attribute names are read in any case. A schema URN may hold dots: only what follows its last
colon is split into attribute and sub-attribute. `emails[type eq "work"].value eq "x"`, which Entra sends, is read as
`emails[type eq "work" and value eq "x"]`: one element satisfies both. A literal without quotes is read as a string
when it is a plain word (`userName eq ada@example.com`), as older authentik and Entra's documentation write it.

Threats T33 and T34: length, nesting and the number of terms are bounded before anything recurses, the tokenizer is
linear, and no error text repeats the input.
"""

import json
import re
from dataclasses import dataclass
from functools import lru_cache

from scim.errors import InvalidFilter, InvalidPath, ScimError

MAX_LENGTH = 2048  # characters of a filter or a PATCH path
MAX_DEPTH = 16  # open groups; a bracket counts twice, since reading `[a or b].c` adds a group inside it
MAX_TERMS = 50  # comparisons in one filter
MAX_INTEGER = 2**53  # as in JSON documents: what every peer can represent

OPERATORS = frozenset({"eq", "ne", "co", "sw", "ew", "gt", "ge", "lt", "le"})
KEYWORDS = frozenset({"and", "or", "not"})

type Literal = str | bool | int | float | None


@dataclass(frozen=True, slots=True)
class AttributePath:
    """An attribute as a client names it; inside a value path, a sub-attribute of the element."""

    schema_urn: str | None
    attribute: str
    sub_attribute: str | None = None

    def __str__(self) -> str:
        prefix = f"{self.schema_urn}:" if self.schema_urn else ""
        suffix = f".{self.sub_attribute}" if self.sub_attribute else ""
        return f"{prefix}{self.attribute}{suffix}"


class _Node:
    __slots__ = ()

    def __str__(self) -> str:
        return to_text(self)  # pyright: ignore[reportArgumentType]  every subclass below is a Filter


@dataclass(frozen=True, slots=True)
class Compare(_Node):
    """`path operator value`; the operator is in lower case."""

    path: AttributePath
    operator: str
    value: Literal


@dataclass(frozen=True, slots=True)
class Present(_Node):
    """`path pr`."""

    path: AttributePath


@dataclass(frozen=True, slots=True)
class ValuePath(_Node):
    """`path[filter]`: one element satisfies the whole filter."""

    path: AttributePath
    filter: "Filter"


@dataclass(frozen=True, slots=True)
class And[Node](_Node):
    """All of `items`; none means true."""

    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Or[Node](_Node):
    """Any of `items`; none means false."""

    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Not[Node](_Node):
    """The opposite of `item`."""

    item: Node


type Filter = Compare | Present | ValuePath | And[Filter] | Or[Filter] | Not[Filter]


@lru_cache(maxsize=1024)
def parse_filter(text: str) -> Filter:
    """Read a filter; raises InvalidFilter (400) for everything else. Answers are shared: they are immutable."""
    parser = _Parser(_tokens(text))
    parsed = parser.filter()
    if parser.position < len(parser.tokens):
        raise parser.error("something follows the end of the expression")
    return parsed


@dataclass(frozen=True, slots=True)
class PatchPath:
    """A PATCH target as a client names it: `path`, `path[value_filter]` or `path[value_filter].sub_attribute`."""

    path: AttributePath
    value_filter: Filter | None = None
    sub_attribute: str | None = None


@lru_cache(maxsize=1024)
def parse_path(text: str) -> PatchPath:
    """Read a PATCH path; raises InvalidPath, or InvalidFilter when only what stands between the brackets is wrong."""
    if "[" in text:
        return _value_path(text)
    path = attribute_path(text.strip()) if len(text) <= MAX_LENGTH else None
    if path is None:
        raise InvalidPath("The path is not an attribute name.")
    return PatchPath(path)


def attribute_path(text: str) -> AttributePath | None:
    """`[URN:]attribute[.subAttribute]`; None when `text` is not one."""
    urn, colon, names = text.rpartition(":")
    attribute, dot, sub_attribute = names.partition(".")
    if not _NAME.fullmatch(attribute) or (dot and not _SUB_NAME.fullmatch(sub_attribute)):
        return None
    if colon and not _URI.fullmatch(urn):
        return None
    return AttributePath(urn if colon else None, attribute, sub_attribute if dot else None)


def to_text(tree: Filter) -> str:
    """Print a filter so that `parse_filter` reads the same tree back."""
    match tree:
        case Compare(path, operator, value):
            return f"{path} {operator} {json.dumps(value, ensure_ascii=False)}"
        case Present(path):
            return f"{path} pr"
        case ValuePath(path, inner):
            return f"{path}[{to_text(inner)}]"
        case Not(item):
            return f"not ({to_text(item)})"
        case And(items):
            return " and ".join(f"({to_text(item)})" if isinstance(item, And | Or) else to_text(item) for item in items)
        case Or(items):
            return " or ".join(f"({to_text(item)})" if isinstance(item, Or) else to_text(item) for item in items)


_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_SUB_NAME = re.compile(r"\$?[A-Za-z][A-Za-z0-9_-]*")  # `$ref`
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[A-Za-z0-9_.:/+~%#-]+")

_TOKEN = re.compile(r'[ \t\r\n]*(?:([()\[\]])|("(?:[^"\\]|\\.)*+")|([^\s()\[\]"]+))')
_PUNCTUATION, _STRING, _WORD = 1, 2, 3  # the groups of _TOKEN
_DEPTH_OF = {"(": 1, "[": 2, ")": -1, "]": -2}

type _Token = tuple[int, str, int]  # kind, text, offset


def _tokens(text: str) -> list[_Token]:
    """Cut `text` in one pass; refuses what is too long or too deep before anyone recurses over it."""
    if len(text) > MAX_LENGTH:
        raise InvalidFilter(f"The filter is longer than {MAX_LENGTH} characters.")
    text = text.rstrip(" \t\r\n")
    tokens: list[_Token] = []
    position = depth = 0
    while position < len(text):
        found = _TOKEN.match(text, position)
        if found is None:
            raise InvalidFilter(f"The filter cannot be read from character {position + 1} on.")
        kind = found.lastindex or 0
        position = found.end()
        token = found[kind]
        tokens.append((kind, token, position - len(token)))
        if kind == _PUNCTUATION:
            depth += _DEPTH_OF[token]
            if depth > MAX_DEPTH:
                raise InvalidFilter(f"The filter is nested more than {MAX_DEPTH} levels deep.")
    return tokens


class _Parser:
    """Recursive descent over tokens; its recursion is bounded by the depth that `_tokens` has let through."""

    __slots__ = ("inside_value_path", "position", "terms", "tokens")

    def __init__(self, tokens: list[_Token]) -> None:
        self.tokens = tokens
        self.position = 0
        self.terms = 0
        self.inside_value_path = False

    def filter(self) -> Filter:
        items = [self._conjunction()]
        while self._takes_keyword("or"):
            items.append(self._conjunction())
        return items[0] if len(items) == 1 else Or(tuple(items))

    def error(self, reason: str) -> ScimError:
        where = f"character {self.tokens[self.position][2] + 1}" if self.position < len(self.tokens) else "its end"
        return InvalidFilter(f"The filter is malformed at {where}: {reason}.")

    def _conjunction(self) -> Filter:
        items = [self._factor()]
        while self._takes_keyword("and"):
            items.append(self._factor())
        return items[0] if len(items) == 1 else And(tuple(items))

    def _factor(self) -> Filter:
        if self._takes("("):
            return self._group()
        if self._takes_keyword("not"):
            if not self._takes("("):
                raise self.error("'(' must follow 'not'")
            return Not(self._group())
        path = self._path()
        if not self._takes("["):
            return self._comparison(path)
        return self._element(path)

    def _group(self) -> Filter:
        inner = self.filter()
        self._expect(")")
        return inner

    def _element(self, path: AttributePath) -> Filter:
        inner = self.brackets(path)
        sub_attribute = self.sub_attribute()
        if sub_attribute is None:
            return ValuePath(path, inner)
        comparison = self._comparison(AttributePath(None, sub_attribute))
        items = inner.items if isinstance(inner, And) else (inner,)
        return ValuePath(path, And((*items, comparison)))

    def brackets(self, path: AttributePath) -> Filter:
        """What stands in `path[...]`, the opening bracket being read already."""
        if self.inside_value_path or path.sub_attribute:
            raise self.error("'[' is not allowed here")
        self.inside_value_path = True
        inner = self.filter()
        self._expect("]")
        self.inside_value_path = False
        return inner

    def sub_attribute(self) -> str | None:
        """The name in `].name`, if that comes next."""
        if self.position == len(self.tokens):
            return None
        kind, token, _ = self.tokens[self.position]
        if kind != _WORD or not token.startswith("."):
            return None
        if not _SUB_NAME.fullmatch(token, 1):
            raise self.error("a sub-attribute name must follow the dot")
        self.position += 1
        return token[1:]

    def _path(self) -> AttributePath:
        kind, token = self._peek("an attribute name is missing")
        path = (_sub_path if self.inside_value_path else attribute_path)(token)
        if path is None or kind != _WORD or token.lower() in KEYWORDS:
            raise self.error("this is not an attribute name")
        self.position += 1
        return path

    def _comparison(self, path: AttributePath) -> Filter:
        self.terms += 1
        if self.terms > MAX_TERMS:
            raise InvalidFilter(f"The filter has more than {MAX_TERMS} comparisons.")
        _, token = self._peek("an operator is missing")
        operator = token.lower()
        if operator != "pr" and operator not in OPERATORS:
            raise self.error("this is not an operator")
        self.position += 1
        return Present(path) if operator == "pr" else Compare(path, operator, self._literal())

    def _literal(self) -> Literal:
        kind, token = self._peek("a value is missing after the operator")
        if kind == _PUNCTUATION or token.lower() in KEYWORDS:
            raise self.error("a value is missing after the operator")
        try:
            value = _quoted(token) if kind == _STRING else _bare(token)
        except ValueError as error:
            raise self.error("this is not a value") from error
        self.position += 1
        return value

    def _peek(self, missing: str) -> tuple[int, str]:
        if self.position == len(self.tokens):
            raise self.error(missing)
        kind, token, _ = self.tokens[self.position]
        return kind, token

    def _takes(self, punctuation: str) -> bool:
        if self.position < len(self.tokens) and self.tokens[self.position][1] == punctuation:
            self.position += 1
            return True
        return False

    def _takes_keyword(self, keyword: str) -> bool:
        if self.position < len(self.tokens) and self.tokens[self.position][1].lower() == keyword:
            self.position += 1
            return True
        return False

    def _expect(self, punctuation: str) -> None:
        if not self._takes(punctuation):
            raise self.error(f"'{punctuation}' is missing")


def _value_path(text: str) -> PatchPath:
    parser = _Parser(_tokens(text))
    path = attribute_path(parser.tokens[0][1])
    if path is None or len(parser.tokens) < 2 or parser.tokens[1][1] != "[":
        raise InvalidPath("The path is not an attribute name, with or without a filter in brackets.")
    parser.position = 2
    value_filter = parser.brackets(path)
    sub_attribute = parser.sub_attribute()
    if parser.position < len(parser.tokens):
        raise InvalidPath("The path has something after its closing bracket that is not a sub-attribute.")
    return PatchPath(path, value_filter, sub_attribute)


def _sub_path(text: str) -> AttributePath | None:
    return AttributePath(None, text) if _SUB_NAME.fullmatch(text) else None


def _quoted(token: str) -> str:
    """A JSON string; ValueError when it is none, or holds what no stored text can hold (threat T30)."""
    text = json.loads(token) if "\\" in token else token[1:-1]
    if _FORBIDDEN.search(text):
        raise ValueError
    return text


_FORBIDDEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_CONSTANTS: dict[str, bool | None] = {"true": True, "false": False, "null": None}
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_PLAIN_WORD = re.compile(r"\w[\w.@+:/=%~$!#&*-]*")


def _bare(word: str) -> Literal:
    """A literal without quotes: constant, number, else a plain word as a string; ValueError for the rest."""
    lowered = word.lower()
    if lowered in _CONSTANTS:
        return _CONSTANTS[lowered]
    if _NUMBER.fullmatch(word):
        return _number(word)
    if not _PLAIN_WORD.fullmatch(word):
        raise ValueError
    return word


def _number(word: str) -> int | float:
    number = int(word) if word.lstrip("-").isdigit() else float(word)
    if not -MAX_INTEGER <= number <= MAX_INTEGER:
        raise ValueError
    return number
