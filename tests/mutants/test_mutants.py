"""The catalogue of broken rules fits the source; the long form runs it."""

from pathlib import Path

import pytest

from tests.mutants.catalogue import MUTANTS, Mutant
from tests.mutants.runner import CHECKOUT, CannotJudge, Copy, broken, judged

#: A mutant whose tests need no server and take no time.
QUICK = next(mutant for mutant in MUTANTS if mutant.file == "topics/sequence_tracker.py")


@pytest.mark.unit
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_passage_and_the_tests_of_a_mutant_exist(mutant: Mutant) -> None:
    assert (CHECKOUT / mutant.file).read_text().count(mutant.right) == 1
    assert mutant.right != mutant.wrong
    assert mutant.tests
    assert all((CHECKOUT / test).exists() for test in mutant.tests)


@pytest.mark.unit
def test_a_mutant_is_mended_when_its_tests_are_over(tmp_path: Path) -> None:
    (tmp_path / "rules.py").write_text("a < b\n")
    mutant = Mutant(name="sells more", file="rules.py", right="a < b", wrong="a <= b", tests=("tests",))

    with broken(tmp_path, mutant):
        assert (tmp_path / "rules.py").read_text() == "a <= b\n"
    assert (tmp_path / "rules.py").read_text() == "a < b\n"


@pytest.mark.unit
def test_a_passage_that_is_there_twice_breaks_nothing(tmp_path: Path) -> None:
    (tmp_path / "rules.py").write_text("a < b\na < b\n")
    mutant = Mutant(name="sells more", file="rules.py", right="a < b", wrong="a <= b", tests=("tests",))

    with pytest.raises(CannotJudge, match=r"rules\.py has the passage 2 times"), broken(tmp_path, mutant):
        pytest.fail("it was broken")


async def test_the_test_that_notices_is_named_and_one_that_does_not_is_no_failure(tmp_path: Path) -> None:
    copy = Copy(tmp_path / "copy")
    harmless = Mutant(name="is right", file=QUICK.file, right=QUICK.right, wrong=f"{QUICK.right} ", tests=QUICK.tests)

    noticed, unnoticed = await copy.judge(QUICK), await copy.judge(harmless)

    assert noticed.noticed_by is not None
    assert noticed.noticed_by.startswith(f"{QUICK.tests[0]}::test_")
    assert unnoticed.noticed_by is None


@pytest.mark.long
async def test_every_mutant_is_noticed(tmp_path: Path) -> None:
    verdicts = [verdict async for verdict in judged(MUTANTS, tmp_path, copies=2)]

    assert len(verdicts) == len(MUTANTS)
    assert [verdict.mutant.name for verdict in verdicts if verdict.noticed_by is None] == []
