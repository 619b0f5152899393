# One command, short options only.
pgcopydb clone -v -S "$SOURCE" -T "$TARGET" -D "$D" -J 2 -I 2 -j 2 -b 2 -L 64kB -u 3 -k -a -c -i -y -X -M -g -U -n
pgcopydb list progress -D "$D" -y -J >"$D/progress"
pgcopydb ping -S "$SOURCE" -T "$TARGET" -q
