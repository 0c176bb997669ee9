#!/usr/bin/env python3
"""Prints what a live segment says of itself, and the fields of its typed regions, as JSON.

Written from docs/layout.md alone, with nothing but the standard library: a reader in another language is no larger.

    read_segment.py FILE
"""

import hashlib
import json
import mmap
import re
import struct
import sys
import zlib

HEADER_PAGE = 4096
ENTRY = 128
ROW = 128
# `=`: the byte order of the machine, without padding.
HEADER = struct.Struct("=8sHHIIIIIQQQQ16sQQ16sIIQQQQQQQIII")
NAMES = (
    "magic version minor header_len header_crc contents_crc page_size pointer_width compatible read_only_compatible "
    "incompatible total_len uuid inode birth file_system creator_pid adoptions creator_start creator_pid_namespace "
    "creator_time_namespace creator_boot directory_offset schema_offset participants_offset objects schema_len participants"
).split()
PRIMITIVES = dict(u8="B", u16="H", u32="I", u64="Q", i8="b", i16="h", i32="i", i64="q", f32="f", f64="d")


class Damaged(Exception):
    pass


def check(condition, what):
    if not condition:
        raise Damaged(what)


def read_header(memory):
    check(len(memory) >= HEADER_PAGE, "too short")
    header = dict(zip(NAMES, HEADER.unpack_from(memory)))
    native = b"ipc-seg\x01" if sys.byteorder == "little" else b"ipc-seg\x01"[::-1]
    check(header["magic"] != native[::-1], "other byte order")
    check(header["magic"] == native, "not a segment")
    check(header["version"] == 1, "other format version")
    check(header["incompatible"] == 0, "unknown features")
    check(header["header_len"] == 256, "other header length")
    zeroed = memory[:16] + bytes(4) + memory[20:256]
    check(zlib.crc32(zeroed) == header["header_crc"], "header checksum")
    check(header["page_size"] == mmap.PAGESIZE, "other page size")
    check(header["pointer_width"] == 8 * struct.calcsize("P"), "other pointer width")
    check(header["total_len"] == len(memory), "other size")
    contents = memory[HEADER_PAGE : header["schema_offset"] + header["schema_len"]]
    check(zlib.crc32(contents) == header["contents_crc"], "contents checksum")
    header["state"] = struct.unpack_from("=I", memory, 256)[0]
    return header


def read_directory(memory, header):
    for index in range(header["objects"]):
        at = header["directory_offset"] + ENTRY * index
        name, kind, version, offset, length, fingerprint, text_at, text_len, first, second = struct.unpack_from(
            "=64s8sI4xQQQIIQQ", memory, at
        )
        text_at += header["schema_offset"]
        text = memory[text_at : text_at + text_len]
        digest = hashlib.blake2b(text, digest_size=8).digest()
        check(int.from_bytes(digest, "little") == fingerprint, "fingerprint")
        yield {
            "name": name.rstrip(b"\0").decode(),
            "kind": kind.rstrip(b"\0").decode(),
            "version": version,
            "offset": offset,
            "length": length,
            "parameters": [first, second],
            "schema": text.decode(),
        }


def read_participants(memory, header):
    for index in range(header["participants"]):
        at = header["participants_offset"] + ROW * index
        state, pid = struct.unpack_from("=QQ", memory, at)
        if state & 1:
            yield {"number": index + 1, "pid": pid}


class Lines:
    """The lines of a schema text, each as depth, name, type, offset and size."""

    LINE = re.compile(r"( *)(?:(\w+): )?(.+?)(?: at (\d+))? size (\d+) align (\d+)")

    def __init__(self, text):
        found = [self.LINE.fullmatch(line).groups() for line in text.splitlines()]
        self.lines = [(len(i) // 2, name, kind, int(at or 0), int(size)) for i, name, kind, at, size, _ in found]

    def take(self, depth):
        if self.lines and self.lines[0][0] == depth:
            return self.lines.pop(0)


def read_value(lines, line, memory, at):
    """The value of `line` at `at`; takes the lines of its fields."""
    depth, _, kind, _, size = line
    fields = []
    if "struct " in kind:
        while field := lines.take(depth + 1):
            nested = Lines("")
            while lines.lines and lines.lines[0][0] > depth + 1:
                nested.lines.append(lines.lines.pop(0))
            fields.append((field, nested.lines))

    def value(kind, size, at):
        if kind.startswith("cell<") or kind.startswith("atomic<"):
            return value(kind[kind.index("<") + 1 : -1], size, at)
        if kind.startswith("["):
            inner, count = kind[1:-1].rsplit("; ", 1)
            step = size // int(count)
            return [value(inner, step, at + step * index) for index in range(int(count))]
        if kind.startswith("struct "):
            result = {}
            for field, below in fields:
                rest = Lines("")
                rest.lines = list(below)
                result[field[1]] = read_value(rest, field, memory, at + field[3])
            return result
        return struct.unpack_from("=" + PRIMITIVES[kind], memory, at)[0]

    return value(kind, size, at)


def main(path):
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as memory:
        header = read_header(memory)
        objects = list(read_directory(memory, header))
        for item in objects:
            if item["kind"] in ("region", "slice"):
                step = int(re.search(r" size (\d+) ", item["schema"]).group(1))
                count = item["parameters"][0] if item["kind"] == "slice" else 1
                values = []
                for index in range(count):
                    lines = Lines(item["schema"])
                    values.append(read_value(lines, lines.take(0), memory, item["offset"] + step * index))
                item["value"] = values if item["kind"] == "slice" else values[0]
        participants = list(read_participants(memory, header))
    header = {name: value.hex() if isinstance(value, bytes) else value for name, value in header.items()}
    json.dump({"header": header, "objects": objects, "participants": participants}, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except (Damaged, OSError) as error:
        sys.exit(f"{sys.argv[1]}: {error}")
