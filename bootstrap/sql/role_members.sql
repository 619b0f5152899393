-- Who is in which role; predefined roles may be the group.
SELECT g.rolname, m.rolname, a.admin_option, {inherit}, {set}
  FROM pg_catalog.pg_auth_members a
  JOIN pg_catalog.pg_roles g ON g.oid = a.roleid
  JOIN pg_catalog.pg_roles m ON m.oid = a.member AND m.oid >= 16384
 ORDER BY 1, 2
