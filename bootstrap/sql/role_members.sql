-- Who is in which role, whoever made it a member: one that was granted twice has what either grant gives. Predefined
-- roles may be the group.
SELECT g.rolname, m.rolname, bool_or(a.admin_option), bool_or({inherit}), bool_or({set})
  FROM pg_catalog.pg_auth_members a
  JOIN pg_catalog.pg_roles g ON g.oid = a.roleid
  JOIN pg_catalog.pg_roles m ON m.oid = a.member AND m.oid >= 16384
 GROUP BY 1, 2
 ORDER BY 1, 2
