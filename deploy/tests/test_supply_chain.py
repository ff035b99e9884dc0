"""Threat T62: what is installed is what was locked, and the SBOM tells it."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import supply_chain
from deployments import HOUSE, SERVICES
from locks import LOCKS, locked, requirements


@pytest.mark.parametrize("service", SERVICES)
def test_t62_the_sbom_equals_the_lock_file(service: str, tmp_path: Path) -> None:
    supply_chain.write_sbom(service, tmp_path / "sbom.json")

    sbom = json.loads((tmp_path / "sbom.json").read_text())
    assert sbom["bomFormat"] == "CycloneDX"
    assert {each["name"].lower().replace("_", "-"): each["version"] for each in sbom["components"]} == locked(service)
    assert all(each["purl"].startswith("pkg:pypi/") for each in sbom["components"])
    hashes = [reference.get("hashes") for each in sbom["components"] for reference in each["externalReferences"]]
    assert all(any(hashed for hashed in hashes) for each in sbom["components"])


@pytest.mark.parametrize("lock", sorted(LOCKS.glob("*.txt")), ids=lambda lock: lock.stem)
def test_t62_every_package_of_every_lock_file_is_pinned_with_hashes(lock: Path) -> None:
    text = lock.read_text()
    assert all(str(each.specifier).startswith("==") for each in requirements(lock))
    assert text.count("\n    --hash=sha256:") >= len(requirements(lock))
    assert "://" not in text


def test_t62_a_tampered_wheel_is_not_installed(tmp_path: Path) -> None:
    lines = supply_chain.applicable_lines("provisioner").split("\n")
    name = next(line for line in lines if line.startswith("idna=="))
    version = name.split("==")[1].split()[0]
    wheel = tmp_path / f"idna-{version}-py3-none-any.whl"
    about = f"idna-{version}.dist-info"
    files = {
        "idna/__init__.py": "raise SystemExit('tampered')\n",
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: idna\nVersion: {version}\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{about}/RECORD": "",
    }
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    at = lines.index(name)
    end = next(i for i in range(at + 1, len(lines)) if not lines[i].startswith("    "))
    (tmp_path / "lock.txt").write_text("\n".join(lines[at:end]) + "\n")

    command = [sys.executable, "-m", "pip", "install", "--require-hashes", "--no-index", "--find-links", str(tmp_path)]
    command += ["--target", str(tmp_path / "target"), "-r", str(tmp_path / "lock.txt")]
    done = subprocess.run(command, capture_output=True, text=True)

    assert done.returncode != 0
    assert "DO NOT MATCH THE HASHES" in done.stderr
    assert not (tmp_path / "target").exists()


def test_t62_the_dockerfile_installs_with_hashes_only() -> None:
    lines = (HOUSE / "deploy" / "docker" / "Dockerfile").read_text().splitlines()
    installs = [line for line in lines if "pip" in line and " install -q" in line]

    assert len(installs) == 3
    assert all("--require-hashes" in line or "--no-index" in line for line in installs)


def test_licences_are_permissive(capsys: pytest.CaptureFixture[str]) -> None:
    supply_chain.licences()

    assert "all permissive" in capsys.readouterr().out
