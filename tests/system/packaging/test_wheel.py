"""The wheel has every file of the packages and no other; the demo runs from it in an empty environment, from `/`."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

from sandbox import folders, kafka
from sandbox.kafka import jars

pytestmark = pytest.mark.system

ROOT: Final = Path(__file__).parents[3]
PROJECT: Final = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES: Final = sorted(each.rstrip("*") for each in PROJECT["tool"]["setuptools"]["packages"]["find"]["include"])


def tracked(*paths: str) -> list[str]:
    """Return the files of the repository below these paths, tracked or about to be."""
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *paths]
    listed = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [path for path in listed.splitlines() if (ROOT / path).is_file()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel in a copy of the repository, where an earlier build has left nothing."""
    copy, built = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("wheel")
    for path in tracked():
        (copy / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / path, copy / path)
    # The backend that requirements.lock pins is in this environment: nothing is fetched.
    words = [
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--no-build-isolation",
        "--wheel-dir",
        str(built),
        str(copy),
    ]
    subprocess.run([sys.executable, "-m", "pip", *words], check=True)
    [made] = built.iterdir()
    return made


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel in an empty virtual environment; return its folder of programs.

    The libraries that it depends on are those of this environment, found by a link (a .pth file): they were installed
    from the lock, and fetching them again would need the network. The .pth files of that environment are
    not read, so the checkout, which may be installed there, is not found.
    """
    venv = tmp_path_factory.mktemp("installed")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    python = venv / "bin" / "python"
    install = ["install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", "--python", str(python), *install], check=True)
    asked = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    packages = Path(subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip())
    (packages / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return venv / "bin"


def variables(home: Path) -> Mapping[str, str]:
    """Return the environment of a user with nothing but a home; Kafka's jars are in the user's cache already."""
    cache = home / "cache" / "innkeeper"
    cache.mkdir(parents=True)
    (cache / "kafka").symlink_to(folders.CACHE / "kafka")
    return {
        "HOME": str(home),
        "PATH": os.environ["PATH"],
        "XDG_CACHE_HOME": str(home / "cache"),
        "XDG_STATE_HOME": str(home / "state"),
        "NO_COLOR": "1",
    }


def test_the_wheel_has_every_file_of_the_rooms_and_no_other(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}

    assert packed == set(tracked(*PACKAGES))
    assert {name.split("/")[0] for name in packed} == {each for each in PACKAGES if (ROOT / each).is_dir()}
    assert {"tests", "benchmarks", "docs", "examples"} & {name.split("/")[0] for name in packed} == set()


def test_every_room_of_the_repository_is_in_the_wheel() -> None:
    packages = {path.split("/")[0] for path in tracked() if path.endswith("/__init__.py")}

    assert packages - {"benchmarks", "docs", "tests"} <= set(PACKAGES)


def test_the_command_comes_from_the_wheel_wherever_it_is_typed(environment: Path, tmp_path: Path) -> None:
    asked = [
        str(environment / "python"),
        "-c",
        "import operators, topics.asyncapi as a; print(operators.__file__, a.__file__)",
    ]
    found = subprocess.run(asked, cwd="/", env=variables(tmp_path), check=True, capture_output=True, text=True).stdout

    assert [Path(each).is_relative_to(environment.parent) for each in found.split()] == [True, True]
    shown = subprocess.run(
        [environment / "innkeeper", "topics", "asyncapi"],
        cwd="/",
        env=variables(tmp_path / "another"),
        check=True,
        capture_output=True,
        text=True,
    )
    assert json.loads(shown.stdout)["asyncapi"] == "3.0.0"


@pytest.mark.skipif(not jars.fetched(), reason=f"Kafka's jars are not in {folders.CACHE}: make setup fetches them")
@pytest.mark.skipif(kafka.available() is not None, reason=str(kafka.available()))
def test_the_demo_runs_from_the_wheel_in_the_root_folder(environment: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [environment / "innkeeper", "sandbox", "demo", "--exit"],
        cwd="/",
        env=variables(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "booking.confirmed.v1" in done.stdout
    assert {path.name for path in (tmp_path / "state" / "innkeeper").iterdir()} == {"demo"}
