select customer_id, order_date as activity_date, placed_at as happened_at, 'order' as kind, amount, status = 'cancelled' as cancelled
from {{ ref('stg_orders') }}
union all
select customer_id, view_date, viewed_at, 'view', null, false
from {{ ref('stg_pageviews') }}
where customer_id is not null
