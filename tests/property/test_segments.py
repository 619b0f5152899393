"""WAL segments are named as the server names them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgcopydb.daemon.segments import Segment
from pgcopydb.postgres.lsn import Lsn
from tests.fix_servers import Database

sizes = st.sampled_from([1 << shift for shift in range(20, 31)])
positions = st.integers(0, (1 << 63) - 1).map(Lsn)


@given(positions, st.integers(1, 0xFFFFFFFF), sizes)
def test_a_name_is_read_back(lsn: Lsn, timeline: int, size: int) -> None:
    segment = Segment.holding(lsn, timeline, size)
    assert Segment.parse(segment.name, size) == segment
    assert segment.start <= lsn < segment.end
    assert segment.end.bytes_since(segment.start) == size


def test_the_server_says_the_same(source_db: Database) -> None:
    size = int(source_db.fetch("SELECT setting FROM pg_settings WHERE name = 'wal_segment_size'")[0][0])
    rows = source_db.fetch(
        "SELECT lsn::text, pg_walfile_name(lsn) FROM generate_series(1, 500) i,"
        " LATERAL (SELECT '0/0'::pg_lsn + (i * 123456789012.0 + 1) AS lsn) AS position"
    )
    for text, name in rows:
        assert Segment.holding(Lsn.parse(text), 1, size).name == name


@pytest.mark.parametrize(
    "name", ["", "00000001000000000000000", "0000000100000000000000G0", "000000010000000000000100"]
)
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(ValueError, match="is not the name of a WAL segment"):
        Segment.parse(name, 16 << 20)
