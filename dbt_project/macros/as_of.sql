{#-
  Give each fact the version of a dimension that was valid at the fact's time.

  `<prefix>_version` is that version's number, `<prefix>_match` how it was found:
    as_of           the version was valid then (valid_from <= time < valid_to)
    first_version   the fact is earlier than all versions, and takes version 1
    none            no version: the key is unknown, or was deleted at that time
-#}
{%- macro as_of(facts, versions, key, time, prefix) -%}
  select
    facts.*,
    case
      when valid.version is not null and (valid.valid_to is null or facts.{{ time }} < valid.valid_to) then valid.version
      when valid.version is null and earliest.version is not null then earliest.version
    end as {{ prefix }}_version,
    case
      when valid.version is not null and (valid.valid_to is null or facts.{{ time }} < valid.valid_to) then 'as_of'
      when valid.version is null and earliest.version is not null then 'first_version'
      else 'none'
    end as {{ prefix }}_match
  from {{ facts }} as facts
  asof left join {{ versions }} as valid
    on facts.{{ key }} = valid.{{ key }} and facts.{{ time }} >= valid.valid_from
  left join {{ versions }} as earliest
    on facts.{{ key }} = earliest.{{ key }} and earliest.version = 1
{%- endmacro -%}
