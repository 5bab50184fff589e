-- What did each month earn? By the month of the nights, in minor units: the amount of each night that stayed sold, less
-- what left again of the payments (refunds by hand, lost disputes) in proportion to the amounts. A fee is what is kept
-- beside that of a stay that ended early; it counts for the first night that was on sale again.
with event as (
    from read_parquet('export/*.parquet', union_by_name = true)
), stay as (
    -- As it was booked, or as its last change left it: a booking's events are all in one partition.
    select booking_id, max(currency) as currency, bool_or(terms = 'prepaid') as prepaid,
           arg_max(check_in, sequence) as check_in, arg_max(check_out, sequence) as check_out,
           arg_max(amount_minor, sequence) as amount_minor,
           arg_max(night_amounts_minor, sequence) as night_amounts_minor
    from event where type in ('booking.reserved', 'booking.changed') group by booking_id
), gone as (
    from event
    anti join (from event where type = 'booking.refund_failed') as failed using (payment_intent, refund_id)
    select booking_id, payment_intent, sum(amount_minor) as gone_minor
    where type = 'booking.refunded' or type = 'booking.dispute_closed' and result = 'lost'
    group by all
), paid as (
    -- The payment of the stay, and those of changes that made it dearer.
    select booking_id, sum(if(type = 'booking.changed', extra_minor, amount_minor)) - sum(coalesce(gone_minor, 0)) as left_minor
    from event left join gone using (booking_id, payment_intent)
    where type = 'booking.confirmed' or type = 'booking.changed' and payment_intent is not null
    group by booking_id
), ended as (
    select booking_id, type, freed_from, coalesce(policy.kept_minor, 0) as kept_minor
    from event
    where type in ('booking.cancelled', 'booking.no_show') or type = 'booking.checked_out' and freed_from is not null
), counted as (
    select booking_id, currency, check_in, prepaid, ended.type as ended_by, kept_minor,
           if(ended.type is null, check_out, coalesce(freed_from, check_in)) as end_night,
           -- A booking from before amounts by night: even shares.
           case when len(night_amounts_minor) > 0 then night_amounts_minor
                else list_transform(range(check_out - check_in),
                                    lambda n: amount_minor // (check_out - check_in)
                                              + (n < amount_minor % (check_out - check_in))::int) end as amounts_minor,
           -- The refund of a cheaper change leaves no less than the stay's amount.
           if(prepaid, greatest(0, least(amount_minor, left_minor)), amount_minor) as left_minor
    from stay join paid using (booking_id) left join ended using (booking_id)
    -- Of a cancelled stay nothing is kept but what the policy names; of one that is paid at the hotel nothing at all.
    where ended.type is distinct from 'booking.cancelled' or prepaid and kept_minor > 0
), sold as (
    select *, amounts_minor[:end_night - check_in] as sold_minor, coalesce(list_sum(sold_minor), 0) as whole_minor,
           case when ended_by is null then left_minor
                when prepaid then least(left_minor, kept_minor)
                when ended_by = 'booking.checked_out' then whole_minor
                else 0 end as held_minor
    from counted
), night as (
    select currency, check_in + unnest(range(len(sold_minor)))::int as night, 1 as nights,
           unnest(sold_minor) * least(held_minor, whole_minor) / nullif(whole_minor, 0)::double as revenue_minor, 0 as fee_minor
    from sold
    union all
    select currency, end_night, 0, 0, held_minor - whole_minor from sold where held_minor > whole_minor
)
select strftime(night, '%Y-%m') as month, currency, sum(nights)::int as nights,
       round(coalesce(sum(revenue_minor), 0))::bigint as revenue_minor, sum(fee_minor)::bigint as fees_minor
from night
group by month, currency
order by month, currency
