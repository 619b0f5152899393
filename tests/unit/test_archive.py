"""The list of pg_restore, the messages of pg_restore, and what is left out of a restore."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from pgcopydb.bootstrap.archive import attached_to, parse_list, write_list
from pgcopydb.bootstrap.options import RestoreOptions
from pgcopydb.bootstrap.post_data import select_post_data
from pgcopydb.bootstrap.pre_data import select_pre_data
from pgcopydb.bootstrap.restore import ErrorReader, option_flags
from pgcopydb.bootstrap.script import rewrite
from pgcopydb.runtime.errors import CorruptState
from pgcopydb.runtime.logs import NOTICE

LIST = """\
;
; Archive created at 2026-11-23 06:40:36 UTC
;     dbname: rich
;
; Selected TOC Entries:
;
3558; 0 0 ENCODING - ENCODING 
3561; 1262 16384 DATABASE - rich postgres
7; 2615 16388 SCHEMA - a b postgres
8; 2615 16387 SCHEMA - app app_owner
3562; 0 0 COMMENT - SCHEMA app app_owner
;	depends on: 8
3008; 3456 16529 COLLATION app coll postgres
;	depends on: 8
3564; 0 0 COMMENT app COLLATION coll postgres
;	depends on: 3008
2; 3079 16389 EXTENSION - hstore 
;	depends on: 8
3565; 0 0 COMMENT - EXTENSION hstore 
;	depends on: 2
936; 0 0 SHELL TYPE app base postgres
223; 1259 16554 TABLE a b c d "q"; -- postgres
;	depends on: 7
3568; 0 0 SEQUENCE OWNED BY app customers_id_seq app_owner
;	depends on: 218
3364; 0 0 TABLE ATTACH app parts_1 postgres
;	depends on: 228 227
3370; 2606 16543 CONSTRAINT app customers customers_pkey app_owner
3375; 1259 16572 INDEX app mv_n postgres
3572; 0 0 COMMENT app INDEX mv_n postgres
;	depends on: 3375
3385; 0 0 INDEX ATTACH app parts_1_pkey postgres
3390; 2606 16573 FK CONSTRAINT app orders fk postgres
3539; 0 16536 ROW SECURITY app customers app_owner
3543; 6106 16610 PUBLICATION TABLE app pub customers app_owner
3545; 6237 16613 PUBLICATION TABLES IN SCHEMA a b pub_s a b postgres
2196; 826 16616 DEFAULT ACL app DEFAULT PRIVILEGES FOR TABLES postgres
3553; 0 16568 MATERIALIZED VIEW DATA app mv postgres
3700; 2613 99 BLOB METADATA - 99..99 postgres
"""  # noqa: W291  pg_restore prints the empty owner of an extension


def test_every_entry_is_read_with_its_numbers_and_kind() -> None:
    entries = {entry.dump_id: entry for entry in parse_list(LIST)}
    assert len(entries) == 24
    assert entries[223].address == (1259, 16554)
    assert (entries[223].kind, entries[223].rest) == ("TABLE", 'a b c d "q"; -- postgres')
    assert entries[3364].depends == (228, 227)
    assert entries[7].depends == ()
    kinds = {dump_id: entry.kind for dump_id, entry in entries.items()}
    assert kinds[3364] == "TABLE ATTACH"
    assert kinds[3385] == "INDEX ATTACH"
    assert kinds[3390] == "FK CONSTRAINT"
    assert kinds[3543] == "PUBLICATION TABLE"
    assert kinds[3545] == "PUBLICATION TABLES IN SCHEMA"
    assert kinds[2196] == "DEFAULT ACL"
    assert kinds[3553] == "MATERIALIZED VIEW DATA"
    assert kinds[3568] == "SEQUENCE OWNED BY"
    assert kinds[3539] == "ROW SECURITY"
    assert kinds[3700] == "BLOB METADATA"
    assert str(entries[3390]) == "FK CONSTRAINT app orders fk postgres"


def test_a_kind_that_is_not_known_is_kept_and_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(NOTICE, "pgcopydb"):
        (entry,) = parse_list("12; 9999 16400 PROPERTY GRAPH app g postgres\n")
    assert entry.address == (9999, 16400)
    assert str(entry) == "PROPERTY GRAPH app g postgres"
    assert "PROPERTY GRAPH app g" in caplog.text


def test_a_very_long_signature_is_one_entry() -> None:
    signature = ", ".join(f"OUT column_{number} double precision" for number in range(200))
    (entry,) = parse_list(f"12; 0 0 ACL public FUNCTION f({signature}) postgres\n;\tdepends on: 3\n")
    assert entry.kind == "ACL"
    assert entry.depends == (3,)


@pytest.mark.parametrize("line", ["not an entry", "12 1259 16400 TABLE a b c", "12; 1259 TABLE a b c"])
def test_a_line_that_is_no_entry_is_an_error(line: str) -> None:
    with pytest.raises(CorruptState, match="line 2"):
        parse_list(f"; head\n{line}\n")


def test_a_list_is_written_as_it_was_read(tmp_path: Path) -> None:
    entries = parse_list(LIST)
    write_list(entries[1:3], tmp_path / "list")
    assert (tmp_path / "list").read_text() == (
        "3561; 1262 16384 DATABASE - rich postgres\n7; 2615 16388 SCHEMA - a b postgres\n"
    )


def test_what_hangs_on_an_entry_is_found_by_number() -> None:
    entries = parse_list(LIST)
    assert [entry.dump_id for entry in attached_to(entries, {2, 3008})] == [3564, 3565]


@pytest.mark.parametrize(
    ("options", "stood_before", "expected"),
    [
        (RestoreOptions(), set(), {3561}),
        (RestoreOptions(), {8}, {3561, 8}),
        (RestoreOptions(), {8, 2}, {3561, 8, 2, 3565}),
        (RestoreOptions(skip_ext_comments=True), set(), {3561, 3565}),
        (RestoreOptions(skip_extensions=True), set(), {3561, 2, 3565}),
        (RestoreOptions(skip_collations=True), set(), {3561, 3008, 3564}),
    ],
)
def test_what_pre_data_leaves_out(options: RestoreOptions, stood_before: set[int], expected: set[int]) -> None:
    entries = parse_list(LIST)
    kept, left_out = select_pre_data(entries, options, stood_before)
    assert {entry.dump_id for those in left_out.values() for entry in those} == expected
    assert [entry for entry in entries if entry.dump_id not in expected] == kept


def test_the_comment_of_an_extension_that_is_not_in_the_archive_is_left_out_too() -> None:
    entries = parse_list("5; 0 0 COMMENT - EXTENSION plpgsql \n")
    assert select_pre_data(entries, RestoreOptions(skip_ext_comments=True), set())[0] == []
    assert select_pre_data(entries, RestoreOptions(), set())[0] == entries


def test_what_post_data_leaves_out() -> None:
    entries = parse_list(LIST)
    kept, left_out = select_post_data(entries, {(2606, 16543), (1259, 16572)})
    assert {entry.dump_id for entry in left_out} == {3370, 3375, 3553}
    # The comment is on what the workers built, so it is still needed.
    assert 3572 in {entry.dump_id for entry in kept}


def test_options_become_flags() -> None:
    assert option_flags(RestoreOptions()) == []
    assert option_flags(RestoreOptions(no_owner=True, no_acl=True, no_comments=True, no_tablespaces=True)) == [
        "--no-owner",
        "--no-acl",
        "--no-comments",
        "--no-tablespaces",
    ]


MESSAGES = """\
pg_restore: connecting to database for restore
pg_restore: while INITIALIZING:
pg_restore: error: could not execute query: ERROR:  unrecognized configuration parameter "transaction_timeout"
Command was: SET transaction_timeout = 0;

