#!/usr/bin/env bash
# DuckDB 2.0.1 beside Python's zoneinfo: a wall time that occurs twice is two different instants, an hour apart.
#
# On the day when clocks go back, a deadline such as 02:30 occurs twice. Python takes the first (`fold=0` is the default),
# DuckDB's `AT TIME ZONE` the second, without a warning or a choice. So a query and a program that compute the same
# deadline from the same wall time and zone disagree. Of a wall time that is skipped in spring both take the same instant.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check duckdb==2.0.1 tzdata==2026.6 pytz==2026.6
PYTHONTZPATH="" "$folder/venv/bin/python" - <<'PYTHON'
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from zoneinfo import ZoneInfo

import duckdb

print("duckdb", version("duckdb"), "and tzdata", version("tzdata"))
connection = duckdb.connect()
differences = {}
for name, wall in (("Europe/Berlin", "2026-10-25 02:30:00"), ("America/New_York", "2026-11-01 01:30:00"),
                   ("Australia/Lord_Howe", "2026-04-05 01:45:00"), ("Europe/Berlin", "2026-03-29 02:30:00")):
    python = datetime.fromisoformat(wall).replace(tzinfo=ZoneInfo(name)).astimezone(UTC)
    [(found,)] = connection.execute(f"select timestamp '{wall}' at time zone '{name}'").fetchall()
    duck = found.astimezone(UTC)
    differences[name, wall] = int((duck - python).total_seconds())
    print(f"{wall} in {name}: Python {python:%H:%M} UTC, DuckDB {duck:%H:%M} UTC")
sys.exit(0 if list(differences.values()) == [3600, 3600, 1800, 0] else 1)
PYTHON
