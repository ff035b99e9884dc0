"""Statements that are put together from the parts that a batch needs: what it does not touch costs nothing."""

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

type Columns = Sequence[Collection[Any]]


@dataclass(frozen=True, slots=True)
class Part[Batch]:
    """A named query of a `WITH`. Its own parameters, from $1 on, are arrays, the `columns`, and behind them `scalars`.

    Without anything in any of its columns it does nothing.
    """

    name: str
    sql: str
    columns: Callable[[Batch], Columns]
    scalars: Callable[[Batch], Sequence[Any]] = lambda _: ()


type Bundle[Batch] = Sequence[Part[Batch]]


class Statement[Batch]:
    """One statement of parts, all of which see the state before it.

    Each of the `bundles` is left out when none of its parts has anything to do, so there are 2 ** len(bundles) texts,
    and each is planned once by a connection that needs it; `always` is in all of them. `select` makes, of the parts'
    names, the end of the statement.
    """

    def __init__(
        self, always: Bundle[Batch], bundles: Sequence[Bundle[Batch]], select: Callable[[Iterable[str]], str]
    ) -> None:
        self._always = always
        self._bundles = bundles
        self._select = select
        self._texts: dict[tuple[bool, ...], str] = {}

    def of(self, batch: Batch) -> tuple[str, list[Any]]:
        """The text that this batch needs, and its arguments."""
        arguments = [argument for part in self._always for argument in (*part.columns(batch), *part.scalars(batch))]
        needed = []
        for bundle in self._bundles:
            columns = [part.columns(batch) for part in bundle]
            is_needed = any(map(any, columns))
            needed.append(is_needed)
            if is_needed:
                for part, its_columns in zip(bundle, columns, strict=True):
                    arguments += (*its_columns, *part.scalars(batch))
        return self.text(tuple(needed)), arguments

    def variants(self) -> Iterable[tuple[bool, ...]]:
        """Which bundles a batch may need: all combinations."""
        return product((False, True), repeat=len(self._bundles))

    def text(self, needed: tuple[bool, ...]) -> str:
        """The statement with those of the bundles that are needed."""
        if needed not in self._texts:
            chosen = [
                part for bundle, is_needed in zip(self._bundles, needed, strict=True) if is_needed for part in bundle
            ]
            self._texts[needed] = self._combined([*self._always, *chosen])
        return self._texts[needed]

    def _combined(self, parts: Sequence[Part[Batch]]) -> str:
        queries, shift = [], 0
        for part in parts:
            shifted = re.sub(r"\$(\d+)", lambda match, by=shift: f"${int(match[1]) + by}", part.sql)
            queries.append(f"{part.name} AS ({shifted})")
            shift += max((int(number) for number in re.findall(r"\$(\d+)", part.sql)), default=0)
        return f"WITH {', '.join(queries)} {self._select([part.name for part in parts])}"
