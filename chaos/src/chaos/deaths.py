"""Processes that die between the publication of a create and its answer; the identity provider sends it again (P2, P3).

The provisioners are frozen, so that the change lies in the log and cannot be answered; then a gateway, the
provisioners, or all of them are killed. The create is repeated until it is answered: 201, or 409 and a user that can
be found.
"""

import asyncio
import os
import random
import signal
from dataclasses import dataclass, field

import httpx
from aiokafka import AIOKafkaConsumer, TopicPartition

from chaos.clients import PATIENCE, TRY_AGAIN, user
from chaos.stack import GATEWAYS, PROVISIONERS, SCIM_PATH, Stack, signal_family
from contracts import CHANGES
from e2e.scim import Scim
from e2e.stack import until

DEADLINE = 90.0  # seconds for a part to be back, and for a create to be answered
VICTIMS = ("gateway", "gateway", "provisioners", "all")


@dataclass(slots=True)
class Deaths:
    """What came of them: how the creates were answered, and what was wrong."""

    number: int = 0
    answers: dict[int, int] = field(default_factory=dict)
    tries: int = 0
    broken: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        answers = ", ".join(f"{count} x {status}" for status, count in sorted(self.answers.items()))
        lines = [f"{self.number} deaths between publication and answer; {self.tries} tries, answered {answers}"]
        return "\n".join([*lines, *self.broken, f"{len(self.broken)} violations" if self.broken else "no violation"])


async def run(stack: Stack, seed: int, number: int) -> Deaths:
    """So many creates, each of which is published and loses a process before it is answered."""
    dice, deaths, token = random.Random(seed), Deaths(), stack.tenants[0].token
    consumer = AIOKafkaConsumer(bootstrap_servers=stack.kafka.bootstrap, enable_auto_commit=False)
    await consumer.start()
    try:
        async with httpx.AsyncClient(trust_env=False) as http:
            for each in range(number):
                body = user(f"death-{seed}-{each}", title=f"death {each}")
                await die(stack, consumer, Scim(http, token), body, dice)
                deaths.number += 1
                await ask_until_answered(stack, Scim(http, token), body, deaths)
    finally:
        await consumer.stop()
    return deaths


async def die(stack: Stack, consumer: AIOKafkaConsumer, scim: Scim, body: dict, dice: random.Random) -> None:
    """Publish the create, and kill before anybody can answer it."""
    services = {service.name: service for service in stack.services()}
    gateway = dice.choice(GATEWAYS)
    await until(services[gateway].is_ready, gateway, DEADLINE)
    before = await end_of_log(consumer)
    for name in PROVISIONERS:
        signal_family(services[name], signal.SIGSTOP)
    request = asyncio.create_task(post(stack, scim, gateway, body))

    async def is_published() -> bool:
        return await end_of_log(consumer) > before

    try:
        await until(is_published, "the change in the log", DEADLINE)
        victims = dice.choice(VICTIMS)
        for name in {"gateway": [gateway], "provisioners": PROVISIONERS, "all": [gateway, *PROVISIONERS]}[victims]:
            os.kill(services[name].pid, signal.SIGKILL)
    finally:
        for name in PROVISIONERS:
            signal_family(services[name], signal.SIGCONT)
        # A gateway that lives answers when the provisioners are back, or that the outcome is unknown.
        await request


async def ask_until_answered(stack: Stack, scim: Scim, body: dict, deaths: Deaths) -> None:
    """Send the create again until it is answered, and look at what there is then."""
    answer: httpx.Response | None = None

    async def is_answered() -> bool:
        nonlocal answer
        deaths.tries += 1
        answer = await post(stack, scim, random.choice(GATEWAYS), body)
        if answer is None or answer.status_code in (429, 503):
            await asyncio.sleep(TRY_AGAIN)
            return False
        return True

    await until(is_answered, f"an answer to {body['userName']}", DEADLINE)
    assert answer is not None
    deaths.answers[answer.status_code] = deaths.answers.get(answer.status_code, 0) + 1
    found = await find(stack, scim, body["userName"])
    described = f"{body['userName']}, answered {answer.status_code}, is there {len(found)} times: {found}"
    if len(found) != 1 or found[0]["title"] != body["title"] or answer.status_code not in (201, 409):
        deaths.broken.append(f"P2: {described}")
    elif answer.status_code == 201 and answer.json()["id"] != found[0]["id"]:
        deaths.broken.append(f"P2: {described}; the answer said {answer.json()['id']}")


async def post(stack: Stack, scim: Scim, gateway: str, body: dict) -> httpx.Response | None:
    """The answer of this gateway, if it gives one in time."""
    try:
        return await scim.request("POST", f"{stack.urls[gateway]}{SCIM_PATH}/Users", body, timeout=PATIENCE[1])
    except httpx.HTTPError:
        return None


async def find(stack: Stack, scim: Scim, user_name: str) -> list[dict]:
    """The users of this name, as the first gateway that answers sees them."""
    found: list[dict] = []

    async def is_found() -> bool:
        for gateway in GATEWAYS:
            try:
                response = await scim.request(
                    "GET", f"{stack.urls[gateway]}{SCIM_PATH}/Users", params={"filter": f'userName eq "{user_name}"'}
                )
            except httpx.HTTPError:
                continue
            if response.status_code == 200:
                found.extend(response.json()["Resources"])
                return True
        return False

    await until(is_found, f"a look at {user_name}", DEADLINE)
    return found


async def end_of_log(consumer: AIOKafkaConsumer) -> int:
    """How many records there are in all."""
    partitions = [TopicPartition(CHANGES.name, number) for number in range(CHANGES.partitions)]
    return sum((await consumer.end_offsets(partitions)).values())
