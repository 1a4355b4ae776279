-- The tables of the workload, and the database's own history of them: each change writes what it did into
-- audit.log in its own transaction. `told` is the row as PostgreSQL writes its values, `typed` as JSON types.
CREATE EXTENSION hstore;
CREATE EXTENSION citext;
CREATE EXTENSION ltree;
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy, or so', '"quoted"');
CREATE SCHEMA audit;

CREATE TABLE things (
    id bigint PRIMARY KEY, small smallint, whole integer NOT NULL DEFAULT 7, big bigint,
    exact numeric(20, 6), huge numeric(38, 0), free numeric, cash money, single real, dbl double precision,
    flag boolean, letters char(6), word varchar(40), txt text, ci citext,
    born date, clock time, short_clock time(3), zoned_clock timetz, naive timestamp, milli timestamp(3), zoned timestamptz,
    span interval, raw bytea, bit1 bit(1), bits12 bit(12), bits_any bit varying(30),
    uid uuid, js json, jb jsonb, doc xml, feeling mood, addr inet, net cidr, mac macaddr, attrs hstore,
    tree ltree, ints integer[], texts text[], nums numeric(8, 2)[], stamps timestamptz[], days date[],
    moods mood[], ranged int4range, spot point, search tsvector
);
CREATE TABLE pages (
    id integer PRIMARY KEY, title text, body text, extra jsonb, raw bytea, tags text[], rev integer
);
ALTER TABLE pages ALTER body SET STORAGE EXTERNAL, ALTER extra SET STORAGE EXTERNAL,
    ALTER raw SET STORAGE EXTERNAL, ALTER tags SET STORAGE EXTERNAL;
CREATE TABLE pages_full (LIKE pages INCLUDING ALL);
ALTER TABLE pages_full REPLICA IDENTITY FULL;
CREATE TABLE lines (
    order_id integer, line_no text, sku char(8), qty integer, price numeric(9, 4), note text,
    PRIMARY KEY (order_id, line_no)
);
ALTER TABLE lines ALTER note SET STORAGE EXTERNAL;
CREATE TABLE stays (
    room integer, day date, rate numeric(6, 2), paid boolean, at timestamptz, note text, guests integer,
    PRIMARY KEY (room, day, rate, paid, at)
);
ALTER TABLE stays ALTER note SET STORAGE EXTERNAL;
CREATE TABLE scratch (id integer PRIMARY KEY, v text);
CREATE TABLE people (
    id uuid PRIMARY KEY, name varchar(12), code text, qty integer, weight numeric(9, 2), due date
);

CREATE TABLE signal (id text PRIMARY KEY, type text, data text);  -- how Debezium is asked for something

CREATE TABLE audit.log (
    seq bigserial PRIMARY KEY, tab text, op text, xid xid8 DEFAULT pg_current_xact_id(),
    was json, told json, typed jsonb
);
CREATE FUNCTION audit.note() RETURNS trigger LANGUAGE plpgsql SET intervalstyle = 'iso_8601' AS $$
DECLARE was json; told json; typed jsonb;
BEGIN
    IF TG_OP IN ('UPDATE', 'DELETE') THEN was := hstore_to_json(hstore(OLD)); END IF;
    IF TG_OP IN ('INSERT', 'UPDATE') THEN
        told := hstore_to_json(hstore(NEW));
        typed := to_jsonb(NEW);
    END IF;
    INSERT INTO audit.log (tab, op, was, told, typed) VALUES (TG_TABLE_NAME, TG_OP, was, told, typed);
    RETURN NULL;
END $$;
DO $$
DECLARE name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['things', 'pages', 'pages_full', 'lines', 'stays', 'scratch', 'people'] LOOP
        EXECUTE format('CREATE TRIGGER noted AFTER INSERT OR UPDATE OR DELETE ON %I
                        FOR EACH ROW EXECUTE FUNCTION audit.note()', name);
        EXECUTE format('CREATE TRIGGER emptied AFTER TRUNCATE ON %I
                        FOR EACH STATEMENT EXECUTE FUNCTION audit.note()', name);
    END LOOP;
END $$;
CREATE PUBLICATION sluice FOR ALL TABLES;
