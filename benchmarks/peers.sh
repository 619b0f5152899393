#!/usr/bin/env bash
# Sets up what the benchmarks compare with, from Debian's packages: pgcopydb (the C program, 0.10 in Debian 12) and
# PostgreSQL 15 with its client tools. As root it installs what is missing; anybody else is told what to install.
# Exits 0 when every peer is there, 5 when one is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

missing=()
[ -x /usr/bin/pgcopydb ] || missing+=(pgcopydb)
[ -x /usr/lib/postgresql/15/bin/postgres ] || missing+=(postgresql-15)
[ -x /usr/lib/postgresql/15/bin/pg_dump ] || missing+=(postgresql-client-15)

if [ ${#missing[@]} -gt 0 ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        # Debian's server package would start a cluster of its own at once; install-servers keeps it from that.
        scripts/install-servers
        apt-get update -qq || true
        DEBIAN_FRONTEND=noninteractive apt-get install -qq -y "${missing[@]}" >/dev/null || exit 5
    else
        echo "missing: ${missing[*]}; on Debian 12, as root: apt-get install ${missing[*]}" >&2
        exit 5
    fi
fi
/usr/bin/pgcopydb --version 2>/dev/null | head -1
/usr/lib/postgresql/15/bin/pg_dump --version
