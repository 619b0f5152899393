# A migration in single steps, with the short options of each.
export PGCOPYDB_SOURCE_PGURI=$SOURCE PGCOPYDB_TARGET_PGURI=$TARGET

pgcopydb snapshot -f -p test_decoding -s c_steps -D "$D" >"$D.id" &
until [ -s "$D.id" ]; do sleep 0.1; done
pgcopydb stream setup -p test_decoding -s c_steps -o pgcopydb -D "$D" -R -N "$(cat "$D/snapshot")" >/dev/null
pgcopydb copy schema -D "$D" -R
pgcopydb copy data -D "$D" -R -f
kill %1
wait %1

psql -qX "$SOURCE" -c "INSERT INTO app.shared (id, t) SELECT i, 'more' FROM generate_series(5000, 5100) i" \
    -c "UPDATE app.customer SET name = name WHERE id < 5" -c "DELETE FROM old.stale"
endpos=$(pgcopydb stream sentinel set endpos -C -D "$D")
pgcopydb stream prefetch -D "$D" -R -p test_decoding -s c_steps -E "$endpos"
test "$(pgcopydb stream sentinel get -a -D "$D")" = disabled
pgcopydb stream apply --target - -D "$D" | grep -q "^BEGIN"
pgcopydb stream sentinel set prefetch -D "$D"
pgcopydb stream sentinel set apply -D "$D"
pgcopydb stream catchup -D "$D" -R -C -s c_steps --replay-no-op-updates
for what in --startpos:-s --endpos:-e --write-lsn:-w --transform-lsn:-t --flush-lsn:-f --replay-lsn:-r; do
    long=$(pgcopydb stream sentinel get "${what%:*}" -D "$D")
    test "$long" = "$(pgcopydb stream sentinel get "${what#*:}" -D "$D" -H localhost -P 5442)"
    echo "$what $long" >>"$D/positions"
done

psql -qX "$SOURCE" -c "INSERT INTO app.shared (id, t) VALUES (6000, 'later')"
endpos=$(pgcopydb stream sentinel set endpos -C -D "$D" -J | grep -o '[0-9A-F]*/[0-9A-F]*')
pgcopydb stream receive -D "$D" -R -E "$endpos"
pgcopydb stream transform -D "$D"
pgcopydb stream apply -D "$D"
pgcopydb copy sequences -D "$D" -R -C
pgcopydb stream sentinel setup 0/1 0/0 -D "$D"
pgcopydb stream sentinel set startpos 0/2 -D "$D" >/dev/null
test "$(pgcopydb stream sentinel get -s -D "$D")" = 0/2
pgcopydb stream cleanup -s c_steps -o pgcopydb -D "$D"
