#!/usr/bin/env bash
# Polars 2.1.0 beside tzdata 2026.6: an element of a zoned column, read as a Python datetime, is another instant.
#
# Polars computes wall times with zone data that is compiled into it, and gives the wall time to Python together with the
# zone's name. Python looks the name up in its own zone data: that of the tzdata package here, as in an image that has no
# files of the system (PYTHONTZPATH is empty for that reason). In tzdata 2026.6 British Columbia stays at UTC-7 in the
# winter of 2026, in this release of Polars it does not, so that check-in on 15 December moves by an hour when a column is
# read element by element. So it does in four other zones here; London, whose rules did not change, is the control.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check polars==2.1.0 tzdata==2026.6
PYTHONTZPATH="" "$folder/venv/bin/python" - <<'PYTHON'
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from zoneinfo import ZoneInfo

import polars

instant = datetime(2026, 12, 15, 23, 0, tzinfo=UTC)
print("polars", version("polars"), "and tzdata", version("tzdata"), "- the instant is", instant.isoformat())
moved = {}
for name in ("America/Vancouver", "America/Edmonton", "America/Winnipeg", "America/Havana", "Africa/Casablanca",
             "Europe/London"):
    column = polars.Series([instant]).dt.convert_time_zone(name)
    element = column[0]
    moved[name] = int((element - instant).total_seconds())
    print(f"{name}: Python has {instant.astimezone(ZoneInfo(name)).isoformat()}, Polars' text is "
          f"{column.dt.to_string('%Y-%m-%dT%H:%M:%S%:z')[0]}, its element {element.isoformat()}: "
          f"{moved[name]} s from the instant")
expected = {"America/Vancouver": -3600, "America/Edmonton": -3600, "America/Winnipeg": -3600, "America/Havana": -3600,
            "Africa/Casablanca": 3600, "Europe/London": 0}
sys.exit(0 if moved == expected else 1)
PYTHON
