"""The lines that the programs of a system write from a moment on (`sandbox.system.Plan.quiet`)."""

import re
from pathlib import Path


class ProgramLogs:
    """All lines of the logs in a folder that were written since this was made."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read_bytes = {path.name: path.stat().st_size for path in folder.glob("*.log")}

    def lines(self, programs: str, pattern: str) -> list[str]:
        """Return the lines in which a pattern is found, of each program whose name matches, such as `payments-*`."""
        return [
            line
            for path in sorted(self._folder.glob(f"{programs}.log"))
            for line in self._new(path).splitlines()
            if re.search(pattern, line)
        ]

    def _new(self, path: Path) -> str:
        with path.open("rb") as log:
            log.seek(self._read_bytes.get(path.name, 0))
            return log.read().decode(errors="replace")
