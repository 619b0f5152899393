"""The end of a COPY stream is found by its bytes exactly where a parser that reads every message finds it."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from hypothesis import example, given, settings
from hypothesis import strategies as st

from pgcopydb.postgres.copy_frames import (
    TAIL,
    BinaryScanner,
    Message,
    TailScanner,
    TextScanner,
    take_message,
)

Scanner = TextScanner | TailScanner | BinaryScanner


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
