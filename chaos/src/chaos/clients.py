"""Identity providers that write and read, and write down what they asked and what they were told.

Each resource of the history is used for LIMIT operations, then a fresh one takes its place, so that a history stays
small enough to be searched. A request that is not answered, or with a 5xx, is of unknown end unless the answer says
that nothing was accepted; it is not repeated.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from chaos.history import End, History, Op
from chaos.models import Members, Model, Names, Register
from chaos.stack import SCIM_PATH, Stack, Tenant
from e2e.scim import CORE_GROUP, CORE_USER, Scim, patch

CLIENTS = 16
LIMIT = 200  # operations on one resource; a dozen more may be under way
THINK = 0.12  # seconds at most between two operations of a client
PATIENCE = (2.0, 15.0)  # seconds until a client gives up: below and above the gateway's deadline
LAST_PATIENCE = 60.0  # seconds for a read after the last fault
TRY_AGAIN = 0.3  # seconds
NAMES = ("ada", "bob", "cid")
MEMBERS = 4
NOTHING_DONE = ("not accepted", "nothing was changed")  # what the detail of a 503 or 429 says, if so


@dataclass(slots=True, eq=False)
class Resource:
    """One resource of the history: a user's register, some names, or a group with the users to put into it."""

    key: str
    kind: str
    model: Model
    scim_id: str = ""
    others: list[str] = field(default_factory=list)
    operations: int = 0


