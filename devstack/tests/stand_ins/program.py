"""Stands in for the operators' command and for the services: answers as they do and does nothing."""

import json
import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PORTS = {"scim-gateway": "GATEWAY_PORT", "provisioner": "HEALTH_PORT", "admin-api": "ADMIN_PORT"}


def command(arguments: list[str]) -> None:
    if os.environ.get("STAND_IN_FAILS") == arguments[0]:
        sys.exit("the stand-in was told to fail")
    if arguments[0] == "bootstrap":
        done = Path(os.environ["TOKEN_PEPPER_FILE"]).with_name("stand-in-bootstrapped")
        token = "another-token" if "--rotate-token" in arguments else None if done.exists() else "first-token"
        done.touch()
        print(json.dumps({"organizationId": "o1", "connectionId": "c1", "scimToken": token}))


def serve(name: str) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print(f"{name} serves", flush=True)
    ThreadingHTTPServer(("127.0.0.1", int(os.environ[PORTS[name]])), Handler).serve_forever()


if sys.argv[1] == "directory-sync":
    command(sys.argv[2:])
else:
    serve(sys.argv[1])
