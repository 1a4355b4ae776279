select product_id, category, valid_from, valid_to, version
from {{ source('dimensions', 'products') }}
