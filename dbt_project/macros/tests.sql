{#- No two rows have the same values in these columns. -#}
{% test unique_together(model, columns) %}
  select {{ columns | join(', ') }}, count(*) as n_records
  from {{ model }}
  group by all
  having count(*) > 1
{% endtest %}

{#- A column's values are not below a bound. -#}
{% test at_least(model, column_name, bound=0) %}
  select {{ column_name }} from {{ model }} where {{ column_name }} < {{ bound }}
{% endtest %}
