"""The part of the auditor that judges documents: their numbers, and their amounts beside the money that is kept."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final

from tests.faults.row import Promise

_SIGNS: Final = {"invoice": 1, "credit_note": -1}


class DocumentsAuditor:
    """Follows documents by the events; `problem` takes a broken promise."""

    def __init__(self, problem: Callable[[Promise, str], None]) -> None:
        self._problem = problem
        #: The last number of each hotel and kind.
        self._numbers: Counter[tuple[int, str]] = Counter()
        #: The invoices of each booking less its credit notes, in minor units.
        self._net_minor: Counter[str] = Counter()

    def read(self, event: Mapping[str, Any]) -> None:
        """Take an event about a document that was issued."""
        series = event["hotel_id"], event["kind"]
        self._numbers[series] += 1
        if event["number"] != self._numbers[series]:
            self._problem(
                Promise.COUNTS_ADD_UP, f"hotel {series[0]} has {series[1]} {event['number']} at {self._numbers[series]}"
            )
        self._net_minor[event["booking_id"]] += _SIGNS[event["kind"]] * event["amount_minor"]

    def check(self, due_minor: Mapping[str, int]) -> None:
        """Compare the documents of each booking with the amount that they are to be of."""
        for booking_id, amount_minor in due_minor.items():
            if self._net_minor[booking_id] != amount_minor:
                self._problem(
                    Promise.MONEY_IS_EXPLAINED,
                    f"documents of booking {booking_id} are of {self._net_minor[booking_id]}, not of {amount_minor}",
                )
