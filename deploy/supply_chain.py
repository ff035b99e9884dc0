"""What our images are made of: `make sbom`, `make audit`.

sbom        dist/sbom/SERVICE.cdx.json (CycloneDX), from the service's lock file
licences    exit code 1 when a package of a lock file has a licence that is not in PERMISSIVE
audit       exit code 1 when the package index knows a vulnerability of a pinned version
"""

import importlib.metadata
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from locks import LOCKS, applicable_lines, locked

SERVICES = ("scim-gateway", "provisioner", "admin-api")
HOUSE = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
PERMISSIVE = (
    "MIT",
    "BSD",
    "Apache",
    "PSF",
    "Python Software Foundation",
    "ISC",
    "Unlicense",
    "0BSD",
    "MPL-2.0",
    "Mozilla",
)


def main() -> None:
    commands = {"sbom": sbom, "licences": licences, "audit": audit}
    if len(sys.argv) != 2 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    commands[sys.argv[1]]()


def sbom() -> None:
    folder = HOUSE / "dist" / "sbom"
    folder.mkdir(parents=True, exist_ok=True)
    for service in SERVICES:
        file = folder / f"{service}.cdx.json"
        write_sbom(service, file)
        print(f"{file.relative_to(HOUSE)}: {len(json.loads(file.read_text())['components'])} packages")


def write_sbom(service: str, file: Path) -> None:
    """The packages of the image with their hashes; reproducible: the same lock file gives the same document."""
    project = HOUSE / "services" / service / "pyproject.toml"
    options = (
        "--output-reproducible",
        "--output-format",
        "JSON",
        "--pyproject",
        str(project),
        "--mc-type",
        "application",
    )
    with tempfile.TemporaryDirectory() as folder:
        lock = Path(folder) / f"{service}.txt"
        lock.write_text(applicable_lines(service))
        run("cyclonedx-py", "requirements", str(lock), *options, "--output-file", str(file))


def licences() -> None:
    """Read from the packages as they are installed here, at the versions of the lock files."""
    bad, seen = [], set()
    for service in SERVICES:
        for name in locked(service):
            licence = licence_of(name)
            seen.add(name)
            if not any(word.lower() in licence.lower() for word in PERMISSIVE):
                bad.append(f"{service}: {name}: {licence or 'says nothing'}")
    if bad:
        sys.exit("licences that are not known to be permissive:\n" + "\n".join(sorted(bad)))
    print(f"licences: {len(seen)} packages, all permissive")


def licence_of(name: str) -> str:
    """What a package says about its licence."""
    data = importlib.metadata.metadata(name)
    classifiers = [each for each in data.get_all("Classifier") or [] if each.startswith("License")]
    return data.get("License-Expression") or " ".join(classifiers) or (data.get("License") or "").partition("\n")[0]


def audit() -> None:
    """Ask the index that pip uses; where it serves no advisories this says so, loudly, and fails nothing."""
    found, unknown, audited = [], [], 0
    for service in SERVICES:
        command = ["pip-audit", "--requirement", str(LOCKS / f"{service}.txt"), "--disable-pip", "--require-hashes"]
        output = run(*command, "--progress-spinner", "off", "--format", "json", codes=(0, 1))
        for package in json.loads(output)["dependencies"]:
            if "skip_reason" in package:
                unknown.append(package["skip_reason"])
                continue
            audited += 1
            pin = f"{service}: {package['name']} {package['version']}"
            found += [f"{pin}: {each['id']}, fixed in {each['fix_versions']}" for each in package["vulns"]]
    for reason in sorted(set(unknown)):
        print(f"NOT AUDITED: {reason}")
    if found:
        sys.exit("known vulnerabilities:\n" + "\n".join(sorted(set(found))))
    print(f"audit: {audited} pins asked for, none has a known vulnerability; {len(unknown)} could not be asked for")


def run(program: str, *arguments: str, codes: tuple[int, ...] = (0,)) -> str:
    done = subprocess.run([str(BIN / program), *arguments], capture_output=True, text=True)
    if done.returncode not in codes:
        sys.exit(f"{program}: exit code {done.returncode}\n{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main()
