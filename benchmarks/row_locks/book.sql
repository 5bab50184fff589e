-- One booking in one round trip: take the nights, then write the booking; both are committed or neither.
--
-- The locks come in the order of the dates, because sessions of the baseline read `inventory` by its key alone; so two
-- stays that overlap wait for each other and never deadlock. They are held until the commit is on disk.
create or replace function book(
    p_id uuid, p_user bigint, p_hotel bigint, p_room bigint, p_check_in date, p_check_out date, p_rooms int,
    p_hold_seconds int
) returns bigint language plpgsql as $$
declare
    v_nights int;
    v_amount bigint;
    v_currency text;
begin
    with taken as (
        update inventory set reserved_count = reserved_count + p_rooms
        where room_id = p_room and date >= p_check_in and date < p_check_out and hotel_id = p_hotel and not closed
          and total_count - booked_count - reserved_count >= p_rooms
        returning price_minor, surge_milli, currency
    )
    select count(*), sum((price_minor * surge_milli + 500) / 1000) * p_rooms, min(currency)
    into v_nights, v_amount, v_currency from taken;
    if v_nights <> p_check_out - p_check_in then
        raise exception using errcode = 'BK001', message = 'sold out';
    end if;
    insert into booking (
        id, user_id, hotel_id, room_id, check_in, check_out, rooms_count, status, terms, amount_minor, currency,
        hold_expires_at, version, created_at, updated_at
    ) values (
        p_id, p_user, p_hotel, p_room, p_check_in, p_check_out, p_rooms, 'RESERVED', 'prepaid', v_amount, v_currency,
        now() + make_interval(secs => p_hold_seconds), 1, now(), now()
    );
    return v_amount;
end
$$;
