select customer_id, country, segment, valid_from, valid_to, version
from {{ source('dimensions', 'customers') }}
