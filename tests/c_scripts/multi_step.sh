# Each step by itself under one snapshot; options are given to all steps alike, whether they mean anything to a step.
export PGCOPYDB_SOURCE_PGURI=$SOURCE PGCOPYDB_TARGET_PGURI=$TARGET
options="--dir $D --resume --no-owner --skip-vacuum --table-jobs 2 --index-jobs 2 --split-at 64kB"

pgcopydb snapshot --dir "$D" >"$D.id" &
until [ -s "$D.id" ]; do sleep 0.1; done
test "$(cat "$D.id")" = "$(cat "$D/snapshot")"
PGCOPYDB_SNAPSHOT=$(cat "$D/snapshot")
export PGCOPYDB_SNAPSHOT

pgcopydb dump pre-data --dir "$D" --resume
pgcopydb dump post-data --dir "$D" --resume
pgcopydb dump schema --dir "$D" --resume --target "$TARGET" -P
pgcopydb list schema --dir "$D" --json >"$D/list"
pgcopydb restore parse-list --dir "$D" >"$D/entries"
pg_restore --list "$D/schema/schema.dump" >"$D/toc"
pgcopydb restore parse-list "$D/toc" >/dev/null
pgcopydb restore pre-data --dir "$D" --resume --no-owner --skip-ext-comments -N "$PGCOPYDB_SNAPSHOT"
pgcopydb copy extensions $options
pgcopydb copy table-data $options --skip-db-properties --follow --create-slot
pgcopydb copy blobs $options
pgcopydb copy sequences $options --drop-if-exists
pgcopydb copy indexes $options
pgcopydb copy constraints $options
pgcopydb restore post-data --dir "$D" --resume --no-owner -E -C
pgcopydb list progress --dir "$D" --json >"$D/progress"
kill %1
wait %1
