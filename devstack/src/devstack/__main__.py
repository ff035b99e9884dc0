"""python -m devstack COMMAND: the commands behind the Makefile."""

import sys

from devstack import jars


def main(arguments: list[str]) -> int:
    command, *rest = arguments or ["run"]
    if command == "jars":
        return jars.main(rest)
    print(f"unknown command {command}")
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
