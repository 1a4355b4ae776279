{{ config(partition_by='activity_date') }}

select
    activity_date,
    customer_id,
    count(*) filter (where kind = 'view') as page_views,
    count(*) filter (where kind = 'order' and not cancelled) as orders,
    coalesce(sum(amount) filter (where kind = 'order' and not cancelled), 0)::decimal(18, 2) as spent,
    count(*) filter (where kind = 'order' and cancelled) as cancelled_orders,
    min(happened_at) as first_seen_at,
    max(happened_at) as last_seen_at
from {{ ref('int_customer_events') }}
group by all
