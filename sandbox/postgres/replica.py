"""A streaming replica of a server of ours: a copy that follows the primary's log and answers reads."""

import os
import shutil
from pathlib import Path

from typing_extensions import override

from sandbox.postgres.server import PASSWORD, UNPRIVILEGED, USER, Postgres, as_user, program
from sandbox.spawning import run


class Replica(Postgres):
    """A replica of a running primary; it keeps its data, and goes on following, when it is started again."""

    def __init__(self, folder: Path, primary: Postgres) -> None:
        super().__init__(folder)
        self._primary = primary

    @override
    async def prepare(self) -> None:
        """Copy the primary when the data folder is new."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._cluster.exists():
            return
        fresh = self.folder / "new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        if os.geteuid() == 0:
            shutil.chown(fresh, UNPRIVILEGED)
        primary = f"host=127.0.0.1 port={self._primary.port} user={USER} password={PASSWORD}"
        copy = [str(program("pg_basebackup")), f"--dbname={primary}", f"--pgdata={fresh}"]
        options = ["--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast"]
        await run(as_user([*copy, *options]), {"PGPASSFILE": "/dev/null"}, self._log)
        fresh.rename(self._cluster)
