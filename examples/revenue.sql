-- What did each month earn? By the month of the nights, in minor units: the amount of each night of the bookings that
-- were kept, less what left again of them: refunds made by hand, and lost disputes, in proportion to the amounts.
with event as (
    from read_parquet('export/*.parquet', union_by_name = true)
), kept as (
    from event as reserved
    join (select booking_id, payment_intent from event where type = 'booking.confirmed') as confirmed using (booking_id)
    anti join (from event where type = 'booking.cancelled') as cancelled using (booking_id)
    select booking_id, currency, check_in, amount_minor, confirmed.payment_intent,
           check_out - check_in as nights,
           -- A booking from before amounts by night: even shares.
           case when len(night_amounts_minor) > 0 then night_amounts_minor
                else list_transform(range(check_out - check_in),
                                    lambda n: amount_minor // (check_out - check_in)
                                              + (n < amount_minor % (check_out - check_in))::int) end as amounts_minor
    where reserved.type = 'booking.reserved'
), gone as (
    from event
    anti join (from event where type = 'booking.refund_failed') as failed using (payment_intent, refund_id)
    select booking_id, payment_intent, sum(amount_minor) as gone_minor
    where type = 'booking.refunded' or type = 'booking.dispute_closed' and result = 'lost'
    group by all
), night as (
    select currency, check_in + unnest(range(nights))::int as night, unnest(amounts_minor) as amount_minor,
           least(coalesce(gone_minor, 0), kept.amount_minor) / nullif(kept.amount_minor, 0)::double as share_gone
    from kept left join gone using (booking_id, payment_intent)
)
select strftime(night, '%Y-%m') as month, currency, count(*) as nights,
       round(sum(amount_minor * (1 - coalesce(share_gone, 0))))::bigint as revenue_minor
from night
group by month, currency
order by month, currency
