"""Live pages: server-sent events (WHATWG HTML section 9.2) whose data is HTML that htmx puts in its place.

One poller an organization asks whether anything changed, however many pages are open. A stream ends as soon as the
session does that it was opened with, without making that session last longer, and when the process is asked to stop.
"""

import asyncio
import hmac
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Request
from fastapi.responses import StreamingResponse

from admin_api.console.frame import STREAM
from admin_api.errors import Unavailable
from admin_api.principals import Principal
from admin_api.sessions import COOKIE, SESSION, is_valid
from admin_api.store import accounts, sessions
from admin_api.store import live as store
from admin_api.store.database import Transaction
from servicekit import bearer

POLL_SECONDS = 0.5
BEAT_SECONDS = 2.0  # between two looks at the session, when nothing else happens
SILENCE_SECONDS = 15.0  # after which a page is renewed for what time alone changes; proxies do not hang up
MAX_STREAMS = 500  # of this process
MAX_STREAMS_OF_ONE = 50  # of an organization

ENDED = "event: ended\ndata: \n\n"


@dataclass(frozen=True, slots=True)
class Message:
    """HTML for the page; `id` comes back as Last-Event-ID when the browser connects again."""

    html: str
    id: str = ""

    def encode(self) -> str:
        lines = [f"id: {self.id}"] if self.id else []
        return "\n".join([*lines, *(f"data: {line}" for line in self.html.splitlines()), "", ""])


class Live:
    """The open streams of this process."""

    def __init__(self, transaction: Transaction, pepper: bytes) -> None:
        self._transaction = transaction
        self._pepper = pepper
        self._listeners: defaultdict[UUID, set[asyncio.Event]] = defaultdict(set)
        self._pollers: dict[UUID, asyncio.Task[None]] = {}
        self._is_closing = False

    def close(self) -> None:
        """End all streams; the browsers come back by themselves, to another process."""
        self._is_closing = True
        for listeners in self._listeners.values():
            for changed in listeners:
                changed.set()

    def stream(
        self, request: Request, principal: Principal, next_message: Callable[[], Awaitable[Message | None]]
    ) -> StreamingResponse:
        """Sends the next message at once, whenever something changed, and now and then; None: nothing to tell.

        Raises Unavailable when too many are open.
        """
        organization_id = principal.organization.id
        count = sum(map(len, self._listeners.values()))
        if self._is_closing or count >= MAX_STREAMS or len(self._listeners[organization_id]) >= MAX_STREAMS_OF_ONE:
            raise Unavailable("too many pages are open at once; this one does not update itself", retry_after=5)
        digest = bearer.digest(self._pepper, SESSION, request.cookies[COOKIE])
        headers = {"Content-Type": STREAM.decode(), "X-Accel-Buffering": "no"}
        return StreamingResponse(self._run(organization_id, digest, next_message), headers=headers)

    async def _run(
        self, organization_id: UUID, digest: bytes, next_message: Callable[[], Awaitable[Message | None]]
    ) -> AsyncIterator[str]:
        async with self._listening(organization_id) as changed:
            yield ": open\n\n"
            silent_for, is_due = 0.0, True
            while not self._is_closing:
                is_quiet = silent_for >= SILENCE_SECONDS
                is_due = is_due or is_quiet or changed.is_set()
                changed.clear()
                message = None
                with suppress(Unavailable):  # the next beat tries again
                    if not await self._is_admitted(digest):
                        yield ENDED
                        return
                    message = await next_message() if is_due else None
                    is_due = False
                if message or is_quiet:
                    yield message.encode() if message else ": here\n\n"
                silent_for = 0.0 if message or is_quiet else silent_for + BEAT_SECONDS
                with suppress(TimeoutError):
                    async with asyncio.timeout(BEAT_SECONDS):
                        await changed.wait()

    async def _is_admitted(self, digest: bytes) -> bool:
        """Whether the session still opens the page; looking does not count as using it."""
        async with self._transaction() as db:
            found = await sessions.find_session(db, digest)
            if found is None:
                return False
            session, account, organization = found
            is_same = hmac.compare_digest(session.digest, digest)
            if not is_same or not is_valid(session, account, datetime.now(UTC)) or organization.plan != "enterprise":
                return False
            return await accounts.is_active_admin(db, account.id)

    @asynccontextmanager
    async def _listening(self, organization_id: UUID) -> AsyncIterator[asyncio.Event]:
        changed = asyncio.Event()
        listeners = self._listeners[organization_id]
        listeners.add(changed)
        if len(listeners) == 1:
            self._pollers[organization_id] = asyncio.create_task(self._poll(organization_id, listeners))
        try:
            yield changed
        finally:
            listeners.discard(changed)
            if not listeners:
                del self._listeners[organization_id]
                self._pollers.pop(organization_id).cancel()

    async def _poll(self, organization_id: UUID, listeners: set[asyncio.Event]) -> None:
        """Tell the listeners whenever the organization's state is another one."""
        state = None
        while True:
            try:
                async with self._transaction() as db:
                    found = await store.find_state(db, organization_id)
            except Unavailable:
                found = state
            if found != state:
                state = found
                for changed in listeners:
                    changed.set()
            await asyncio.sleep(POLL_SECONDS)


async def live_of(request: Request) -> Live:
    return request.app.state.live


LiveOf = Annotated[Live, Depends(live_of)]