class Load:
    """The clients of all tenants; `seed` makes their choices."""

    def __init__(self, stack: Stack, seed: int) -> None:
        self.history = History()
        self.models: dict[str, Model] = {}
        self.acknowledged = 0
        """Writes that were answered 2xx."""
        self.surprises: list[str] = []
        """Answers that no state of the resource explains."""
        self._stack = stack
        self._seed = seed
        self._serial = 0
        self._ending = asyncio.Event()
        self._doors: dict[tuple[Tenant, str], Scim] = {}
        self._places: dict[Tenant, list[Resource]] = {}
        self._retired: list[tuple[Tenant, Resource]] = []
        self._users: dict[str, list[tuple[str, str]]] = {}
        """Users that compete for names, by resource: label and id."""

    # --- life

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Clients at work within the block; afterwards everything was looked at once more, through each gateway."""
        async with AsyncExitStack() as doors:
            for tenant in self._stack.tenants:
                for gateway, url in self._stack.urls.items():
                    http = httpx.AsyncClient(base_url=url + SCIM_PATH, trust_env=False)
                    self._doors[tenant, gateway] = Scim(await doors.enter_async_context(http), tenant.token)
                self._places[tenant] = list(
                    await asyncio.gather(
                        *(self._fresh(tenant, kind) for kind in ("title", "active", "names", "members"))
                    )
                )
            async with asyncio.TaskGroup() as clients:
                for number in range(CLIENTS):
                    clients.create_task(self._client(number))
                yield
                self._ending.set()
            await self._look_at_everything()

    async def _client(self, number: int) -> None:
        dice = random.Random(self._seed * 1000 + number)
        tenant = self._stack.tenants[number % len(self._stack.tenants)]
        name = f"client-{number}"
        while not self._ending.is_set():
            await asyncio.sleep(dice.uniform(0, THINK))
            places = self._places[tenant]
            place = dice.randrange(len(places))
            resource = places[place]
            resource.operations += 1
            if resource.operations == LIMIT:
                self._retired.append((tenant, resource))
                places[place] = await self._fresh(tenant, resource.kind)
            await Turn(self, tenant, resource, name, dice).take()

    async def _look_at_everything(self) -> None:
        dice = random.Random(self._seed)
        everything = [*self._retired, *((tenant, each) for tenant, places in self._places.items() for each in places)]
        for tenant, resource in everything:
            for gateway in self._stack.urls:
                await Turn(self, tenant, resource, f"last look through {gateway}", dice, gateway).look()

    # --- resources

    async def _fresh(self, tenant: Tenant, kind: str) -> Resource:
        """A new resource of this kind, which exists when this returns."""
        self._serial += 1
        mark = f"{self._seed}-{self._serial}"
        if kind == "names":
            resource = Resource(f"names {mark}", kind, Names(), others=[f"{name}-{mark}" for name in NAMES])
            self._users[resource.key] = []
        elif kind == "members":
            users = [await self._exists(tenant, "/Users", user(f"member-{mark}-{each}")) for each in range(MEMBERS)]
            group = {"schemas": [CORE_GROUP], "displayName": f"group {mark}"}
            group_id = await self._exists(tenant, "/Groups", group, "displayName")
            resource = Resource(f"members of group {mark}", kind, Members(), group_id, users)
        else:
            user_id = await self._exists(tenant, "/Users", user(f"{kind}-{mark}", title="first"))
            model = Register("first" if kind == "title" else True)
            resource = Resource(f"{kind} of user {mark}", kind, model, user_id)
        self.models[resource.key] = resource.model
        return resource

    async def _exists(self, tenant: Tenant, path: str, body: dict[str, Any], name: str = "userName") -> str:
        """Create it, again and again until it is there; its id."""
        dice = random.Random(self._serial)
        while not self._ending.is_set():
            door = self._doors[tenant, dice.choice(list(self._stack.urls))]
            try:
                response = await door.request("POST", path, body, timeout=dice.uniform(*PATIENCE))
                if response.status_code == 201:
                    return response.json()["id"]
                if response.status_code == 409:
                    found = await door.request("GET", path, params={"filter": f'{name} eq "{body[name]}"'}, timeout=5)
                    if found.status_code == 200 and found.json()["Resources"]:
                        return found.json()["Resources"][0]["id"]
            except httpx.HTTPError:
                pass
            await asyncio.sleep(TRY_AGAIN)
        return ""

    def users_of(self, resource: Resource) -> list[tuple[str, str]]:
        return self._users[resource.key]

    def new_value(self, client: str) -> str:
        self._serial += 1
        return f"{client}/{self._serial}"

    def door(self, tenant: Tenant, gateway: str) -> Scim:
        return self._doors[tenant, gateway]


class Turn:
    """One operation of one client on one resource."""

    def __init__(
        self,
        load: Load,
        tenant: Tenant,
        resource: Resource,
        client: str,
        dice: random.Random,
        gateway: str | None = None,
    ) -> None:
        self._load = load
        self._resource = resource
        self._client = client
        self._dice = dice
        self._gateway = gateway or dice.choice(["gateway-1", "gateway-2"])
        self._door = load.door(tenant, self._gateway)
        self._is_last = gateway is not None

    @property
    def _is_missing(self) -> bool:
        """Whether the end was called before it was created."""
        return self._resource.kind != "names" and not self._resource.scim_id

    async def take(self) -> None:
        """A write, or a read."""
        if self._is_missing:
            return
        if self._dice.random() < 0.4:
            await self.look()
        else:
            await getattr(self, f"_{self._resource.kind}")()

    async def look(self) -> None:
        """Read the resource; all of it, at the last look."""
        if self._is_missing:
            return
        if self._resource.kind == "names":
            names = self._resource.others if self._is_last else [self._dice.choice(self._resource.others)]
            for name in names:
                await self._read("find", name, "/Users", self._holder, filter=f'userName eq "{name}"')
        elif self._resource.kind == "members":
            await self._read("read", None, f"/Groups/{self._resource.scim_id}", members_of)
        else:
            kind = self._resource.kind
            await self._read("read", None, f"/Users/{self._resource.scim_id}", lambda found: found.get(kind))

    async def _title(self) -> None:
        value = self._load.new_value(self._client)
        path = f"/Users/{self._resource.scim_id}"
        if self._dice.random() < 0.7:
            body = patch({"op": "replace", "path": "title", "value": value})
            await self._write("write", value, "PATCH", path, body, {200})
        else:
            body = user(self._resource.key.replace("title of user ", "title-"), title=value)
            await self._write("write", value, "PUT", path, body, {200})

    async def _active(self) -> None:
        value = self._dice.random() < 0.5
        body = patch({"op": "replace", "path": "active", "value": value})
        await self._write("write", value, "PATCH", f"/Users/{self._resource.scim_id}", body, {200})

    async def _members(self) -> None:
        member, kind = self._dice.choice(self._resource.others), self._dice.choice(["add", "remove"])
        if kind == "add":
            operation = {"op": "add", "path": "members", "value": [{"value": member}]}
        else:
            operation = {"op": "remove", "path": f'members[value eq "{member}"]'}
        await self._write(kind, member, "PATCH", f"/Groups/{self._resource.scim_id}", patch(operation), {200, 204})

    async def _names(self) -> None:
        users, name = self._load.users_of(self._resource), self._dice.choice(self._resource.others)
        kind = self._dice.choice(["create", "create", "rename", "delete"])
        if kind == "create" or not users:
            label = self._load.new_value(self._client)
            argument = ((label, label), name)
            response = await self._write("create", argument, "POST", "/Users", user(name, title=label), {201, 409})
            if response is not None and response.status_code == 201:
                users.append((label, response.json()["id"]))
            return
        label, user_id = self._dice.choice(users[-6:])
        if kind == "rename":
            body = patch({"op": "replace", "path": "userName", "value": name})
            argument = ((label, label), name)
            await self._write("rename", argument, "PATCH", f"/Users/{user_id}", body, {200, 404, 409})
        else:
            await self._write("delete", (label, label), "DELETE", f"/Users/{user_id}", None, {204, 404})

    def _holder(self, found: dict[str, Any]) -> Hashable:
        """Who has a name; remembered, so that others can rename and delete the user."""
        holders = [(each["title"], each["id"]) for each in found["Resources"]]
        users = self._load.users_of(self._resource)
        users.extend(holder for holder in holders if holder not in users)
        if len(holders) > 1:
            self._load.surprises.append(f"P5: two live users of one name: {self._resource.key}: {holders}")
        return (holders[0][0],) * 2 if holders else None

    # --- asking, and writing down what came of it

    async def _write(
        self, name: str, argument: Hashable, method: str, path: str, body: Any, expected: set[int]
    ) -> httpx.Response | None:
        """The answer, if it is one of the expected; anything else is a surprise, or of unknown end."""
        op = self._invoke(name, argument)
        response = await self._ask(op, self._door.request(method, path, body, timeout=self._dice.uniform(*PATIENCE)))
        if response is None:
            return None
        if response.status_code not in expected:
            self._surprise(op, response)
            return None
        op.result = response.status_code
        if name == "create" and response.status_code == 201:
            op.result = (response.json()["title"],) * 2
        self._load.acknowledged += response.is_success
        return response

    async def _read(
        self, name: str, argument: Hashable, path: str, result: Callable[[dict[str, Any]], Hashable], **params: str
    ) -> None:
        op = self._invoke(name, argument)
        patience = LAST_PATIENCE if self._is_last else self._dice.uniform(*PATIENCE)
        response = await self._ask(op, self._door.request("GET", path, params=params, timeout=patience))
        if response is None:
            return
        if response.status_code == 200:
            op.result = result(response.json())
        else:
            self._surprise(op, response)

    def _invoke(self, name: str, argument: Hashable) -> Op:
        op = self._load.history.invoke(self._resource.key, self._client, name, argument, now())
        op.note = self._gateway
        return op

    async def _ask(self, op: Op, request: Awaitable[httpx.Response]) -> httpx.Response | None:
        """The answer when it settles the operation, whose end is written down in any case."""
        try:
            response = await request
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout):
            op.end, op.returned = End.REFUSED, now()  # nobody was reached
            return None
        except httpx.HTTPError as error:
            op.note += f" {type(error).__name__}"
            return None
        op.note += f" {response.status_code}"
        if response.status_code < 500 and response.status_code != 429:
            op.end, op.returned = End.ANSWERED, now()
            return response
        if any(words in response.text for words in NOTHING_DONE):
            op.end, op.returned = End.REFUSED, now()
        elif response.status_code not in (429, 503):
            self._surprise(op, response)
        return None

    def _surprise(self, op: Op, response: httpx.Response) -> None:
        op.end = End.UNKNOWN
        self._load.surprises.append(
            f"an answer that nothing explains: {self._resource.key}: {op}: {response.text[:300]}"
        )


def user(user_name: str, **more: Any) -> dict[str, Any]:
    """A user without an email address: its account is told from others by its name alone."""
    return {"schemas": [CORE_USER], "userName": user_name, "active": True, **more}


def members_of(group: dict[str, Any]) -> frozenset[str]:
    return frozenset(member["value"] for member in group.get("members", ()))


def now() -> float:
    """Seconds, of the clock that all clients share."""
    return asyncio.get_running_loop().time()
