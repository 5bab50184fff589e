"""A hotel's legal name and tax id, which its invoices name, and an index for a hotel's documents by month.

The release before leaves the columns empty. It has no documents, so that their table is empty when the index is built.

Revision: 0015, after 0014.
"""

import sqlalchemy as sa
from alembic import op

revision = '0015'
down_revision = '0014'
branch_labels = None
depends_on = None

_NULLABLE = ('legal_name', 'tax_id')


def upgrade() -> None:
    """Apply."""
    op.execute("set local lock_timeout = '500ms'")
    op.create_index('hotel_document_issued', 'hotel_document', ['hotel_id', 'issued_at', 'id'])
    for name in _NULLABLE:
        op.add_column('hotel', sa.Column(name, sa.Text(), nullable=True))


def downgrade() -> None:
    """Take back."""
    for name in reversed(_NULLABLE):
        op.drop_column('hotel', name)
    op.drop_index('hotel_document_issued', 'hotel_document')
