"""The stay of a booking as it was before any change of it, from the ledger, for events from that time."""

from typing import Final

#: A join to `booking`: the columns of `first_stay` are null for a booking whose stay was never changed.
FIRST_STAY: Final = """
left join lateral jsonb_to_record(booking.earlier_stays -> 0 -> 'stay')
    as first_stay (check_in date, check_out date, rooms_count int, amount_minor bigint, night_amounts_minor bigint[],
                   sale jsonb)
    on booking.earlier_stays is not null
"""
