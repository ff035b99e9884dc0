"""python -m devstack COMMAND: the commands behind the Makefile.

run      start the stack and stay in the foreground
clean    delete what `run` keeps in RUN_DIR
jars     download Kafka (`jars lock` renews the list of its jars)
"""

import asyncio
import logging
import os
import sys

from devstack import jars, stack
from devstack.errors import StartError
from devstack.run_folder import RunFolder
from devstack.settings import read_settings


def main(arguments: list[str]) -> int:
    # What a client says about servers that are still starting is of no use to anybody here.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    command, *rest = arguments or ["help"]
    try:
        match command:
            case "run":
                asyncio.run(stack.run(read_settings(os.environ)))
            case "clean":
                RunFolder(read_settings(os.environ).run_dir).remove()
            case "jars":
                return jars.main(rest)
            case _:
                print(__doc__)
                return 2
    except KeyboardInterrupt:
        return 130
    except StartError as error:
        print(f"devstack: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"devstack: {error.filename or 'the system'}: {error.strerror or error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
