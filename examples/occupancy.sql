-- How full was each night? Rooms sold, of the rooms there were, by hotel and night; the fullest first.
with event as (
    from read_parquet('export/*.parquet', union_by_name = true)
), opened as (
    select room_id, sequence, total_count, {'first_night': first_night, 'end_night': end_night} as nights
    from event where type = 'inventory.opened'
    union all
    select room_id, sequence, total_count, unnest(ranges)
    from event where type = 'inventory.changed' and total_count is not null
), spread as (
    select room_id, sequence, total_count,
           unnest(range(nights.first_night, nights.end_night, interval 1 day))::date as night
    from opened
), there as (
    -- A room's events are all in one partition: the last event counts.
    select room_id, night, arg_max(total_count, sequence) as rooms from spread group by all
), stay as (
    -- As it was booked, or as its last change left it. One that moved to another room type is a booking of that room.
    select booking_id, room_id, arg_max(check_in, sequence) as check_in, arg_max(check_out, sequence) as check_out,
           arg_max(rooms_count, sequence) as rooms_count
    from event where type in ('booking.reserved', 'booking.changed') group by booking_id, room_id
    having count(to_room_id) = 0
), kept as (
    -- Of a stay that ended early (cancelled after check-in, left, or nobody came) the nights before `freed_from` were sold;
    -- of one that was cancelled before, none was.
    from stay
    semi join (from event where type = 'booking.confirmed') as confirmed using (booking_id)
    left join (from event where type = 'booking.cancelled'
               or type in ('booking.checked_out', 'booking.no_show') and freed_from is not null) as ended using (booking_id)
    select stay.room_id, stay.rooms_count,
           unnest(range(stay.check_in,
                        case when ended.id is null then stay.check_out else ended.freed_from end,
                        interval 1 day))::date as night
), sold as (
    select room_id, night, sum(rooms_count) as rooms from kept group by all
)
select hotel_id, night, coalesce(sum(sold.rooms), 0)::int as sold, sum(there.rooms)::int as there,
       round(100.0 * coalesce(sum(sold.rooms), 0) / sum(there.rooms), 2) as percent
from there
join (select distinct room_id, hotel_id from event where type = 'inventory.opened') using (room_id)
left join sold using (room_id, night)
group by hotel_id, night
order by percent desc, hotel_id, night
