"""Settings of systems in which one account does what many people would."""

from typing import Final

#: No cap on an account's unpaid bookings. Each cap has tests of its own.
WITHOUT_CAPS: Final = {"MAX_UNPAID_BOOKINGS": "0", "MAX_ACCOUNT_SHARE_PERCENT": "100"}
