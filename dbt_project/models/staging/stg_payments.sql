select payment_id, order_id, method, status, amount, paid_at, _event_date as payment_date
from {{ source('silver', 'payments') }}
where {{ in_window('_event_date') }}
