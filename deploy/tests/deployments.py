"""Running deployments of the system, for the tests of this folder: the commands, the black-box suite, `stack.json`."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

HOUSE = Path(__file__).parents[2]
VERSION = os.environ.get("VERSION", "dev")
SERVICES = ("scim-gateway", "provisioner", "admin-api")
IMAGES = tuple(f"directory-sync/{name}:{VERSION}" for name in (*SERVICES, "proxy"))
ORGANIZATION, ADMIN_EMAIL, PROVIDER = "Example", "admin@example.com", "okta"
SCIM_PATH = "/api/auth/scim/v2"
# Tests about the file that `make run` writes, of what it exports to a collector that the tests start, and of an
# operator at this machine, who reaches Kafka.
OF_MAKE_RUN = (
    "tests-e2e/tests/test_first_session.py::test_the_stack_file_says_how_to_reach_everything",
    "tests-e2e/tests/test_logs.py::test_p15_no_token_password_email_or_name_is_in_any_metric_or_trace",
    "tests-e2e/tests/test_observability.py",
    "tests-e2e/tests/test_operators.py::test_a_mapping_is_previewed_and_applied_at_the_command_line",
    "tests-e2e/tests/test_operators.py::test_held_deactivations_are_decided_at_the_command_line",
)


class CommandFailed(AssertionError):
    """A command ended with another exit code than 0; the text is what it printed."""


def run(*command: str, env: Mapping[str, str] | None = None, input: str | None = None, timeout: float = 600) -> str:
    """The standard output of a command; CommandFailed when it fails."""
    done = subprocess.run(
        command,
        env={**os.environ, **(env or {})},
        input=input,
        timeout=timeout,
        cwd=HOUSE,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise CommandFailed(
            f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
        )
    return done.stdout


async def run_e2e(stack_file: Path, *, ca_file: Path | None = None, arguments: Sequence[str] = ()) -> None:
    """Play the black-box suite against a stack; what kills parts brings a stack of its own and is left out."""
    env = {**os.environ, "STACK_JSON": str(stack_file)}
    if ca_file:
        # The last two are for the conformance suites of others.
        env |= dict.fromkeys(("SCIM_CA_FILE", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"), str(ca_file))
    command = [sys.executable, "-m", "pytest", "tests-e2e", "-m", "not chaos and not long", "-q", "-rfEs"]
    for test in OF_MAKE_RUN:
        command += ["--deselect", test]
    command += arguments
    process = await asyncio.create_subprocess_exec(*command, env=env, cwd=HOUSE)
    assert await process.wait() == 0, "the black-box suite failed, see above"


def write_stack(file: Path, bootstrapped: Mapping[str, Any], **more: Any) -> None:
    """`stack.json` as `make run` writes it, for what `directory-sync bootstrap --json` printed."""
    document = {
        "scimToken": bootstrapped["scimToken"],
        "adminEmail": ADMIN_EMAIL,
        "organizationId": bootstrapped["organizationId"],
        "connectionId": bootstrapped["connectionId"],
        **more,
    }
    file.touch(0o600)
    file.write_text(json.dumps(document, indent=1))


@contextmanager
def following(commands: Mapping[Path, Sequence[str]], env: Mapping[str, str]) -> Iterator[None]:
    """Write the output of commands that do not end by themselves to files while the block runs."""
    with ExitStack() as stack:
        for file, command in commands.items():
            output = stack.enter_context(file.open("wb"))
            process = subprocess.Popen(
                command, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, **env}, cwd=HOUSE
            )
            stack.callback(process.wait)
            stack.callback(process.terminate)
        yield
