-- Events by month, and the accounts of pgbench.
INSERT INTO shop.events (id, at, customer_id, kind, payload)
SELECT
    md5('event ' || i)::uuid, timestamptz '2023-12-20 00:00:00+00' + i * interval '130 seconds' / current_setting('shop.scale')::float8,
    CASE WHEN pg_temp.below(4, i, 1) > 0 THEN 1 + pg_temp.below(pg_temp.scaled(60000), i, 2) END,
    kind,
    jsonb_build_object(
        'session', md5('session ' || i / 7),
        'page', '/products/' || pg_temp.below(pg_temp.scaled(10000), i, 4),
        'agent', pg_temp.pick('{"Mozilla/5.0 (X11; Linux x86_64)","Mozilla/5.0 (iPhone)","Opera/9.80","curl/8.5.0"}', i, 5),
        'duration_ms', pg_temp.below(60000, i, 6) / 10.0,
        'basket', CASE WHEN kind = 'checkout' THEN jsonb_build_array(pg_temp.below(9999, i, 7), pg_temp.below(9999, i, 8)) END
    )
FROM generate_series(1, pg_temp.scaled(500000)) AS i
CROSS JOIN LATERAL (SELECT pg_temp.pick('{view,view,view,search,"add to basket",checkout}', i, 3)) AS k (kind);

INSERT INTO public.pgbench_branches (bid, bbalance) SELECT b, 0 FROM generate_series(1, pg_temp.scaled(10)) AS b;
INSERT INTO public.pgbench_tellers (tid, bid, tbalance) SELECT t, 1 + (t - 1) / 10, 0 FROM generate_series(1, 10 * pg_temp.scaled(10)) AS t;
INSERT INTO public.pgbench_accounts (aid, bid, abalance, filler)
SELECT a, 1 + (a - 1) / 100000, 0, '' FROM generate_series(1, 100000 * pg_temp.scaled(10)) AS a;

-- Their keys and indexes.
ALTER TABLE shop.events ADD PRIMARY KEY (id, at);
CREATE INDEX events_customer ON shop.events (customer_id, at);
CREATE INDEX events_at ON shop.events USING brin (at);
ALTER TABLE public.pgbench_branches ADD PRIMARY KEY (bid);
ALTER TABLE public.pgbench_tellers ADD PRIMARY KEY (tid);
ALTER TABLE public.pgbench_accounts ADD PRIMARY KEY (aid);