pg_restore: creating FK CONSTRAINT "app.orders fk"
pg_restore: while PROCESSING TOC:
pg_restore: from TOC entry 3390; 2606 16573 FK CONSTRAINT orders fk postgres
pg_restore: error: could not execute query: ERROR:  insert or update on table "orders" violates foreign key constraint
DETAIL:  Key (customer)=(99) is not present in table "customers".
Command was: ALTER TABLE ONLY app.orders
    ADD CONSTRAINT fk FOREIGN KEY (customer) REFERENCES app.customers(id);


pg_restore: from TOC entry 77; 6100 16614 SUBSCRIPTION sub postgres
pg_restore: error: could not execute query: ERROR:  syntax error at or near "FOO"
LINE 1: CREATE SUBSCRIPTION sub CONNECTION 'password=sekret' FOO...
                                                             ^
Command was: CREATE SUBSCRIPTION sub CONNECTION 'password=sekret' FOO;
second line of sekret

NOTICE:  this line stands inside a command, for all that can be known
pg_restore: warning: errors ignored on restore: 3
"""


def test_errors_of_pg_restore_name_their_entry_and_keep_statements_to_themselves(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "pgcopydb")
    reader = ErrorReader(parse_list(LIST))
    for line in MESSAGES.splitlines():
        reader.feed(line)
    timeout, orphan, subscription = reader.errors()
    assert timeout.command == "SET transaction_timeout = 0;"
    assert str(orphan) == (
        'FK CONSTRAINT app orders fk postgres: ERROR: insert or update on table "orders" violates foreign key'
        ' constraint DETAIL: Key (customer)=(99) is not present in table "customers".'
    )
    assert str(subscription) == 'SUBSCRIPTION sub postgres: ERROR: syntax error at or near "FOO"'
    assert "sekret" not in caplog.text


def test_a_lost_connection_is_told_from_a_refusal() -> None:
    reader = ErrorReader([])
    reader.feed("pg_restore: error: could not execute query: server closed the connection unexpectedly")
    reader.feed("\tThis probably means the server terminated abnormally")
    reader.feed('pg_restore: error: could not execute query: ERROR:  role "x" does not exist')
    assert [error.lost_connection for error in reader.errors()] == [True, False]


SCRIPT = b"""\
SET transaction_timeout = 0;
-- Name: t; Type: TABLE; Schema: public; Owner: postgres
CREATE TABLE public.t (id int);
ALTER TABLE ONLY public.t ALTER COLUMN id SET (pg_attver=3);
ALTER TABLE ONLY public.t ALTER COLUMN n SET (n_distinct=5, pg_attver=12);
ALTER TABLE ONLY public.t ALTER COLUMN v SET DEFAULT 'SET (pg_attver=1);';
SET transaction_timeout = 0;
"""


def test_a_script_is_rid_of_column_versions_and_of_nothing_else() -> None:
    lines = SCRIPT.splitlines(keepends=True)
    assert list(rewrite(lines, drop_transaction_timeout=False)) == [
        *lines[:3],
        b"ALTER TABLE ONLY public.t ALTER COLUMN n SET (n_distinct=5);\n",
        *lines[5:],
    ]
    for_an_older_target = list(rewrite(lines, drop_transaction_timeout=True))
    assert for_an_older_target[0] == lines[1]
    assert for_an_older_target[-1] == lines[6]
