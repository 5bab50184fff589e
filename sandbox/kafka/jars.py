"""Fetches Apache Kafka's jars with Maven, once, into the sandbox's cache."""

import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from sandbox import folders

HERE = Path(__file__).parent
POM = HERE / "pom.xml"
CACHE = folders.CACHE / "kafka"
OLDEST_JAVA = 17


def version() -> str:
    """The version of Apache Kafka that pom.xml names."""
    found = re.search(r"<kafka\.version>(.+?)</kafka\.version>", POM.read_text())
    if found is None:
        raise RuntimeError(f"{POM} names no kafka.version")
    return found[1]


def folder() -> Path:
    """The folder of the jars of this version, which may not exist yet."""
    return CACHE / version()


def class_archive() -> Path:
    """The file in which Java keeps the broker's loaded classes, if it was made."""
    return folder() / "classes.jsa"


def fetched() -> bool:
    """Whether the jars that pom.xml asks for are all there."""
    marker = folder() / "complete"
    return marker.exists() and marker.read_text() == _pom_hash()


def available() -> str | None:
    """Why Kafka cannot run on this machine, in one sentence; None when it can."""
    java = java_version()
    if java is None:
        return "Java is not installed (apt-get install openjdk-17-jre-headless)."
    if java < OLDEST_JAVA:
        return f"Java {java} is too old: Kafka needs {OLDEST_JAVA} or newer."
    if not fetched() and shutil.which("mvn") is None:
        return "Kafka's jars are not here yet and Maven is not installed (apt-get install maven)."
    return None


def java_version() -> int | None:
    """The major version of the `java` on the path; None without one."""
    java = shutil.which("java")
    if java is None:
        return None
    printed = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "(?:1\.)?(\d+)', printed)
    return int(found[1]) if found else None


def fetch() -> Path:
    """Copy the jars into the cache unless they are there; their folder.

    They appear there all at once: an interrupted fetch leaves nothing that looks complete.
    """
    if fetched():
        return folder()
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE, prefix="fetching-") as name:
        fresh = Path(name) / "kafka"
        _copy_dependencies(fresh / "jars")
        (fresh / "complete").write_text(_pom_hash())
        if not fetched():  # Another process may have been faster.
            shutil.rmtree(folder(), ignore_errors=True)
            fresh.rename(folder())
    return folder()


def _copy_dependencies(jars: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise RuntimeError("Maven is not installed (apt-get install maven).")
    arguments = ["-q", "-B", "-Dstyle.color=never", "-f", str(POM), "dependency:copy-dependencies"]
    subprocess.run([maven, *arguments, f"-DoutputDirectory={jars}"], check=True, stdout=sys.stderr)


def _pom_hash() -> str:
    return hashlib.sha256(POM.read_bytes()).hexdigest()
