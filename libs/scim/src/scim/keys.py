"""Keys by which identifiers compare, computed once and only here (threat T31).

Components disagree about case and look-alike characters: Postgres, Python, browsers and mail servers each fold
differently. So a value on which they could disagree is refused, not mapped.
"""

import re
import unicodedata
from functools import lru_cache

from scim.errors import InvalidValue

MAX_IDENTITY = 256  # characters; far above any directory's limit, and the key fits an index row of Postgres
MAX_NAME_KEY = 2_000  # bytes of UTF-8: an index row of Postgres holds 2,704

REMEMBERED = 2_048  # keys; a change asks for those of one user half a dozen times

# Not Cf, yet invisible: joiners, fillers, variation selectors, the blank Braille pattern.
_INVISIBLE = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\ufe00-\ufe0f\U000e0000-\U000e0fff]")
# Control, format (bidirectional, zero-width), private, unassigned, surrogate, line, paragraph, odd blanks.
_REFUSED_CATEGORIES = frozenset({"Cc", "Cf", "Co", "Cn", "Cs", "Zl", "Zp", "Zs"})
_LETTERS = re.compile(r"[^\W\d_]+")
# Scripts with letters that look like those of another of them. A run of letters may use one of them.
_CONFUSABLE_SCRIPTS = frozenset({"LATIN", "CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE", "COPTIC"})


@lru_cache(REMEMBERED)
def identity_key(text: str) -> str:
    """The key by which a userName or an email address is unique: NFC of its case folding, outer blanks trimmed.

    Raises InvalidValue when the text is blank, too long, or holds what another component could read as something
    else: compatibility characters (full-width letters, ligatures), invisible and bidirectional ones, letters whose
    upper and lower case fold differently (dotless i), a word that mixes Latin with Cyrillic or Greek letters.
    """
    text = text.strip(" ")
    if not text:
        raise InvalidValue("An identifier must not be blank.")
    if len(text) > MAX_IDENTITY:
        raise InvalidValue(f"An identifier may have at most {MAX_IDENTITY} characters.")
    if text.isascii():
        if not text.isprintable():
            raise InvalidValue("An identifier must not hold control characters.")
        return text.lower()
    _check_characters(text)
    _check_scripts(text)
    return fold(text)


@lru_cache(REMEMBERED)
def email_key(text: str) -> str | None:
    """The key of an email address (one @, no blanks, something on both sides); None for any other text.

    Raises InvalidValue as `identity_key` does.
    """
    local, at, domain = text.strip(" ").partition("@")
    if not (local and at and domain) or "@" in domain or any(map(str.isspace, text.strip(" "))):
        return None
    return identity_key(text)


def name_key(text: str) -> str:
    """The key by which a group's displayName is unique.

    Names are prose ("R&D (½ day) ™"), so compatibility and invisible characters are folded away, not refused: two
    names that look alike collide. Raises InvalidValue when nothing visible is left, or too much.
    """
    key = fold_name(text)
    if not key:
        raise InvalidValue("A name must hold a visible character.")
    if len(key) > MAX_NAME_KEY or len(key.encode(errors="surrogatepass")) > MAX_NAME_KEY:
        raise InvalidValue("A name is too long.")
    return key


def fold_name(text: str) -> str:
    """`name_key` of any text, for comparing: refuses nothing."""
    if text.isascii():
        return " ".join(text.lower().split())
    folded = unicodedata.normalize("NFKC", fold(unicodedata.normalize("NFKC", text)))
    visible = (c for c in _INVISIBLE.sub("", folded) if unicodedata.category(c) != "Cf")
    return " ".join("".join(visible).split())


def fold(text: str) -> str:
    """Canonical caseless form (Unicode 3.13 D145), composed: how text that is not caseExact compares."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", text).casefold())


def _check_characters(text: str) -> None:
    composed = unicodedata.normalize("NFC", text)
    if unicodedata.normalize("NFKC", text) != composed:
        raise InvalidValue("An identifier holds a character that can be mistaken for others, such as a full-width one.")
    if _INVISIBLE.search(text) or any(c != " " and unicodedata.category(c) in _REFUSED_CATEGORIES for c in text):
        raise InvalidValue("An identifier holds an invisible or bidirectional character.")
    # U+0130 has two lower cases, depending on who is asked; the comparison below sees only one of them.
    if "\u0130" in composed or not fold(text.upper()) == fold(text.lower()) == fold(text):
        raise InvalidValue("An identifier holds a letter whose upper and lower case do not correspond.")


def _check_scripts(text: str) -> None:
    for letters in _LETTERS.findall(text):
        if letters.isascii():
            continue
        scripts = {unicodedata.name(letter, "").partition(" ")[0] for letter in letters}
        if len(scripts & _CONFUSABLE_SCRIPTS) > 1:
            raise InvalidValue("An identifier mixes letters of different scripts in one word.")
