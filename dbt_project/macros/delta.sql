{#-
  Write, audit, publish. The model is staged in DuckDB, under its contract; the tests that guard it run on
  the staged rows; only then are its dates replaced in the lake, in one Delta commit. Whatever fails before
  leaves the published version in place. Runs that do not see all rows (--empty, --sample) publish nothing.

  config: partition_by, the date column by which the table is stored and replaced; without it the table is
  replaced as a whole.
-#}
{% materialization delta, adapter='duckdb' %}
  {%- set published = this.incorporate(type='view') -%}
  {%- set staged = this.incorporate(path={'identifier': this.identifier ~ '__staged'}, type='table') -%}
  {%- set inputs = reads(model) -%}
  {%- set guards = guards_of(model) -%}
  {%- set partition_by = config.get('partition_by') -%}

  {{ run_hooks(pre_hooks) }}
  {% do open_tables(inputs, required=true) %}
  {% for guard in guards %}
    {% do open_tables(reads(guard), required=false) %}
  {% endfor %}

  {% call statement('stage') %}
    drop table if exists {{ staged }};
    {{ create_table_as(False, staged, sql) }}
  {% endcall %}
  {% do adapter.commit() %}

  {% if flags.EMPTY or invocation_args_dict.get('sample') %}
    {% do log(model.name ~ ": staged only, the lake stays as it is (--empty or --sample)", info=true) %}
    {% do adapter.store_relation('delta', published, [], 'gold/' ~ this.identifier, 'stand_in',
                                 {'staged': staged | string}) %}
  {% else %}
    {% do audit(guards, staged, inputs) %}
    {% do adapter.store_relation('delta', published, [], 'gold/' ~ this.identifier, 'publish', {
      'staged': staged | string,
      'partition_by': partition_by,
      'window': window(),
      'reads': inputs.keys() | list,
      'description': model.description,
      'guards': guards | map(attribute='name') | list,
      'invocation_id': invocation_id,
    }) %}
  {% endif %}

  {% call statement('main') %}
    select count(*) as rows from {{ staged }}
  {% endcall %}
  {{ run_hooks(post_hooks) }}
  {{ return({'relations': [published]}) }}
{% endmaterialization %}
