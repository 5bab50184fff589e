-- How many bookings are cancelled? By the month of arrival; holds that ended unpaid are not counted.
with event as (
    from read_parquet('export/*.parquet', union_by_name = true)
)
select strftime(reserved.check_in, '%Y-%m') as month,
       count(*) as bookings,
       count(cancelled.booking_id) as cancelled,
       round(100.0 * count(cancelled.booking_id) / count(*), 1) as percent
from event as reserved
left join (select booking_id from event where type = 'booking.cancelled') as cancelled using (booking_id)
where reserved.type = 'booking.reserved'
  and reserved.booking_id not in (
      -- One that is paid late is confirmed after all.
      select booking_id from event where type = 'booking.expired'
      except select booking_id from event where type = 'booking.confirmed'
  )
group by month
order by month
