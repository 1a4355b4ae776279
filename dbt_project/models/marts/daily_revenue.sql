{{ config(partition_by='order_date') }}

select
    order_date,
    coalesce(category, 'unknown') as category,
    coalesce(country, 'unknown') as country,
    count(*) filter (where status <> 'cancelled') as orders,
    coalesce(sum(amount) filter (where status <> 'cancelled'), 0)::decimal(18, 2) as revenue,
    count(*) filter (where status = 'cancelled') as cancelled_orders,
    coalesce(sum(amount) filter (where status = 'cancelled'), 0)::decimal(18, 2) as cancelled_amount
from {{ ref('fct_orders') }}
where {{ in_window('order_date') }}
group by all
