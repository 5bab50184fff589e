"""The searches of the benchmark: a city and dates, and often something more."""

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from random import Random
from typing import Final
from urllib.parse import urlencode

from benchmarks.search.data import Size

PATH: Final = "/v1/hotels/search"
_SEARCHES_IN_FILE: Final = 20_000
_MAX_SEARCHED_NIGHTS: Final = 7
#: Each of these is asked for in a fifth of the searches.
_OFTEN: Final = 0.2
_MORE: Final[tuple[dict[str, str], ...]] = (
    {"stars": "4"},
    {"amenities": "wifi,pool"},
    {"max_price": "150"},
    {"rooms_count": "2"},
    {"guests": "2"},
    {"sort": "stars"},
    {"page": "2"},
)


def searches(size: Size, first: date, seed: int) -> Iterator[str]:
    """Yield paths of searches, without end."""
    chance = Random(seed)
    while True:
        nights = chance.randint(1, _MAX_SEARCHED_NIGHTS)
        check_in = first + timedelta(days=chance.randint(3, size.nights - 1 - nights))
        query = {
            "city": f"City {chance.randrange(size.cities)}",
            "check_in_date": str(check_in),
            "check_out_date": str(check_in + timedelta(days=nights)),
        }
        for more in _MORE:
            if chance.random() < _OFTEN:
                query |= more
        yield f"{PATH}?{urlencode(query)}"


def write_searches(folder: Path, size: Size, first: date) -> Path:
    """Write a file of searches, one a line, for wrk."""
    file = folder / "searches.txt"
    lines = searches(size, first, seed=1)
    file.write_text("".join(f"{next(lines)}\n" for _ in range(_SEARCHES_IN_FILE)))
    return file
