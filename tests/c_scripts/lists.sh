# Every list, with all options that lists share, as people read it and as JSON.
export PGCOPYDB_SOURCE_PGURI=$SOURCE
mkdir -p "$D"
printf '[exclude-table]\npublic.tmp_1\n' >"$D/filters.ini"
for what in databases extensions collations tables sequences indexes schema; do
    pgcopydb list $what -D "$D/work" -f -R -I -N none -P -m -k -u 2 >"$D/$what.text"
    pgcopydb list $what --dir "$D/work" --resume --not-consistent -J >"$D/$what.json"
done
pgcopydb list extensions -a -J >"$D/available.json"
pgcopydb list tables -F "$D/filters.ini" -x -J >"$D/skipped.json"
pgcopydb list tables --filter "$D/filters.ini" --json >"$D/filtered.json"
pgcopydb list depends -F "$D/filters.ini" -x -J >"$D/depends.json"
pgcopydb list table-parts -s app -t orders -L 8kB -u 4 -k -J >"$D/parts.json"
pgcopydb list table-parts --schema-name app --table-name orders --split-at 8kB --split-max-parts 4 --json >"$D/again.json"
cmp "$D/parts.json" "$D/again.json"
unset PGCOPYDB_SOURCE_PGURI
pgcopydb list indexes -S "$SOURCE" -s app -t customer -J >"$D/indexes_of_one.json"
