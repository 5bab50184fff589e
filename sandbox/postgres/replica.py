"""A streaming replica of a server of ours: a copy that follows the primary's log and answers reads."""

from pathlib import Path

from typing_extensions import override

from sandbox.postgres.server import PASSWORD, USER, Postgres, program


class Replica(Postgres):
    """A replica of a running primary; it keeps its data, and goes on following, when it is started again."""

    def __init__(self, folder: Path, primary: Postgres) -> None:
        super().__init__(folder)
        self._primary = primary

    @override
    def filling(self, folder: Path) -> list[str]:
        """Copy the primary."""
        primary = f"host=127.0.0.1 port={self._primary.port} user={USER} password={PASSWORD}"
        copy = [str(program("pg_basebackup")), f"--dbname={primary}", f"--pgdata={folder}"]
        return [*copy, "--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast"]
