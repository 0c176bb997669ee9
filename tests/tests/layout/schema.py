"""Reads a schema text by its grammar alone, as a program in another language would.

Prints the fingerprint of the text on standard input, then a line for each number in the type: path, type, count, offset.
"""

import hashlib
import re
import sys

SHAPE = re.compile(r"(.*) size (\d+) align (\d+)")
FIELD = re.compile(r"(\w+): (.*) at (\d+)")
ARRAY = re.compile(r"\[(.*); (\d+)\]")
SIZES = {"u8": 1, "u16": 2, "u32": 4, "u64": 8, "i8": 1, "i16": 2, "i32": 4, "i64": 8, "f32": 4, "f64": 8}


def parse(text):
    """The type on the first line: (words, size, fields), each field being (name, offset, type)."""
    root, stack = None, []
    for line in text.splitlines():
        depth = (len(line) - len(line.lstrip(" "))) // 2
        head, size, _align = SHAPE.fullmatch(line.lstrip(" ")).groups()
        del stack[depth:]
        if depth == 0:
            root = (head, int(size), [])
            stack.append(root)
        else:
            name, words, offset = FIELD.fullmatch(head).groups()
            field = (words, int(size), [])
            stack[-1][2].append((name, int(offset), field))
            stack.append(field)
    return root


def leaves(path, offset, words, size, fields):
    """Each number or array of numbers in the type: (path, type, count, offset)."""
    if words.startswith("cell<"):
        yield from leaves(path, offset, words[5:-1], size, fields)
    elif words.startswith("struct "):
        for name, at, (inner, inner_size, inner_fields) in fields:
            dot = "." if path else ""
            yield from leaves(f"{path}{dot}{name}", offset + at, inner, inner_size, inner_fields)
    elif fields:
        inner, count = ARRAY.fullmatch(words).groups()
        each = size // int(count)
        for i in range(int(count)):
            yield from leaves(f"{path or 'value'}[{i}]", offset + i * each, inner, each, fields)
    else:
        number = re.search(r"[uif]\d+", words).group()
        yield path or "value", number, size // SIZES[number], offset


def fingerprint(text):
    return int.from_bytes(hashlib.blake2b(text.encode("ascii"), digest_size=8).digest(), "little")


if __name__ == "__main__":
    text = sys.stdin.read()
    print(fingerprint(text))
    for leaf in leaves("", 0, *parse(text)):
        print(*leaf)
