# What scripts branch on.
expect() { # CODE COMMAND…
    local code=$1 got=0
    shift
    "$@" >"$D.out" 2>"$D.err" </dev/null || got=$?
    if [ $got != "$code" ]; then
        echo "$* ended with $got, not with $code" >&2
        cat "$D.err" >&2
        exit 1
    fi
}
unset PGCOPYDB_SOURCE_PGURI PGCOPYDB_TARGET_PGURI
empty() {
    if [ -s "$1" ]; then
        echo "not expected:" >&2
        cat "$1" >&2
        exit 1
    fi
}

for nothing in "" copy dump restore list stream "stream sentinel" "stream sentinel set" compare nonsense "list nonsense"; do
    expect 1 pgcopydb $nothing
    empty "$D.out"
    grep -q "Usage: pgcopydb" "$D.err"
done
for help in help --help -h "clone --help" "copy -h" "help copy db" "list help" --version -V version "version --json" "-J version"; do
    expect 0 pgcopydb $help
    empty "$D.err"
    test -s "$D.out"
done
for gone in copy-db "create snapshot" "create slot" "create origin"; do
    expect 1 pgcopydb $gone
    empty "$D.out"
done
expect 1 pgcopydb clone --no-such-option
expect 1 pgcopydb clone --target "$TARGET"
expect 1 pgcopydb clone -S "$SOURCE" -T "$TARGET" -D "$D" -p nonsense
expect 1 pgcopydb clone -S "$SOURCE" -T "$TARGET" -D "$D" -r -R
expect 1 pgcopydb clone -S "$SOURCE" -T "$TARGET" -D "$D" -J 129
expect 1 pgcopydb follow -S "$SOURCE" -T "$TARGET" -D "$D" -r
expect 1 pgcopydb list tables -S "$SOURCE" -x
expect 2 pgcopydb list tables -S nonsense
expect 3 pgcopydb list progress -D "$D"
expect 3 pgcopydb follow -S "$SOURCE" -T "$TARGET" -D "$D"
expect 3 pgcopydb restore pre-data -T "$TARGET" -D "$D"
expect 6 pgcopydb list tables -S "${SOURCE%/*}/not_there"
expect 7 pgcopydb clone -S "$SOURCE" -T "${TARGET%/*}/not_there" -D "$D"
expect 12 pgcopydb ping -S "$SOURCE" -T "host=localhost port=1" --timeout 0
expect 12 pgcopydb compare data -S "$SOURCE" -T "$TARGET"
expect 0 pgcopydb clone --sour "$SOURCE" --targ="$TARGET" --dir "$D" --table-j 2 --no-own
expect 0 pgcopydb compare data -S "$SOURCE" -T "$TARGET"
expect 3 pgcopydb clone -S "$SOURCE" -T "$TARGET" -D "$D"
expect 0 pgcopydb fork -S "$SOURCE" -T "$TARGET" -D "$D" -R
