select order_id, customer_id, product_id, quantity, status, amount, placed_at, _event_date as order_date
from {{ source('silver', 'orders') }}
where {{ in_window('_event_date') }}
