"""`innkeeper audit`: the ledger compared with the log."""

from typing import Annotated

import typer

from operators.cli.commands.options import Json, examples, group

app = group("The ledger compared with the log.")


@app.command(
    "audit",
    epilog=examples("innkeeper audit", "innkeeper audit --holds --json", "innkeeper audit --watch --every 300"),
)
def audit_command(
    *,
    as_json: Json = False,
    holds: Annotated[
        bool, typer.Option("--holds", help="Count a hold that is 10 s past its deadline as a problem, too.")
    ] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Audit again and again, a line each, until Ctrl-C.")] = False,
    every: Annotated[
        float, typer.Option("--every", metavar="SECONDS", min=0, help="How long --watch waits after each audit.")
    ] = 60.0,
) -> None:
    """Recompute from the log and the tables that no room was sold twice and nothing is missing.

    Reads all of booking.events and one snapshot of the ledger; changes nothing, and may run while the system works.

    - **no oversold night** each night after every event: 0 <= booked + reserved + blocked <= total + allowance.
    - **counts match bookings** inventory counts equal the sum over bookings by status, rooms that changes hold
      included, and over blocks.
    - **holds end on time** no hold ends early, and nothing happens to a booking after its hold's deadline.
    - **codes within limits** each use of a promo code was within its limits when it was granted.
    - **documents add up** the numbers of a hotel's documents have no gap, and those of a booking add up to the money
      that is kept of it.
    - **log matches ledger** no gap in a partition's events, legal transitions only, sales and
      the costs of their ends by the terms on the log, and the log equals the ledger.
    - **guest lists are stored** each list of guests that a booking names is there; an erasure would blank it.
    - **read models match events** every row is what the events make of it, up to the cursor of its projection.

    Exit status: 0 every check holds; 1 a check fails, each problem a line; 2 the audit could not be made.
    With --watch: the worst of all audits that were made, 1 before 2; 130 for Ctrl-C when all of them held.
    """
    from operators.cli import audit

    audit.audit_command(as_json=as_json, holds=holds, watch=watch, every=every)
