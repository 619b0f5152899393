"""The end of a COPY stream is found by its bytes exactly where a parser that reads every message finds it."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pgcopydb.postgres.copy_frames import (
    TAIL,
    AnswerScanner,
    BinaryScanner,
    Message,
    TailScanner,
    TextScanner,
    take_message,
)

Scanner = TextScanner | TailScanner | BinaryScanner | AnswerScanner


def message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack(">I", len(body) + 4) + body


def diagnostic(kind: bytes, severity: str, localized: str, text: str) -> bytes:
    fields = [("S", localized), ("V", severity), ("C", "22012"), ("M", text), ("F", "int.c"), ("R", "int4div")]
    return message(kind, b"".join(name.encode() + value.encode() + b"\0" for name, value in fields) + b"\0")


READY = st.sampled_from([message(b"Z", status) for status in (b"I", b"T", b"E")])
COMPLETE = message(b"C", b"COPY 123\0")
DONE = message(b"c", b"")

# What a row would have to hold to be taken for something else.
LOOK_ALIKES = [
    b"d", b"c", b"C", b"Z", b"E", b"N", b"S", b"VERROR", b"SERROR", b"VNOTICE", b"COPY 1",
    b"\x01\x01\x01\x05", b"d\x01\x01\x01", b"\x04", b"\x05I", b"ESERROR", b"NSNOTICE", b"\xff\xfe", "É".encode(),
]  # fmt: skip
text_pieces = st.one_of(
    st.sampled_from(LOOK_ALIKES),
    st.binary(max_size=30).map(lambda data: data.replace(b"\0", b"0").replace(b"\n", b"1")),
)
text_rows = st.lists(text_pieces, max_size=8).map(lambda pieces: b"".join(pieces) + b"\n")
# Lengths whose bytes are letters that begin messages, or end in zero: 0x0053 is S, 0x0045 is E, 0x0100, 0x5300, 0x4e00.
odd_lengths = st.sampled_from(
    [0x45, 0x4E, 0x53, 0x5A, 0x63, 0x100, 0x200, 0x4500, 0x4E00, 0x5300, 0x5A00, 0x10000, 0x53000]
)
long_rows = st.builds(
    lambda length, fill, start: (start + fill * length)[: length - 5] + b"\n",
    odd_lengths,
    st.sampled_from([b"V", b"S", b"x", b"VERROR", b"c"]),
    st.sampled_from([b"", b"VERROR", b"VNOTICE", b"I", b"E"]),
)
notices = st.builds(
    lambda severity, localized, text: diagnostic(b"N", severity, localized, text),
    st.sampled_from(["NOTICE", "WARNING", "INFO", "DEBUG", "LOG"]),
    st.sampled_from(["NOTICE", "HINWEIS", "ПРЕДУПРЕЖДЕНИЕ", "警告"]),
    st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=300),
)
parameters = st.sampled_from([message(b"S", b"TimeZone\0UTC\0"), message(b"S", b"a\0\0"), message(b"S", b"\0\0")])
errors = st.builds(
    lambda severity, localized, text: diagnostic(b"E", severity, localized, text),
    st.sampled_from(["ERROR", "FATAL"]),
    st.sampled_from(["ERROR", "FEHLER", "ОШИБКА"]),
    st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=300),
)
endings = st.one_of(
    READY.map(lambda ready: DONE + COMPLETE + ready),
    st.tuples(errors, READY).map(b"".join),
)
chunkings = st.lists(
    st.one_of(st.just(1), st.integers(1, 12), st.integers(1, 5000), st.integers(1, 70000)), max_size=60
)


@dataclass
class Parsed:
    """What a stream holds: CopyData bytes in order, and everything else."""

    data: bytes
    messages: list[Message]


def reference(stream: bytes) -> Parsed:
    data, messages, position = b"", [], 0
    buffer = bytearray(stream)
    while position < len(stream):
        taken = take_message(buffer, position, len(buffer))
        assert taken is not None
        found, end = taken
        if found.type == b"d":
            data += stream[position:end]
        else:
            messages.append(found)
        position = end
    return Parsed(data, messages)


def scanned(stream: bytes, chunks: list[int], scanner: Scanner) -> Parsed:
    """Feed the stream in chunks, the way the relay does."""
    data, messages = bytearray(), []
    buffer, position, sizes = bytearray(), 0, iter(chunks)
    while True:
        scan = scanner.scan(buffer, len(buffer))
        data += buffer[: scan.safe]
        del buffer[: scan.safe]
        if scan.at_message and (taken := take_message(buffer, 0, len(buffer))) is not None:
            messages.append(taken[0])
            del buffer[: taken[1]]
            if taken[0].type in (b"c", b"E"):
                # From here on the stream is read message by message.
                rest = reference(bytes(buffer) + stream[position:])
                return Parsed(bytes(data) + rest.data, messages + rest.messages)
            continue
        if position >= len(stream) and isinstance(scanner, AnswerScanner):
            # The source says nothing more.
            settled = scanner.settled(buffer, len(buffer))
            assert settled is not None, "the end of the stream was not recognised"
            rest = reference(bytes(buffer[settled.safe :]))
            return Parsed(bytes(data + buffer[: settled.safe]), messages + rest.messages)
        assert position < len(stream), "the end of the stream was not recognised"
        size = next(sizes, 4096)
        buffer += stream[position : position + size]
        position += size


def frames(rows: list[bytes]) -> bytes:
    return b"".join(message(b"d", row) for row in rows)


middle = st.lists(st.one_of(text_rows, text_rows, long_rows).map(lambda row: message(b"d", row)), max_size=25)
noisy = st.lists(
    st.one_of(
        text_rows.map(lambda row: message(b"d", row)),
        long_rows.map(lambda row: message(b"d", row)),
        notices,
        parameters,
    ),
    max_size=25,
)


@settings(max_examples=300)
@given(noisy, endings, chunkings)
@example([message(b"d", b"\n")] * 3, DONE + COMPLETE + message(b"Z", b"I"), [1] * 50)
def test_text_with_notices(parts: list[bytes], ending: bytes, chunks: list[int]) -> None:
    stream = b"".join(parts) + ending
    assert scanned(stream, chunks, TextScanner()) == reference(stream)


@settings(max_examples=300)
@given(middle, endings, chunkings)
def test_text_without_notices(parts: list[bytes], ending: bytes, chunks: list[int]) -> None:
    stream = b"".join(parts) + ending
    assert scanned(stream, chunks, TailScanner()) == reference(stream)


@settings(max_examples=200)
@given(st.lists(st.binary(max_size=300), max_size=25), endings, chunkings, st.booleans())
def test_binary(rows: list[bytes], ending: bytes, chunks: list[int], imitate: bool) -> None:
    if imitate:
        rows = [row + DONE + COMPLETE + message(b"Z", b"I") for row in rows]
    stream = frames(rows) + ending
    assert scanned(stream, chunks, BinaryScanner()) == reference(stream)


WORD = b"end 0123456789abcdef0123456789abcdef"
OTHER_WORD = b"end 0123456789abcdef0123456789abcdee"
ABORTED = diagnostic(b"E", "ERROR", "FEHLER", "current transaction is aborted").replace(b"22012", b"25P02")


def answer(word: bytes, status: bytes) -> bytes:
    row = message(b"T", struct.pack(">H", 1) + word + b"\0" + struct.pack(">IHIHIH", 0, 0, 23, 4, 0xFFFFFFFF, 0))
    row += message(b"D", struct.pack(">HI", 1, 1) + b"1")
    return row + message(b"C", b"SELECT 1\0") + message(b"Z", status)


answered_endings = st.one_of(
    st.sampled_from([b"I", b"T"]).map(lambda status: DONE + COMPLETE + message(b"Z", status) + answer(WORD, status)),
    errors.map(lambda error: error + message(b"Z", b"I") + answer(WORD, b"I")),
    errors.map(lambda error: error + message(b"Z", b"E") + ABORTED + message(b"Z", b"E")),
)
imitations = st.sampled_from(
    [
        DONE + COMPLETE + message(b"Z", b"T"),
        DONE + COMPLETE + message(b"Z", b"T") + answer(OTHER_WORD, b"T"),
        diagnostic(b"E", "ERROR", "ERROR", "imitated") + message(b"Z", b"E") + ABORTED + message(b"Z", b"E"),
        WORD[:-1],
        b"",
    ]
)


@settings(max_examples=500)
@given(st.lists(st.tuples(st.binary(max_size=300), imitations), max_size=25), answered_endings, chunkings)
def test_binary_without_notices(rows: list[tuple[bytes, bytes]], ending: bytes, chunks: list[int]) -> None:
    stream = frames([row + imitation for row, imitation in rows]) + ending
    assert scanned(stream, chunks, AnswerScanner(WORD)) == reference(stream)


@settings(max_examples=200)
@given(st.lists(st.tuples(st.binary(max_size=50), imitations), min_size=1, max_size=5), answered_endings)
def test_a_chunk_that_ends_with_an_imitation(rows: list[tuple[bytes, bytes]], ending: bytes) -> None:
    parts = [message(b"d", row + imitation) for row, imitation in rows]
    stream = b"".join(parts) + ending
    assert scanned(stream, [len(part) for part in parts], AnswerScanner(WORD)) == reference(stream)


def test_a_row_that_begins_like_the_length_of_copy_done() -> None:
    """A length whose last three bytes are zero, and a payload that begins with 4."""
    stream = frames([b"\x04" + b"x" * ((1 << 24) - 6) + b"\n"]) + DONE + COMPLETE + message(b"Z", b"I")
    assert scanned(stream, [1 << 20] * 20, TextScanner()) == reference(stream)


@pytest.mark.parametrize(("kind", "scanner"), [(b"E", TextScanner), (b"N", TextScanner), (b"E", TailScanner)], ids=repr)
@pytest.mark.parametrize("row", [b"E\n", b"\\N\n", b"1\tN\n"])
@pytest.mark.parametrize("length", [0x5301, 0x53FE])
def test_a_long_diagnostic_behind_a_row_that_ends_like_one(
    kind: bytes, scanner: Callable[[], Scanner], row: bytes, length: int
) -> None:
    """``E 0a`` and a length of 53xx could be taken for a header two bytes too early."""
    severity = "ERROR" if kind == b"E" else "NOTICE"
    said = diagnostic(kind, severity, severity, "")
    said = diagnostic(kind, severity, severity, "x" * (length - len(said) + 1))
    assert len(said) == length + 1
    ending = message(b"Z", b"E") if kind == b"E" else frames([b"last\n"]) + DONE + COMPLETE + message(b"Z", b"I")
    stream = frames([row]) + said + ending
    assert scanned(stream, [1 << 20], scanner()) == reference(stream)


def test_a_frame_whose_length_reads_like_a_parameter_status() -> None:
    """``S 00 00`` as the middle of a length, behind a first byte that could be a newline."""
    for length in (0x00530000, 0x00530002):
        row = b"\x01\x02" + b"x" * (length - 4 - 3) + b"\n"
        stream = frames([b"first\n", row]) + DONE + COMPLETE + message(b"Z", b"I")
        assert scanned(stream, [1 << 20] * 8, TextScanner()) == reference(stream)


def test_an_error_that_is_too_long_to_be_held_back_still_ends_the_stream() -> None:
    stream = bytearray(
        frames([b"row\n"] * 10) + diagnostic(b"E", "ERROR", "ERROR", "x" * 2 * TAIL) + message(b"Z", b"E")
    )
    scanner = TailScanner()
    forwarded = scanner.scan(stream[: TAIL + TAIL // 2], TAIL + TAIL // 2).safe
    del stream[:forwarded]
    found = scanner.scan(stream, len(stream))
    assert found.at_message
    assert stream[found.safe : found.safe + 1] == b"Z"
