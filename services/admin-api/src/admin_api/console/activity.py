"""Activity: `/admin/scim/activity`. The provisioning log for people: filtered, live, each entry in full."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from fastapi import APIRouter, Request, Response

from admin_api import provisioning_log, sync_status
from admin_api.console import frame
from admin_api.console.differences import Difference, differences
from admin_api.console.live import LiveOf, Message
from admin_api.console.session import PageAdmin
from admin_api.errors import Validation
from admin_api.paging import Paging
from admin_api.principals import Principal
from admin_api.provisioning_log import STATUS_CLASSES, Happened, LogEntry
from admin_api.service import Service, ServiceOf
from admin_api.store import live as store
from admin_api.store.log import LogFilter
from contracts import EventType

router = APIRouter(include_in_schema=False)

PATH = "/admin/scim/activity"
ROWS = 50
_FIELDS = ("connection", "user", "id", "status", "from", "to")
# Members that a group gained and lost, roles that an account did.
_MEMBERS = ("joined", "left")
_ROLES = ("gained", "lost")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the filters say: as they were filled in, as the log understands them, and what is wrong with them."""

    values: Mapping[str, str]
    filter: LogFilter
    errors: Mapping[str, str]

    def address(self, path: str = PATH, **more: str) -> str:
        """The path with the filters that are filled in."""
        query = urlencode({name: value for name, value in {**self.values, **more}.items() if value})
        return f"{path}?{query}" if query else path

    @property
    def export(self) -> str:
        """Where the same entries are as a file."""
        names = {"connection": "connectionId", "user": "userName", "id": "userId"}
        query = {names.get(name, name): value for name, value in self.values.items() if value}
        return "/api/v1/admin/scim/log/export?" + urlencode({**query, "format": "csv"})

    @property
    def is_narrowed(self) -> bool:
        return any(self.values.values())


@dataclass(frozen=True, slots=True)
class Line:
    """An entry as the list shows it."""

    entry: LogEntry
    what: str
    about: str


@router.get(PATH)
async def show(request: Request, principal: PageAdmin, service: ServiceOf) -> Response:
    """The list, or for htmx its results alone."""
    wanted = await read_filters(request.query_params)
    cursor = request.query_params.get("cursor") or None
    lines, next_cursor = [], None
    if not wanted.errors:
        found = await provisioning_log.list_log(principal, service, Paging(ROWS, cursor), wanted.filter)
        lines, next_cursor = await _lines(service, principal, found.entries), found.next_cursor
    context = {
        "wanted": wanted,
        "lines": lines,
        "older": wanted.address(cursor=next_cursor) if next_cursor else None,
        "first": wanted.address() if cursor else None,
        "follow": None if cursor or wanted.errors else wanted.address(PATH + "/live", after=_newest(lines)),
    }
    code = 400 if wanted.errors else 200
    if frame.is_partial(request):
        return frame.page(request, "_activity_results.html", **context)
    status = await sync_status.get_status(principal, service)
    return frame.page(request, "activity.html", code=code, connections=status.connections, **context)


@router.get(PATH + "/live")
async def follow(request: Request, principal: PageAdmin, service: ServiceOf, live: LiveOf) -> Response:
    """New entries as they are applied."""
    wanted = await read_filters(request.query_params)
    if wanted.errors:
        raise Validation("the filters cannot be understood")
    last = _id(request.headers.get("last-event-id") or request.query_params.get("after"))
    news = _News(request, principal, service, wanted, last)
    return live.stream(request, principal, news.next)


@router.get(PATH + "/{change_id}")
async def show_entry(change_id: UUID, request: Request, principal: PageAdmin, service: ServiceOf) -> Response:
    """One entry: what was asked, what came of it and why, what it changed."""
    entry = await provisioning_log.get_log_entry(change_id, principal, service)
    names = await _names(service, principal, [entry])
    return frame.page(
        request,
        "activity_entry.html",
        entry=entry,
        line=_line(entry, names),
        explanation=explain(entry),
        effects=[_effect(event, names) for event in entry.events],
        took=round((entry.applied_at - entry.received_at).total_seconds() * 1000),
    )


