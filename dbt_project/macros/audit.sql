{#-
  The tests that guard a model: the generic tests written at it, and the singular tests whose
  `meta.dagster.ref` names it (the same line makes them its asset checks). Tests that only warn guard nothing.
  Each is compiled here with the staged rows in the model's place; everything else is what it is in the lake.
-#}
{%- macro guards_of(model) -%}
  {%- set guards = [] -%}
  {%- for test in graph.nodes.values() if test.resource_type == 'test' and test.config.enabled
        and (test.config.severity | upper) == 'ERROR' -%}
    {%- set named = test.config.get('meta', {}).get('dagster', {}).get('ref', {}).get('name') -%}
    {%- if test.get('attached_node') == model.unique_id
          or (not test.get('attached_node') and named == model.name) -%}
      {%- do guards.append(test) -%}
    {%- endif -%}
  {%- endfor -%}
  {{ return(guards) }}
{%- endmacro -%}

{#- Run all guards on the staged rows; raise one error that names each that failed, and rows. -#}
{%- macro audit(guards, staged, inputs) -%}
  {%- set found = [] -%}
  {%- for test in guards -%}
    {%- set failing = failing_rows(test, staged) -%}
    {%- set calc = test.config.fail_calc or 'count(*)' -%}
    {%- set verdict = run_query(
          'select ' ~ calc ~ ' as failures, (' ~ calc ~ ') ' ~ (test.config.error_if or '!= 0')
          ~ ' as failed from (' ~ failing ~ ') as failing') -%}
    {%- if verdict.rows[0]['failed'] -%}
      {%- do found.append(test.name ~ ' found ' ~ verdict.rows[0]['failures'] ~ ', such as '
                          ~ sample_rows(test, failing, staged) ~ ' [' ~ test.unique_id ~ ']') -%}
    {%- endif -%}
  {%- endfor -%}
  {%- if found -%}
    {% do exceptions.raise_compiler_error(
      'gold/' ~ model.alias ~ ' was not published, the version before stays: ' ~ (found | join('; '))
      ~ '. Correct the rows in silver (or the model, or the test) and materialize these dates again, with what it reads') %}
  {%- endif -%}
{%- endmacro -%}

{#- The SQL of a test on the staged rows. -#}
{%- macro failing_rows(test, staged) -%}
  {%- if not test.get('test_metadata') -%}
    {%- set source = test.raw_code | replace('ref(', 'audited_ref(') | replace('source(', 'audited_source(') -%}
    {{ return(render(source)) }}
  {%- endif -%}
  {%- set arguments = {} -%}
  {%- for name, value in test.test_metadata.kwargs.items() if name != 'model' -%}
    {%- if value is string and (value.startswith('ref(') or value.startswith('source(')) -%}
      {%- set value = render('{{ audited_' ~ value ~ ' }}') -%}
    {%- endif -%}
    {%- do arguments.update({name: value}) -%}
  {%- endfor -%}
  {%- set where = test.config.get('where') -%}
  {%- set rows = '(select * from ' ~ staged ~ ' where ' ~ where ~ ')' if where else staged -%}
  {{ return(context['test_' ~ test.test_metadata.name](model=rows, **arguments)) }}
{%- endmacro -%}

{#- As ref(), but the model that is being built is its staged rows. -#}
{%- macro audited_ref(name) -%}
  {%- if name == model.name -%}
    {{ return(this.incorporate(path={'identifier': this.identifier ~ '__staged'})) }}
  {%- endif -%}
  {%- for node in graph.nodes.values() if node.resource_type == 'model' and node.name == name -%}
    {{ return(relation_of(node)) }}
  {%- endfor -%}
  {% do exceptions.raise_compiler_error('a test of ' ~ model.name ~ ' refers to no model: ' ~ name) %}
{%- endmacro -%}

{%- macro audited_source(schema, name) -%}
  {%- for node in graph.sources.values() if node.source_name == schema and node.name == name -%}
    {{ return(relation_of(node)) }}
  {%- endfor -%}
  {% do exceptions.raise_compiler_error('a test of ' ~ model.name ~ ' refers to no source: ' ~ name) %}
{%- endmacro -%}

{#- Up to five bad rows, as text: the model's key (meta.key) and the column tested, or what the test gave. -#}
{%- macro sample_rows(test, failing, staged) -%}
  {%- set column = test.get('test_metadata', {}).get('kwargs', {}).get('column_name') -%}
  {%- if column -%}
    {%- set shown = config.get('meta', {}).get('key', []) | list -%}
    {%- if column not in shown and not model.columns.get(column, {}).get('meta', {}).get('pii') -%}
      {%- do shown.append(column) -%}
    {%- endif -%}
    {%- set first = adapter.get_column_schema_from_query(failing)[0].name -%}
    {%- set query -%}
      select {{ shown | join(', ') }} from {{ staged }} as staged
      where exists (
        select 1 from ({{ failing }}) as failing where failing.{{ first }} is not distinct from staged.{{ column }}
      )
      order by all limit 5
    {%- endset -%}
  {%- else -%}
    {%- set query = 'select * from (' ~ failing ~ ') as failing limit 5' -%}
  {%- endif -%}
  {%- set rows = run_query(query) -%}
  {%- set texts = [] -%}
  {%- for row in rows.rows -%}
    {%- set cells = [] -%}
    {%- for name in rows.column_names -%}
      {%- do cells.append(name ~ '=' ~ row[name]) -%}
    {%- endfor -%}
    {%- do texts.append('(' ~ cells | join(', ') ~ ')') -%}
  {%- endfor -%}
  {{ return(texts | join(' ')) }}
{%- endmacro -%}
