{{ config(partition_by='order_date') }}

with orders as (
    select * from {{ ref('stg_orders') }}
),

customers as (
    select * from {{ ref('stg_customers') }}
),

products as (
    select * from {{ ref('stg_products') }}
),

with_customer as (
    {{ as_of('orders', 'customers', key='customer_id', time='placed_at', prefix='customer') }}
),

with_product as (
    {{ as_of('with_customer', 'products', key='product_id', time='placed_at', prefix='product') }}
)

select
    orders.order_id,
    orders.order_date,
    orders.placed_at,
    orders.status,
    orders.quantity,
    orders.amount,
    orders.customer_id,
    orders.customer_version,
    orders.customer_match,
    customers.country,
    customers.segment,
    orders.product_id,
    orders.product_version,
    orders.product_match,
    products.category
from with_product as orders
left join customers
    on orders.customer_id = customers.customer_id and orders.customer_version = customers.version
left join products
    on orders.product_id = products.product_id and orders.product_version = products.version
