-- How long before arrival do guests book? By hotel: days from the reservation to the arrival that it was made for.
select hotel_id, count(*) as bookings,
       median(days) as median_days,
       round(avg(days), 1) as mean_days,
       round(100.0 * count(*) filter (where days < 7) / count(*), 1) as percent_under_a_week,
       round(100.0 * count(*) filter (where days >= 180) / count(*), 1) as percent_half_a_year
from (
    select hotel_id, check_in - (time at time zone 'UTC')::date as days
    from read_parquet('export/*.parquet', union_by_name = true)
    -- A stay that moves to another room type was booked before.
    where type = 'booking.reserved' and moved is null
)
group by hotel_id
order by hotel_id
