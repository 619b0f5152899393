-- The catalog of the source and the list of work, with what is done of it. Times are seconds since the epoch.
-- A state is one of: pending, running, done, gone (dropped on the source meanwhile), failed.

CREATE TABLE setup (
    key text PRIMARY KEY,
    value text NOT NULL                 -- JSON
);

CREATE TABLE step (
    name text PRIMARY KEY,
    started real NOT NULL,
    finished real
);

CREATE TABLE namespace (
    name text PRIMARY KEY,
    owner text NOT NULL
);

CREATE TABLE copied_table (
    oid integer PRIMARY KEY,
    schema text NOT NULL,
    name text NOT NULL,
    owner text NOT NULL,
    access_method text NOT NULL,
    persistence text NOT NULL,          -- p, u
    is_partition integer NOT NULL,
    filenode integer NOT NULL,          -- tells whether the table was rewritten or truncated after the snapshot
    pages integer NOT NULL,             -- heap alone
    rows integer NOT NULL,              -- planner's estimate, -1 when unknown
    bytes integer NOT NULL,             -- with TOAST
    part_key text,                      -- integer column with a unique index
    via_schema text,                    -- the root that rows are written through, when its partitions differ on the
    via_name text,                      -- target
    replica_identity_index text,
    clustered_index text,
    frozen integer NOT NULL DEFAULT 0,  -- copied with FREEZE
    with_rows integer NOT NULL DEFAULT 1,
    read_at text,                       -- LSN up to which its rows have all changes, where that is not the stream's first
    copied real,                        -- all parts are in
    indexed real,                       -- all indexes, constraints and settings are in
    vacuumed real
);

CREATE TABLE copied_column (
    table_oid integer NOT NULL,
    number integer NOT NULL,
    name text NOT NULL,
    type text NOT NULL,
    generated integer NOT NULL,
    identity text NOT NULL,
    binary_safe integer NOT NULL,
    not_null integer NOT NULL,
    built_in integer NOT NULL,
    PRIMARY KEY (table_oid, number)
) WITHOUT ROWID;

CREATE TABLE copy_part (
    table_oid integer NOT NULL,
    part integer NOT NULL,              -- from 1
    parts integer NOT NULL,
    kind text NOT NULL,                 -- whole, null, key, ctid
    lower integer,
    upper integer,                      -- inclusive; none: open-ended
    bytes_estimate integer NOT NULL,
    state text NOT NULL DEFAULT 'pending',
    snapshot text,                      -- under which it is read
    xid text,                           -- of the target's transaction, known before it commits: XID@LIFE OF THE SERVER
    rows integer,
    bytes integer,
    started real,
    finished real,
    error text,
    PRIMARY KEY (table_oid, part)
) WITHOUT ROWID;
CREATE INDEX copy_part_state ON copy_part (state, bytes_estimate DESC);

CREATE TABLE built_index (
    oid integer PRIMARY KEY,
    table_oid integer NOT NULL,
    schema text NOT NULL,
    name text NOT NULL,
    sql text NOT NULL,
    tablespace text,
    is_unique integer NOT NULL,
    bytes integer NOT NULL,             -- as of the source's statistics
    statistics text NOT NULL,           -- JSON: [[column number, target], ...]
    extensions text NOT NULL,           -- JSON: extensions that the index depends on
    state text NOT NULL DEFAULT 'pending',
    started real,
    finished real,
    error text
);
CREATE INDEX built_index_table ON built_index (table_oid);

CREATE TABLE built_constraint (
    oid integer PRIMARY KEY,
    table_oid integer NOT NULL,
    index_oid integer NOT NULL,         -- 0 when the constraint builds its own index
    name text NOT NULL,
    kind text NOT NULL,                 -- p, u, x
    is_deferrable integer NOT NULL,
    is_deferred integer NOT NULL,
    definition text NOT NULL,
    tablespace text,
    state text NOT NULL DEFAULT 'pending',
    started real,
    finished real,
    error text
);
CREATE INDEX built_constraint_table ON built_constraint (table_oid);

CREATE TABLE foreign_key (
    -- Keys that may be added first and validated later; what is valid, the target says.
    oid integer PRIMARY KEY,
    schema text NOT NULL,
    table_name text NOT NULL,
    name text NOT NULL,
    definition text NOT NULL,
    pages integer NOT NULL              -- of the table, on the source
);

