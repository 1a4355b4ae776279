{{ config(meta={'dagster': {'ref': {'name': 'daily_revenue'}}}) }}
-- Revenue and cancelled amounts of each date are, to the cent, what silver's orders say.

with gold as (
    select order_date, sum(revenue + cancelled_amount) as amount, sum(orders + cancelled_orders) as orders
    from {{ ref('daily_revenue') }}
    where {{ in_window('order_date') }}
    group by order_date
),

silver as (
    select _event_date as order_date, sum(amount) as amount, count(*) as orders
    from {{ source('silver', 'orders') }}
    where {{ in_window('_event_date') }}
    group by _event_date
)

select
    order_date,
    gold.amount as in_gold,
    silver.amount as in_silver,
    gold.orders as orders_in_gold,
    silver.orders as orders_in_silver
from gold
full join silver using (order_date)
where gold.amount is distinct from silver.amount or gold.orders is distinct from silver.orders
