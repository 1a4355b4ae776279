{{ config(partition_by='payment_date') }}

select payment_id, payment_date, paid_at, order_id, method, status, amount
from {{ ref('stg_payments') }}