CREATE TABLE partitioned_table (
    oid integer PRIMARY KEY,
    schema text NOT NULL,
    name text NOT NULL,
    is_root integer NOT NULL,
    analyzed real
);

CREATE TABLE placed_object (
    -- What has a tablespace of its own: relations, and constraints by that of their index.
    catalog_oid integer NOT NULL,       -- numbers of the source
    oid integer NOT NULL,
    kind text NOT NULL,                 -- table, index, materialized view, constraint
    schema text NOT NULL,
    name text NOT NULL,
    tablespace text NOT NULL,           -- of the source
    PRIMARY KEY (catalog_oid, oid)
) WITHOUT ROWID;

CREATE TABLE sequence (
    oid integer PRIMARY KEY,
    schema text NOT NULL,
    name text NOT NULL,
    owned_by text
);

CREATE TABLE extension (
    oid integer PRIMARY KEY,
    name text NOT NULL,
    schema text NOT NULL,
    version text NOT NULL,
    position integer NOT NULL           -- those that it requires come first
);

CREATE TABLE extension_config (
    oid integer PRIMARY KEY,
    extension text NOT NULL,
    schema text NOT NULL,
    name text NOT NULL,
    kind text NOT NULL,                 -- r, S
    condition text NOT NULL,
    position integer NOT NULL,          -- referenced tables come first
    state text NOT NULL DEFAULT 'pending',
    xid text,
    rows integer,
    read_at text                        -- as of copied_table
);

CREATE TABLE large_object_batch (
    batch integer PRIMARY KEY,
    first_oid integer NOT NULL,
    last_oid integer NOT NULL,
    objects integer NOT NULL,
    state text NOT NULL DEFAULT 'pending',
    bytes integer,
    started real,
    finished real,
    error text
);

CREATE TABLE large_object_copied (
    -- What this run has made on the target, some at a time; a row may be there twice.
    first_oid integer NOT NULL,
    last_oid integer NOT NULL,
    oids text NOT NULL                  -- JSON
);
CREATE INDEX large_object_copied_oids ON large_object_copied (first_oid, last_oid);

CREATE TABLE database_setting (
    role text NOT NULL,                 -- empty: for everybody
    name text NOT NULL,
    value text NOT NULL,
    PRIMARY KEY (role, name)
) WITHOUT ROWID;

CREATE TABLE matview (
    oid integer PRIMARY KEY,
    schema text NOT NULL,
    name text NOT NULL,
    populated integer NOT NULL,
    level integer NOT NULL,             -- one above the highest matview that it reads
    state text NOT NULL DEFAULT 'pending',
    started real,
    finished real,
    error text
);

CREATE TABLE left_out (
    -- Objects of the source that filters leave out, with all that depends on them.
    catalog_oid integer NOT NULL,
    oid integer NOT NULL,
    type text NOT NULL,                 -- as pg_identify_object says
    identity text NOT NULL,
    PRIMARY KEY (catalog_oid, oid)
) WITHOUT ROWID;

CREATE TABLE spared_sequence (
    -- Sequences that are kept, though the table is not that owns them.
    oid integer PRIMARY KEY
);

CREATE TABLE object_address (
    -- How an object of pg_dump's archive is found on any server (pg_identify_object_as_address).
    catalog_oid integer NOT NULL,       -- numbers of the source
    oid integer NOT NULL,
    type text NOT NULL,
    names text NOT NULL,                -- JSON
    args text NOT NULL,                 -- JSON
    PRIMARY KEY (catalog_oid, oid)
) WITHOUT ROWID;

CREATE TABLE target_object (
    -- What stood on the target before this run: never dropped, never created again.
    kind text NOT NULL,                 -- schema, extension
    name text NOT NULL,
    PRIMARY KEY (kind, name)
) WITHOUT ROWID;

CREATE TABLE activity (
    -- What each worker does right now; meaningful while the run's lock is held.
    worker text PRIMARY KEY,
    doing text NOT NULL,
    table_oid integer,
    bytes integer NOT NULL DEFAULT 0,
    started real NOT NULL
);
