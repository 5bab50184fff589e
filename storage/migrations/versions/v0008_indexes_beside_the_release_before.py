"""The indexes of the columns and statuses of 0007, which are built while the release before reads and writes.

Each statement commits by itself. A broken run is repeated as a whole: what it left of an index is dropped first.

Revision: 0008, after 0007.
"""

import sqlalchemy as sa
from alembic import op

revision = '0008'
down_revision = '0007'
branch_labels = None
depends_on = None

_UNPAID = "status in ('RESERVED', 'GUESTS_ADDED', 'PAYMENTS_PENDING') or status = 'CONFIRMED' and terms = 'at_hotel'"
_INDEXES = (
    ('reported_stay_estimated', 'reported_stay', ['hotel_id', 'check_in'], 'night_amounts_minor is null'),
    ('booking_unpaid', 'booking', ['user_id', 'room_id'], _UNPAID),
    ('checkout_session_payment', 'checkout_session', ['payment_intent'], 'payment_intent is not null'),
    ('refund_unfinished', 'refund', ['status'], "status in ('creating', 'pending', 'failed')"),
)


def upgrade() -> None:
    """Apply."""
    with op.get_context().autocommit_block():
        for name, table, columns, where in _INDEXES:
            op.drop_index(name, table, postgresql_concurrently=True, if_exists=True)
            op.create_index(name, table, columns, postgresql_where=sa.text(where), postgresql_concurrently=True)
        op.execute('alter table refund validate constraint status')


def downgrade() -> None:
    """Take back."""
    with op.get_context().autocommit_block():
        for name, table, _, _ in reversed(_INDEXES):
            op.drop_index(name, table, postgresql_concurrently=True, if_exists=True)