@dataclass
class _News:
    """The entries that a page does not have yet; an entry may come later than one that was received after it."""

    request: Request
    principal: Principal
    service: Service
    wanted: Wanted
    last: UUID | None
    seen: set[UUID] | None = field(default=None)

    async def next(self) -> Message | None:
        found = await provisioning_log.list_log(self.principal, self.service, Paging(ROWS, None), self.wanted.filter)
        if self.seen is None:
            self.seen = {entry.change_id for entry in found.entries if self.last and entry.change_id <= self.last}
        new = [entry for entry in found.entries if entry.change_id not in self.seen]
        self.seen = {entry.change_id for entry in found.entries}
        if not new:
            return None
        lines = await _lines(self.service, self.principal, new)
        return Message(frame.render(self.request, "_activity_news.html", lines=lines), str(found.entries[0].change_id))


async def read_filters(query: Mapping[str, str]) -> Wanted:
    """From the query of the page's address."""
    values = {name: query.get(name, "").strip()[:256] for name in _FIELDS}
    errors: dict[str, str] = {}
    since, until = _time(values, "from", errors), _time(values, "to", errors)
    if values["status"] not in ("", *STATUS_CLASSES):
        errors["status"] = "Choose one of the list."
    for name in ("connection", "id"):
        if values[name] and _id(values[name]) is None:
            errors[name] = "This is no id."
    if errors:
        return Wanted(values, LogFilter(), errors)
    try:
        wanted = await provisioning_log.log_filter(
            connection_id=_id(values["connection"]),
            user_id=_id(values["id"]),
            user_name=values["user"] or None,
            status=values["status"] or None,  # pyright: ignore[reportArgumentType]
            since=since,
            until=until,
        )
    except Validation as error:
        return Wanted(values, LogFilter(), {"user" if "userName" in error.message else "from": error.message})
    return Wanted(values, wanted, {})


def explain(entry: LogEntry) -> str:
    """Why it came out as it did, in a sentence."""
    if entry.dry_run:
        return "This was a preview: nothing was changed."
    if entry.similar is not None:
        return f"It was refused before it became a change: {_reason(entry)}{_more(entry.similar)}"
    if entry.detail:
        return frame.sentence(entry.detail)
    if entry.status >= 400:
        return "It was refused without a reason that can be told."
    if not entry.events:
        return "It was accepted; everything was as asked for already, so nothing changed."
    return "It was accepted and applied."


def _reason(entry: LogEntry) -> str:
    return frame.sentence(entry.detail or f"status {entry.status}")


def _more(similar: int) -> str:
    return f" {frame.count(similar, 'other')} of this connection went untold before it." if similar else ""


_DONE = {"create": "Create", "replace": "Replace", "patch": "Change", "delete": "Delete"}


def _line(entry: LogEntry, names: Mapping[UUID, str]) -> Line:
    return Line(entry, _what(entry), names.get(entry.resource_id) or _sent_name(entry) or str(entry.resource_id))


def _what(entry: LogEntry) -> str:
    """What was asked for, told by what it amounted to: "Suspend user" says more than "Change user"."""
    if entry.operation in ("patch", "replace"):
        types = {event.type for event in entry.events}
        joined, left = (sum(_count(event, name) for event in entry.events) for name in _MEMBERS)
        if EventType.DEACTIVATED in types:
            return "Suspend user"
        if EventType.ACTIVATED in types:
            return "Reactivate user"
        if joined and not left:
            return f"Add {frame.count(joined, 'member')}"
        if left and not joined:
            return f"Remove {frame.count(left, 'member')}"
    return f"{_DONE.get(entry.operation, entry.operation.capitalize())} {entry.resource_type.lower()}"


def _count(event: Happened, name: str) -> int:
    return (event.data or {}).get(f"{name}Count", 0)


def _sent_name(entry: LogEntry) -> str | None:
    """What the request itself calls its subject, which may never have come to be."""
    body = entry.request.body if entry.request else None
    name = (body.get("userName") or body.get("displayName")) if isinstance(body, dict) else None
    return name if isinstance(name, str) else None


async def _lines(service: Service, principal: Principal, entries: Sequence[LogEntry]) -> list[Line]:
    names = await _names(service, principal, entries)
    return [_line(entry, names) for entry in entries]


