-- How many bookings are cancelled? By the month of arrival; holds that ended unpaid are not counted, nor are legs of trips
-- that did.
with event as (
    from read_parquet('export/*.parquet', union_by_name = true)
), stay as (
    -- As it was booked, or as its last change left it. One that moved to another room type is a booking of that room.
    select booking_id, arg_max(check_in, sequence) as check_in
    from event where type in ('booking.reserved', 'booking.changed') group by booking_id having count(to_room_id) = 0
)
select strftime(check_in, '%Y-%m') as month,
       count(*) as bookings,
       count(cancelled.booking_id) as cancelled,
       round(100.0 * count(cancelled.booking_id) / count(*), 1) as percent
from stay
left join (select booking_id from event where type = 'booking.cancelled') as cancelled using (booking_id)
where booking_id not in (
      -- One that is paid late is confirmed after all.
      select booking_id from event where type = 'booking.expired'
      except select booking_id from event where type = 'booking.confirmed'
  )
  and booking_id not in (select booking_id from event where type = 'booking.cancelled' and reason = 'trip_ended')
group by month
order by month
