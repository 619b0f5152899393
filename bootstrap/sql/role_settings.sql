SELECT r.rolname, option.name, option.value
  FROM pg_catalog.pg_db_role_setting s
  JOIN pg_catalog.pg_roles r ON r.oid = s.setrole AND r.oid >= 16384
 CROSS JOIN LATERAL unnest(s.setconfig) WITH ORDINALITY AS config (text, position)
 CROSS JOIN LATERAL (SELECT split_part(config.text, '=', 1), substr(config.text, strpos(config.text, '=') + 1)) AS option (name, value)
 WHERE s.setdatabase = 0
 ORDER BY 1, config.position
