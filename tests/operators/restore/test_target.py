"""Every table is restored from the log or comes from a backup, and the page about backups names the latter."""

import re
from pathlib import Path

from operators.restore.target import FROM_A_BACKUP, FROM_THE_LOG
from storage.models import Table

DEPLOYMENT = Path(__file__).parents[3] / "docs" / "deployment.md"


def test_each_table_is_made_from_the_log_or_comes_from_a_backup() -> None:
    assert sorted([*FROM_THE_LOG, *FROM_A_BACKUP]) == sorted(Table.metadata.tables)


def test_the_page_about_backups_dumps_every_table_that_comes_from_one() -> None:
    (command,) = re.findall(r"pg_dump --data-only .*?\n\n", DEPLOYMENT.read_text(), re.DOTALL)

    assert sorted(re.findall(r"-t (\w+)", command)) == sorted(FROM_A_BACKUP)