async def _names(service: Service, principal: Principal, entries: Sequence[LogEntry]) -> dict[UUID, str]:
    ids = [entry.resource_id for entry in entries]
    if len(entries) == 1:
        ids += chain.from_iterable(_mentioned(event) for event in entries[0].events)
    async with service.transaction() as db:
        return await store.find_names(db, principal.organization.id, ids)


def _mentioned(event: Happened) -> list[UUID]:
    """Ids of members and roles that came or went, and of the groups that roles came from."""
    data = event.data or {}
    sources = [source for name in _ROLES for source in data.get(name) or ()]
    found = [
        *chain.from_iterable(data.get(name) or () for name in _MEMBERS),
        *chain.from_iterable((source.get("roleId"), source.get("groupId")) for source in sources),
    ]
    return [id for id in map(_id, found) if id]


@dataclass(frozen=True, slots=True)
class Effect:
    """An event for people: its name, attributes that differ, members and roles that came and went, and all the rest."""

    event: Happened
    title: str
    differences: list[Difference]
    moves: list[tuple[str, list[str]]]
    more: dict[str, Any]


def _effect(event: Happened, names: Mapping[UUID, str]) -> Effect:
    data = dict(event.data or {})
    data.pop("userId", None)  # whom the entry is about
    before, after = data.pop("before", None), data.pop("after", None)
    if event.type in _ACTIVE:  # which says it all
        before, after = {"active": not _ACTIVE[event.type]}, {"active": _ACTIVE[event.type]}
    members = [(name.capitalize(), [_called(id, names) for id in data.pop(name, ())]) for name in _MEMBERS]
    roles = [(name.capitalize(), [_source(each, names) for each in data.pop(name, ())]) for name in _ROLES]
    moves = [(title, whom) for title, whom in (*members, *roles) if whom]
    return Effect(event, title_of(event), differences(before or {}, after or {}), moves, data)


def _called(id: object, names: Mapping[UUID, str]) -> str:
    found = _id(id)
    return names.get(found, str(id)) if found else str(id)


def _source(source: Mapping[str, Any], names: Mapping[UUID, str]) -> str:
    """A role, and where it came from."""
    role = _called(source.get("roleId"), names)
    return f"{role}, through the group {_called(source['groupId'], names)}" if source.get("groupId") else role


_ACTIVE: dict[str, bool] = {EventType.ACTIVATED: True, EventType.DEACTIVATED: False}
_TITLES: dict[str, str] = {
    EventType.CREATED: "{} created",
    EventType.REPLACED: "{} replaced",
    EventType.PATCHED: "{} changed",
    EventType.DELETED: "{} deleted",
    EventType.ACTIVATED: "{} activated",
    EventType.DEACTIVATED: "{} suspended",
    EventType.ROLES_CHANGED: "Roles changed",
    EventType.LAST_ADMIN_KEPT: "The last admin was kept",
    EventType.LINKED: "{} linked",
    EventType.UNLINKED: "{} unlinked",
    EventType.LINK_REQUESTED: "An admin is asked to link an account",
    EventType.CONNECTION_CLOSED: "Connection closed",
    EventType.MAPPINGS_APPLIED: "Mappings applied",
    EventType.GUARD_TRIPPED: "The guard raised the alarm",
    EventType.DEACTIVATION_HELD: "Suspension held until an admin decides",
    EventType.DEACTIVATION_SKIPPED: "Suspension left out: the connection is append only",
}


def title_of(event: Happened) -> str:
    """What happened, of the event's type: "Account suspended"."""
    return _TITLES.get(event.type, event.type).format(event.subject_type)


def _newest(lines: Sequence[Line]) -> str:
    return str(lines[0].entry.change_id) if lines else str(UUID(int=0))


def _id(text: object) -> UUID | None:
    try:
        return UUID(str(text)) if text else None
    except ValueError:
        return None


def _time(values: Mapping[str, str], name: str, errors: dict[str, str]) -> datetime | None:
    if not values[name]:
        return None
    try:
        at = datetime.fromisoformat(values[name])
    except ValueError:
        errors[name] = "Write it like 2026-12-31 23:59."
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)
