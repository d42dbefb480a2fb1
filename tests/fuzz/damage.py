"""Random edits of bytes and of JSON."""

import json
from random import Random

NASTY = [
    "null", "true", "false", "0", "-1", "1", "2", "0.5", "-0.0", "1e308", "-1e308", "1e-320", "9007199254740993",
    "1e400", "NaN", "Infinity", "-Infinity", "9" * 30, "9" * 5000, '""', '"x"', '"' + "x" * 100_000 + '"', '"\\ud83d"',
    '"\\u0000"', '"\u2028\u0085"', '"../../evil"', '"/etc/passwd"', "[]", "{}", "[[]]", '{"": {}}',
    "[" * 300 + "]" * 300, "[" * 3000, '{"a":' * 300 + "1" + "}" * 300, "[1, 2, 3]", '["a"]', "01", "'x'", "",
]  # fmt: skip
BYTES = [
    b"\x00",
    b"\xff",
    b"\xc3",
    b"\xed\xa0\xbd",
    b"\n",
    b"\r",
    b'"',
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\xe2\x80\xa8",
]


def of_bytes(rng: Random, data: bytes) -> bytes:
    """One edit: a flipped bit, a cut, a piece put in, taken out or doubled."""
    place = rng.randrange(len(data) + 1)
    end = min(len(data), place + rng.choice([1, 1, 2, 8, 100]))
    kind = rng.randrange(6)
    if kind == 0 and place < len(data):
        return data[:place] + bytes([data[place] ^ (1 << rng.randrange(8))]) + data[place + 1 :]
    if kind == 1:
        return data[:place]
    if kind == 2:
        return data[:place] + rng.choice(BYTES) + data[place:]
    if kind == 3:
        return data[:place] + data[end:]
    if kind == 4:
        return data[:end] + data[place:]
    return data[:place] + rng.randbytes(end - place) + data[end:]


def of_json(rng: Random, data: bytes) -> bytes:
    """One edit in the value of a JSON text: another value or key somewhere, or one that is gone."""
    mark = "@" * 8
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):  # of an edit before
        return of_bytes(rng, data)
    places = [
        (value, key) for value in walk(value) for key in (value if isinstance(value, dict) else range(len(value)))
    ]
    if not places:
        return rng.choice(NASTY).encode()
    parent, key = rng.choice(places)
    kind = rng.randrange(8)
    if kind == 0:
        del parent[key]
    elif kind == 1 and isinstance(parent, dict):
        parent[rng.choice(["", "x", key + "x", "\u2028"])] = parent.pop(key)
    elif kind == 2:
        parent[key] = [parent[key]]
    elif kind == 3:
        parent[key] = rng.choice(places)[0]
    else:
        parent[key] = mark
    try:
        text = json.dumps(value, ensure_ascii=rng.random() < 0.5)
    except (ValueError, RecursionError):  # a value in itself
        return data
    return text.replace(f'"{mark}"', rng.choice(NASTY)).encode("utf-8", "surrogatepass")


def walk(value):
    if isinstance(value, (dict, list)):
        yield value
        for item in value.values() if isinstance(value, dict) else value:
            yield from walk(item)


def of_file(rng: Random, data: bytes, lines: bool = False) -> bytes:
    """One to three edits of a JSON file, or of a file of such lines."""
    if rng.random() < 0.02:
        return rng.choice([b"", b"\xef\xbb\xbf" + data, data.decode().encode("utf-16"), b"\n", rng.randbytes(100)])
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        if rng.random() < 0.3 or not data:
            data = of_bytes(rng, data)
        elif lines:
            parts = data.split(b"\n")
            number = rng.randrange(len(parts))
            parts[number] = of_json(rng, parts[number])
            data = b"\n".join(parts)
        else:
            data = of_json(rng, data)
    return data
