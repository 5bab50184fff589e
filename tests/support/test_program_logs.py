"""Lines of before do not count, nor do those of other programs."""

from pathlib import Path

from tests.support.program_logs import ProgramLogs


def test_only_new_lines_of_the_named_programs_are_found(tmp_path: Path) -> None:
    payments, expiry = tmp_path / "payments-1.log", tmp_path / "expiry-1.log"
    payments.write_text("Stripe is away\n")
    logs = ProgramLogs(tmp_path)
    assert not logs.lines("payments-1", "Stripe")

    with payments.open("a") as log:
        log.write("Stripe is away again\nall is well\n")
    expiry.write_text("Stripe is none of my business\n")
    (tmp_path / "payments-2.log").write_text("Stripe is away\n")

    assert logs.lines("payments-1", "Stripe") == ["Stripe is away again"]
    assert len(logs.lines("payments-*", "Stripe")) == 2
