-- What did each month earn? By the month of the nights, in minor units: the amount of each night that stayed sold, less
-- what left again of the payments (refunds by hand, lost disputes) in proportion to the amounts. A fee is what is kept
-- beside that of a stay that ended early; it counts for the first night that was on sale again. Nights count by rooms.
-- The figures are those of the hotel's report to the last minor unit, as amounts are shared by largest remainders here, too.
create or replace temp macro shares_of(amount, weights, whole) as list_transform(weights, lambda own, number:
    (amount * own // whole + (
        len(list_filter(weights, lambda other, place:
            amount * other % whole > amount * own % whole
            or amount * other % whole = amount * own % whole and place < number))
        < amount - list_sum(list_transform(weights, lambda each: amount * each // whole))
    )::int)::bigint);
create or replace temp macro shares(amount, weights) as
    shares_of(amount::hugeint, weights, greatest(list_sum(weights), 1)::hugeint);

with event as (
    from read_parquet('export/*.parquet', union_by_name = true)
), booked as (
    -- As it was booked, or as its last change left it: a booking's events are all in one partition. One that moved to
    -- another room type has no nights any more; its leg has them.
    select booking_id, coalesce(max(trip_id), booking_id) as paid_id, max(currency) as currency,
           bool_or(terms = 'prepaid') as prepaid, arg_max(check_in, sequence) as check_in,
           arg_max(check_out, sequence) as check_out,
           -- Taxes that the hotel collects itself are no revenue, and the amount of a prepaid stay does not contain them.
           arg_max(amount_minor - coalesce(sale.at_hotel_taxes_minor, 0), sequence) as amount_minor,
           arg_max(rooms_count, sequence) as rooms_count,
           arg_max(night_amounts_minor, sequence) as night_amounts_minor
    from event where type in ('booking.reserved', 'booking.changed') group by booking_id having count(to_room_id) = 0
), ended as (
    select booking_id, type, freed_from, coalesce(policy.kept_minor, 0) as kept_minor
    from event
    where type in ('booking.cancelled', 'booking.no_show') or type = 'booking.checked_out' and freed_from is not null
), stay as (
    select booked.*, ended.type as ended_by, kept_minor,
           if(ended.type is null, check_out, coalesce(freed_from, check_in)) as end_night,
           -- A booking from before amounts by night: even shares.
           shares(amount_minor, if(len(night_amounts_minor) > 0, night_amounts_minor,
                                   list_transform(range(check_out - check_in), lambda n: 1::bigint))) as amounts_minor,
           -- The amount that the hotel may have. Of a stay that is paid at the hotel no policy keeps anything.
           case when ended_by is null then amount_minor
                when prepaid then kept_minor
                when ended_by = 'booking.checked_out'
                then coalesce(list_sum(amounts_minor[:end_night - check_in]), 0)
                else 0 end as worth_minor
    from booked
    semi join (from event where type = 'booking.confirmed') as confirmed using (booking_id)
    left join ended using (booking_id)
), gone as (
    from event
    anti join (from event where type = 'booking.refund_failed') as failed using (payment_intent, refund_id)
    select payment_intent,
           sum(amount_minor) filter (type <> 'booking.refund_closed') as gone_minor,
           sum(amount_minor) filter (type = 'booking.refunded' and not by_hand) as refunded_minor,
           sum(amount_minor) filter (type = 'booking.refund_closed') as closed_minor
    where type in ('booking.refunded', 'booking.refund_closed')
       or type = 'booking.dispute_closed' and result = 'lost'
    group by payment_intent
), paid as (
    -- The payments of a stay, or of a trip: the first, and those of changes that made the stay dearer.
    select booking_id as paid_id, sum(if(type = 'booking.changed', extra_minor, amount_minor)) as paid_minor,
           sum(coalesce(gone_minor, 0)) as gone_minor, sum(coalesce(refunded_minor, 0)) as refunded_minor,
           sum(coalesce(closed_minor, 0)) as all_closed_minor
    from event left join gone using (payment_intent)
    where type in ('booking.confirmed', 'booking.changed') and payment_intent is not null
    group by booking_id
), leg as (
    from event select booking_id as paid_id, unnest(legs).booking_id as booking_id, generate_subscripts(legs, 1) as number
    where type = 'booking.trip_opened'
    union all
    from event select booking_id, change_id, 1 where type = 'booking.changed' and to_room_id is not null
), together as (
    -- The legs of a trip share its payments, any other stay has its own.
    select paid_id, list(booking_id order by number) as booking_ids, list(worth_minor order by number) as worths_minor,
           sum(worth_minor) as whole_minor, sum(if(number is null, amount_minor, worth_minor)) as price_minor
    from stay left join leg using (paid_id, booking_id) where prepaid group by paid_id
), kept as (
    -- The refund of a cheaper change or of an ended leg is gone if an operator closed it, too; it counts once if it went
    -- back all the same.
    select booking_ids, worths_minor, whole_minor,
           least(all_closed_minor, greatest(0, paid_minor - price_minor - refunded_minor)) as closed_minor,
           greatest(0, least(whole_minor, paid_minor - gone_minor - closed_minor)) as left_minor
    from together join paid using (paid_id)
), taken as (
    select unnest(booking_ids) as booking_id, unnest(shares(whole_minor - left_minor, worths_minor)) as taken_minor
    from kept
), sold as (
    select stay.*, amounts_minor[:end_night - check_in] as sold_minor, coalesce(list_sum(sold_minor), 0) as whole_minor,
           worth_minor - coalesce(taken_minor, 0) as held_minor
    from stay left join taken using (booking_id)
    -- Of a cancelled stay nothing is kept but what the policy names.
    where ended_by is distinct from 'booking.cancelled' or worth_minor > 0
), night as (
    select currency, check_in + unnest(range(len(sold_minor)))::int as night, rooms_count as nights,
           if(ended_by is null, unnest(sold_minor) - unnest(shares(whole_minor - held_minor, sold_minor)),
              unnest(shares(least(held_minor, whole_minor), sold_minor))) as revenue_minor, 0 as fee_minor
    from sold
    union all
    select currency, end_night, 0, 0, held_minor - whole_minor from sold where held_minor > whole_minor
)
select strftime(night, '%Y-%m') as month, currency, sum(nights)::int as nights,
       coalesce(sum(revenue_minor), 0)::bigint as revenue_minor, sum(fee_minor)::bigint as fees_minor
from night
group by month, currency
order by month, currency
