# A migration as one command; its end is raised afterwards, and it is continued.
export PGCOPYDB_SOURCE_PGURI=$SOURCE PGCOPYDB_TARGET_PGURI=$TARGET
export XDG_DATA_HOME=/nonexistent
applied() { test "$(pgcopydb -q stream sentinel get --apply --dir "$D" 2>/dev/null)" = enabled; }

pgcopydb clone --follow --dir "$D" --plugin pgoutput --slot-name c_follow --origin c_follow -t \
    --host localhost --port 5442 --replay-no-op-updates --not-consistent 2>"$D.clone" &
until applied; do kill -0 %1; sleep 0.2; done
psql -qX "$SOURCE" -c "INSERT INTO app.shared (id, t) SELECT i, 'more' FROM generate_series(5000, 5100) i" \
    -c "UPDATE app.customer SET name = name || '!'" -c "DELETE FROM app.orders WHERE id < 10" \
    -c "SELECT nextval('app.orders_id_seq')" >/dev/null
endpos=$(pgcopydb stream sentinel set endpos --current --dir "$D")
wait %1
test "$endpos" = "$(pgcopydb stream sentinel get --endpos --dir "$D")"

# At an end that was reached there is nothing to do.
pgcopydb follow --resume --dir "$D" --endpos "$endpos" --plugin pgoutput --slot-name c_follow --table-jobs 2

psql -qX "$SOURCE" -c "INSERT INTO app.shared (id, t) VALUES (6000, 'after the end')"
endpos=$(pgcopydb stream sentinel set endpos --current --dir "$D" --host localhost --port 5442)
pgcopydb stream replay --resume --dir "$D" --endpos "$endpos" --max-replaydb-size 1GB
pgcopydb copy sequences --resume --dir "$D" --not-consistent
pgcopydb stream sentinel get --json --dir "$D" >"$D/sentinel"
pgcopydb stream prune --dry-run --dir "$D" >"$D/prune"
pgcopydb stream cleanup --dir "$D" --slot-name c_follow --origin c_follow
