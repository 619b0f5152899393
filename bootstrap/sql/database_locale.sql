-- Encoding, collation and character type of this database; who provides them (from 15 on) and that one's own locale.
SELECT pg_catalog.pg_encoding_to_char(encoding), datcollate, datctype,
       coalesce(to_jsonb(d) ->> 'datlocprovider', 'c'),
       coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale', '')
  FROM pg_catalog.pg_database d
 WHERE datname = current_database()
