"""Every JSON that is read passes one decoder: what is damaged ends in one sentence, whatever the damage."""

import re
from pathlib import Path
from typing import Annotated, TypedDict

import pytest
from msgspec import Meta

from mucpt_jax.errors import UserError
from mucpt_jax.formats import decode
from mucpt_jax.formats.decode import read_json, read_lines, read_log
from mucpt_jax.formats.files import write_json

ROOT = Path(__file__).parents[1]
SEPARATORS = "\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e"  # str.splitlines() splits at all of them


class Shard(TypedDict):
    bytes: Annotated[int, Meta(ge=0)]


class Folder(TypedDict):
    shards: list[Shard]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b'{"shards": [{"bytes": 1}, {"bytes": "' + b"x" * 100_000 + b'"}]}', r"got `str` - at `\$\.shards\[1\]"),
        (b'{"shards": [{"bytes": -1}]}', r"Expected `int` >= 0 - at `\$\.shards\[0\]\.bytes`"),
        (b'{"shards": [{"bytes": true}]}', "Expected `int`, got `bool`"),
        (b'{"shards": [{}]}', r"missing required field `bytes` - at `\$\.shards\[0\]`"),
        (b"[]", "Expected `object`, got `array`"),
        (b'{"shards": NaN}', r"malformed: invalid character \(byte 11\)"),
        (b'{"shards": ' + b"[" * 100_000, "more than 200 lists or objects in each other"),
        (b'{"shards": ' + b"[" * 900 + b"]" * 900 + b"}", "more than 200 lists or objects in each other"),
        (b'{"shards": [{"bytes": ' + b"9" * 5000 + b"}]}", "Integer value out of range"),
        (b'{"x": "\\ud83d"}', "JSON is malformed|truncated|surrogate"),
        (b'{"x": "caf\xc3"}', "can't decode byte 0xc3"),
        (b'{"shards": [', "truncated"),
        (b"", "truncated"),
    ],
)
def test_damage_is_one_sentence_with_file_place_and_way_out(tmp_path, text, reason):
    path = tmp_path / "manifest.json"
    path.write_bytes(text)
    with pytest.raises(UserError, match=reason) as error:
        read_json(path, Folder, "write the rows again")
    message = str(error.value)
    assert message.startswith(str(path)) and message.endswith("; write the rows again") and len(message) < 500


def test_a_missing_file_a_folder_and_an_impossible_name_too(tmp_path):
    for path in (tmp_path / "none.json", tmp_path, "a\0b"):
        with pytest.raises(UserError, match=r"cannot be read \(.*\); copy or write it again"):
            read_json(path)


def test_a_byte_order_mark_is_read_and_keys_of_other_versions_stay(tmp_path):
    path = tmp_path / "manifest.json"
    path.write_bytes(b'\xef\xbb\xbf{"shards": [{"bytes": 1, "later": 2}], "later": [3]}')
    assert read_json(path, Folder) == {"shards": [{"bytes": 1, "later": 2}], "later": [3]}
    (tmp_path / "lines.jsonl").write_bytes(b'\xef\xbb\xbf{"bytes": 1}\r\n\n{"bytes": 2}')
    assert read_lines(tmp_path / "lines.jsonl", Shard) == [{"bytes": 1}, {"bytes": 2}]


def test_lines_end_at_newlines_alone(tmp_path):
    path, text = tmp_path / "lines.jsonl", f"a{SEPARATORS}b"
    shown = "".join(c if c > "\x1f" else f"\\u{ord(c):04x}" for c in text)  # as json.dumps(ensure_ascii=False) does
    path.write_text(f'{{"text": "{shown}"}}\n' * 2, encoding="utf-8")
    assert read_lines(path) == read_log(path) == [{"text": text}] * 2


def test_a_wrong_line_is_refused_but_in_a_log_left_out_with_one_warning(tmp_path, caplog):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"bytes": 1}\n{"bytes": "caf\xc3\n{"bytes": -1}\n{"bytes": 2}\n{"byt')
    assert read_log(path, Shard) == [{"bytes": 1}, {"bytes": 2}]
    (record,) = caplog.records
    assert "metrics.jsonl line 2 cannot be read as JSON" in record.message and "and 2 more lines" in record.message
    assert read_log(tmp_path / "none.jsonl") == []
    with pytest.raises(UserError, match="line 2 cannot be read as JSON"):
        read_lines(path, Shard)


def test_what_is_not_finite_is_written_as_null(tmp_path):
    write_json(tmp_path / "a.json", {"nll": float("nan"), "of": [1.5, (float("inf"),)]})
    assert read_json(tmp_path / "a.json") == {"nll": None, "of": [1.5, [None]]}


def test_a_users_own_field_may_hold_nan_but_not_endless_lists():
    assert decode.own_field('{"a": NaN}', nan=str) == {"a": "NaN"}
    assert str(decode.own_field("[NaN, -Infinity]")) == "[nan, -inf]"
    for text in ("[" * 100_000, "[" * 500 + "]" * 500, "1" * 5000, "{"):
        with pytest.raises(ValueError):
            decode.own_field(text)


def test_an_error_never_quotes_a_long_value():
    message = str(UserError(f"key={'x' * 100_000}; use another"))
    assert len(message) < 1600 and message.endswith("; use another")


def test_no_other_file_decodes_json():
    files = [ROOT / "launch.py", *(ROOT / "mucpt_jax").rglob("*.py"), *(ROOT / "data_prep").rglob("*.py")]
    other = {file.relative_to(ROOT) for file in files if re.search(r"json\.loads?\b|JSONDecoder", file.read_text())}
    assert other == {Path("mucpt_jax/formats/decode.py")}
