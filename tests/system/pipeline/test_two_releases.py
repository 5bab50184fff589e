"""Workers of an older and of this release side by side over one log, replaced one by one while commands keep coming."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from sandbox import kafka
from tests.system.pipeline.rollout import ROLLOUT, NoSuchRelease, release_before, roll_out


@pytest.fixture(params=["a setting of this code", pytest.param("the code of before", marks=pytest.mark.long)])
def older(request: pytest.FixtureRequest, tmp_path: Path) -> Mapping[str, str]:
    """The variables that make a program of ours one of the older release."""
    if request.param == "a setting of this code":
        return ROLLOUT
    try:
        return release_before(tmp_path / "before")
    except NoSuchRelease as error:
        pytest.skip(str(error))


@pytest.mark.system
@pytest.mark.timeout(900)
@pytest.mark.skipif(kafka.available() is not None, reason=kafka.available() or "")
async def test_a_release_is_rolled_out_under_load_and_then_writes_what_the_older_could_not_read(
    tmp_path: Path, older: Mapping[str, str]
) -> None:
    seen = await roll_out(tmp_path / "system", older)

    assert set(seen.partitions) == {"reservations-1", "reservations-2"}
    assert seen.side_by_side > 0
