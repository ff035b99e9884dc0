"""python -m simulators --url URL --idp okta: one identity provider pushes a made-up company to any SCIM server.

The token is read from SCIM_TOKEN, or given with --token. Exit status: 0 when the directory is as the provider believes,
1 when anything differs, 2 when the server cannot be used.
"""

import argparse
import asyncio
import os
import sys

from rich.console import Console

from simulators.check import count
from simulators.company import DOMAIN, make_company
from simulators.play import PROVIDERS, play
from simulators.report import Board, summarize
from simulators.wire import PushFailed, Wire, open_wire


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="simulators", description="Push a made-up company to a SCIM server.")
    parser.add_argument("--url", required=True, help="base URL of the SCIM server")
    parser.add_argument("--token", default=os.environ.get("SCIM_TOKEN", ""), help="bearer token (default: SCIM_TOKEN)")
    parser.add_argument("--idp", choices=PROVIDERS, default="okta")
    parser.add_argument("--users", type=int, default=500, help="people of the company")
    parser.add_argument("--pace", type=float, default=0, help="events a second after the first sync; 0: all at once")
    parser.add_argument("--seed", type=int, default=1, help="another number is another company")
    parser.add_argument("--domain", default=DOMAIN, help="of the people's addresses; unique in an organization")
    parser.add_argument("--concurrency", type=int, default=8, help="requests at a time")
    options = parser.parse_args(arguments)
    console = Console(highlight=False)
    try:
        return asyncio.run(run(options, console))
    except PushFailed as failure:
        console.print(f"no use of {options.url}: {failure}", markup=False)
        return 2
    except KeyboardInterrupt:
        return 130


async def run(options: argparse.Namespace, console: Console) -> int:
    async with open_wire(options.url, options.token) as wire:
        reader = Wire(wire.http, wire.token)
        if present := await count(reader, "/Users") + await count(reader, "/Groups"):
            console.print(f"the connection has {present} users and groups already: take a new one")
            return 2
        idp = PROVIDERS[options.idp](wire, concurrency=options.concurrency)
        company = make_company(options.users, seed=options.seed, domain=options.domain)
        with Board(console) as board:
            result = await play(idp, company, seed=options.seed, pace=options.pace, progress=board.of(idp.label))
        console.print()
        return summarize(console, [result])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
