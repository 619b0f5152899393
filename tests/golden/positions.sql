BEGIN; -- {"xid":760,"lsn":"0/3000028"}
ROLLBACK; -- {"lsn":"0/3000028"}
-- KEEPALIVE {"lsn":"0/3000100"}
-- ENDPOS {"lsn":"0/3000200"}
