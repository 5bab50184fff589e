"""the whole api.

Revision: 0002, after 0001.
"""

import sqlalchemy as sa
from alembic import op

revision = '0002'
down_revision = '0001'
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table('daily_report',
    sa.Column('hotel_id', sa.BigInteger(), autoincrement=False, nullable=False),
    sa.Column('date', sa.Date(), nullable=False),
    sa.Column('arrivals', sa.Integer(), nullable=False),
    sa.Column('staying', sa.Integer(), nullable=False),
    sa.Column('nights', sa.Integer(), nullable=False),
    sa.Column('revenue_minor', sa.BigInteger(), nullable=False),
    sa.Column('currency', sa.Text(), nullable=False),
    sa.PrimaryKeyConstraint('hotel_id', 'date')
    )
    op.create_table('reported_stay',
    sa.Column('booking_id', sa.Uuid(), nullable=False),
    sa.Column('hotel_id', sa.BigInteger(), nullable=False),
    sa.Column('check_in', sa.Date(), nullable=False),
    sa.Column('check_out', sa.Date(), nullable=False),
    sa.Column('rooms_count', sa.Integer(), nullable=False),
    sa.Column('amount_minor', sa.BigInteger(), nullable=False),
    sa.Column('currency', sa.Text(), nullable=False),
    sa.PrimaryKeyConstraint('booking_id')
    )
    op.create_table('room_night',
    sa.Column('room_id', sa.BigInteger(), autoincrement=False, nullable=False),
    sa.Column('date', sa.Date(), nullable=False),
    sa.Column('hotel_id', sa.BigInteger(), nullable=False),
    sa.Column('total_count', sa.Integer(), nullable=False),
    sa.Column('taken_count', sa.Integer(), server_default=sa.text('0'), nullable=False),
    sa.Column('price_minor', sa.BigInteger(), nullable=False),
    sa.Column('surge_milli', sa.Integer(), nullable=False),
    sa.Column('closed', sa.Boolean(), nullable=False),
    sa.Column('currency', sa.Text(), nullable=False),
    sa.PrimaryKeyConstraint('room_id', 'date'),
    postgresql_with={'fillfactor': '70'}
    )
    op.create_index('room_night_hotel', 'room_night', ['hotel_id', 'date'], unique=False)
    op.create_table('room_night_change',
    sa.Column('partition', sa.Integer(), autoincrement=False, nullable=False),
    sa.Column('position', sa.BigInteger(), autoincrement=False, nullable=False),
    sa.Column('room_id', sa.BigInteger(), nullable=False),
    sa.Column('first_night', sa.Date(), nullable=False),
    sa.Column('end_night', sa.Date(), nullable=False),
    sa.PrimaryKeyConstraint('partition', 'position')
    )
    op.create_table('refresh_token',
    sa.Column('token_hash', sa.LargeBinary(), nullable=False),
    sa.Column('family', sa.Uuid(), nullable=False),
    sa.Column('user_id', sa.BigInteger(), nullable=False),
    sa.Column('expires_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('used_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('salt', sa.LargeBinary(), nullable=True),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.ForeignKeyConstraint(['user_id'], ['app_user.id'], ),
    sa.PrimaryKeyConstraint('token_hash')
    )
    op.create_index(op.f('ix_refresh_token_family'), 'refresh_token', ['family'], unique=False)
    op.create_index(op.f('ix_refresh_token_user_id'), 'refresh_token', ['user_id'], unique=False)
    op.drop_index(op.f('room_price_hotel'), table_name='room_price')
    op.drop_table('room_price')
    op.add_column('app_user', sa.Column('version', sa.Integer(), server_default=sa.text('1'), nullable=False))
    op.drop_index(op.f('booking_user'), table_name='booking')
    op.create_index('booking_user', 'booking', ['user_id', 'created_at', 'id'], unique=False)
    op.add_column('hotel', sa.Column('stars', sa.Integer(), nullable=True))
    op.add_column('hotel', sa.Column('latitude', sa.Double(), nullable=True))
    op.add_column('hotel', sa.Column('longitude', sa.Double(), nullable=True))
    op.add_column('hotel', sa.Column('time_zone', sa.Text(), server_default=sa.text("'UTC'"), nullable=False))
    op.add_column('hotel', sa.Column('check_in_time', sa.Time(), server_default=sa.text("'15:00'"), nullable=False))
    op.add_column('hotel', sa.Column('check_out_time', sa.Time(), server_default=sa.text("'11:00'"), nullable=False))
    op.add_column('hotel', sa.Column('version', sa.Integer(), server_default=sa.text('1'), nullable=False))
    op.add_column('hotel', sa.Column('deleted_at', sa.DateTime(timezone=True), nullable=True))
    op.create_index('hotel_updated', 'hotel', ['updated_at'], unique=False)
    op.add_column('room', sa.Column('opening', sa.Boolean(), server_default=sa.text('false'), nullable=False))
    op.add_column('room', sa.Column('version', sa.Integer(), server_default=sa.text('1'), nullable=False))
    op.add_column('room', sa.Column('deleted_at', sa.DateTime(timezone=True), nullable=True))
    op.create_index('room_updated', 'room', ['updated_at'], unique=False)
    op.create_check_constraint('stars', 'hotel', 'stars between 1 and 5')
    op.create_check_constraint('latitude', 'hotel', 'latitude between -90 and 90')
    op.create_check_constraint('longitude', 'hotel', 'longitude between -180 and 180')
    # `room_night` takes the place of `room_price`: prices are read from the log once more, by a new consumer.
    op.execute('truncate hotel_min_price')
    op.execute("delete from log_cursor where consumer = 'hotel_min_price'")


def downgrade() -> None:
    """Undo."""
    op.drop_index('room_updated', table_name='room')
    op.drop_column('room', 'deleted_at')
    op.drop_column('room', 'version')
    op.drop_column('room', 'opening')
    op.drop_index('hotel_updated', table_name='hotel')
    op.drop_column('hotel', 'deleted_at')
    op.drop_column('hotel', 'version')
    op.drop_column('hotel', 'check_out_time')
    op.drop_column('hotel', 'check_in_time')
    op.drop_column('hotel', 'time_zone')
    op.drop_column('hotel', 'longitude')
    op.drop_column('hotel', 'latitude')
    op.drop_column('hotel', 'stars')
    op.drop_index('booking_user', table_name='booking')
    op.create_index(op.f('booking_user'), 'booking', ['user_id'], unique=False)
    op.drop_column('app_user', 'version')
    op.create_table('room_price',
    sa.Column('room_id', sa.BIGINT(), autoincrement=False, nullable=False),
    sa.Column('date', sa.DATE(), autoincrement=False, nullable=False),
    sa.Column('hotel_id', sa.BIGINT(), autoincrement=False, nullable=False),
    sa.Column('price_minor', sa.BIGINT(), autoincrement=False, nullable=False),
    sa.Column('surge_milli', sa.INTEGER(), autoincrement=False, nullable=False),
    sa.Column('closed', sa.BOOLEAN(), autoincrement=False, nullable=False),
    sa.Column('currency', sa.TEXT(), autoincrement=False, nullable=False),
    sa.PrimaryKeyConstraint('room_id', 'date', name=op.f('room_price_pkey'))
    )
    op.create_index(op.f('room_price_hotel'), 'room_price', ['hotel_id', 'date'], unique=False)
    op.drop_index(op.f('ix_refresh_token_user_id'), table_name='refresh_token')
    op.drop_index(op.f('ix_refresh_token_family'), table_name='refresh_token')
    op.drop_table('refresh_token')
    op.drop_table('room_night_change')
    op.drop_index('room_night_hotel', table_name='room_night')
    op.drop_table('room_night')
    op.drop_table('reported_stay')
    op.drop_table('daily_report')
