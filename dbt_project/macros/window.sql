{#- The dates of this run, from the vars min_date and max_date (both included); none without them. -#}
{%- macro window() -%}
  {%- set first, last = var('min_date', none), var('max_date', none) -%}
  {%- if first is none and last is none -%}
    {{ return(none) }}
  {%- endif -%}
  {%- if first is none or last is none -%}
    {% do exceptions.raise_compiler_error("give both vars, min_date and max_date, or none of them") %}
  {%- endif -%}
  {%- set dates = [] -%}
  {%- for text in (first, last) -%}
    {#- strptime refuses what is no date; what it gives is written again, so nothing else reaches SQL -#}
    {%- do dates.append(modules.datetime.datetime.strptime(text | string, '%Y-%m-%d').date().isoformat()) -%}
  {%- endfor -%}
  {%- if dates[0] > dates[1] -%}
    {% do exceptions.raise_compiler_error("min_date " ~ dates[0] ~ " is after max_date " ~ dates[1]) %}
  {%- endif -%}
  {{ return(dates) }}
{%- endmacro -%}

{#- A condition: a date column is within this run. -#}
{%- macro in_window(column) -%}
  {%- set dates = window() -%}
  {%- if dates is none -%}
    true
  {%- else -%}
    {{ column }} between date '{{ dates[0] }}' and date '{{ dates[1] }}'
  {%- endif -%}
{%- endmacro -%}
