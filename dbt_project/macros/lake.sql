{#-
  Between dbt's graph and the lake. A source `silver.orders` is the table silver/orders, a model of
  materialization `delta` is gold/<model>. What is read is opened once a run, at one version.
-#}

{#- List the lake's tables that a node reads, through ephemeral models, as {table: relation's parts}. -#}
{%- macro reads(node, found=none) -%}
  {%- set found = {} if found is none else found -%}
  {%- for id in node.depends_on.nodes -%}
    {%- if id in graph.sources -%}
      {%- set source = graph.sources[id] -%}
      {%- do found.update({source.schema ~ '/' ~ source.identifier: source}) -%}
    {%- elif id in graph.nodes and graph.nodes[id].config.materialized == 'delta' -%}
      {%- do found.update({'gold/' ~ graph.nodes[id].alias: graph.nodes[id]}) -%}
    {%- elif id in graph.nodes -%}
      {%- do reads(graph.nodes[id], found) -%}
    {%- endif -%}
  {%- endfor -%}
  {{ return(found) }}
{%- endmacro -%}

{#- The relation that stands for a source or a model in this run's database. -#}
{%- macro relation_of(node) -%}
  {{ return(api.Relation.create(database=target.database, schema=node.schema,
                                identifier=node.identifier or node.alias)) }}
{%- endmacro -%}

{#-
  Open tables of the lake as relations; one that is open already stays at its version. A model of gold that was
  never published is without rows for the tests that name it; who is required to exist is a model's input.
-#}
{%- macro open_tables(tables, required) -%}
  {%- for table, node in tables.items() -%}
    {%- set columns = {} -%}
    {%- for column in node.columns.values() if column.data_type -%}
      {%- do columns.update({column.name: column.data_type}) -%}
    {%- endfor -%}
    {%- do adapter.store_relation('delta', relation_of(node), [], table, 'open',
                                  {'required': required, 'window': window(), 'columns': columns}) -%}
  {%- endfor -%}
{%- endmacro -%}

{#- At the start: all that the selected models and tests read, but for what this run makes first. -#}
{%- macro open_what_is_read() -%}
  {%- if execute and flags.WHICH in ('run', 'build', 'test', 'show') -%}
    {%- set tables = {} -%}
    {%- for id in selected_resources if id in graph.nodes -%}
      {%- do reads(graph.nodes[id], tables) -%}
    {%- endfor -%}
    {%- do open_tables(tables, required=false) -%}
  {%- endif -%}
{%- endmacro -%}
