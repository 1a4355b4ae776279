select customer_id, viewed_at, _event_date as view_date
from {{ source('silver', 'pageviews') }}
where {{ in_window('_event_date') }}
