"""The tasks of data_prep's jobs as one would first write them: one process, one loop, the standard library.

python benchmarks/peers/plain_loops.py JOB FOLDER_OF_JSONL_GZ OUTPUT LANGUAGE [QUESTIONS.jsonl | TOKENIZER_FOLDER]

benchmarks.curation times them.  Each reads JSONL.gz and writes JSONL.  They find less than the jobs do, and some hold
all texts or keys in memory.  `spans` instead of `mask` writes where the patterns hit, a JSON list a line.
"""

import gzip
import hashlib
import json
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

WORD = re.compile(r"[㐀-䶿一-鿿豈-﫿]|[^\W_㐀-䶿一-鿿豈-﫿]+")  # a Chinese character is a word
BANDS, ROWS, SHINGLE, GRAM = 14, 8, 5, 13


def read(source: str) -> Iterator[dict]:
    for path in sorted(Path(source).glob("*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as f:
            yield from map(json.loads, f)


def words(text: str) -> list[str]:
    return WORD.findall(unicodedata.normalize("NFKC", text).lower())


def grams(units: list[str], size: int) -> list[str]:
    return [" ".join(units[n : n + size]) for n in range(len(units) - size + 1)]


# clean

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]")
SPACES, MANY_LINES = re.compile(r"[^\S\n]+"), re.compile(r"\n{3,}")
FOOTERS = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"^(share|follow) (this|us)\b.*$",
        r"^.*(all rights reserved|copyright ©).*$",
        r"^(home|about|contact|login|sign up)( ?[|>·] ?\w+)+$",
        r"^.*(扫描|扫一扫|长按).*二维码.*$",
        r"^.*(关注|订阅).*公众号.*$",
        r"^.*版权所有.*$",
        r"^(上一篇|下一篇|返回首页|阅读原文|点击查看).*$",
    )
]
HAN, LATIN = re.compile(r"[㐀-䶿一-鿿]"), re.compile(r"[A-Za-z]+")


def clean(source: str, language: str, _: str) -> Iterator[dict]:
    for doc in read(source):
        text = CONTROL.sub("", unicodedata.normalize("NFKC", doc["text"].replace("\r\n", "\n")))
        lines = (SPACES.sub(" ", line).strip() for line in text.split("\n"))
        kept = [line for line in lines if not any(footer.match(line) for footer in FOOTERS)]
        text = MANY_LINES.sub("\n\n", "\n".join(kept)).strip()
        han, latin = len(HAN.findall(text)), len(LATIN.findall(text))
        if len(text) >= 20:
            yield doc | {"text": text, "lang": "zh" if han > latin else "en" if latin else "other"}


# boilerplate


def boilerplate(source: str, language: str, _: str) -> Iterator[dict]:
    seen, documents = Counter(), 0
    for doc in read(source):
        seen.update({line.strip().lower() for line in doc["text"].split("\n")})
        documents += 1
    least = max(20, 0.02 * documents)
    for doc in read(source):
        lines = doc["text"].split("\n")
        kept = [line for line in lines if len(line) < 20 or seen[line.strip().lower()] < least]
        if kept:
            yield doc | {"text": "\n".join(kept)}


# quality

STOP = {
    "en": {"the", "be", "to", "of", "and", "that", "have", "with"},
    "zh": {"的", "是", "在", "了", "和", "有", "不", "与"},
}


def quality(source: str, language: str, _: str) -> Iterator[dict]:
    for doc in read(source):
        if is_good(doc["text"], language):
            yield doc


def is_good(text: str, language: str) -> bool:
    units = text.split() if language == "en" else WORD.findall(text)
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    if not 10 <= len(units) <= 100_000 or not lines:
        return False
    letters = sum(any(c.isalpha() for c in unit) for unit in units)
    length = sum(map(len, units)) / len(units)
    rules = (
        language == "zh" or 3 <= length <= 10,
        letters / len(units) >= 0.5,
        (text.count("#") + text.count("...") + text.count("…")) / len(units) <= 0.1,
        sum(line.startswith(("-", "*", "•", "·")) for line in lines) / len(lines) <= 0.9,
        sum(line.endswith(("...", "…")) for line in lines) / len(lines) <= 0.3,
        sum(unit.lower() in STOP[language] for unit in units) >= 2,
        len(set(lines)) / len(lines) >= 0.5,
        sum(c.isdigit() for c in text) / len(text) <= 0.4,
    )
    return all(rules) and not repeats(units)


def repeats(units: list[str]) -> bool:
    """Gopher's shares of n-grams: of the commonest 2, 3, 4, and of all 5 to 10 that stand more than once."""
    total = sum(map(len, units))
    for size, most in ((2, 0.2), (3, 0.18), (4, 0.16)):
        for gram, count in Counter(grams(units, size)).most_common(1):
            if count > 1 and count * (len(gram) - size + 1) > most * total:
                return True
    for size in range(5, 11):
        found = Counter(grams(units, size))
        repeated = sum(count * (len(gram) - size + 1) for gram, count in found.items() if count > 1)
        if repeated > 3 * total:  # overlapping grams count each of their words again
            return True
    return False


# dedup


def dedup(source: str, language: str, _: str) -> Iterator[dict]:
    """Exact by MD5, near by MinHash of 112 permutations as datasketch has them; the first of a bucket stays."""
    import numpy as np

    chance = np.random.RandomState(1)
    prime = np.uint64((1 << 61) - 1)
    a, b = (chance.randint(low, int(prime), BANDS * ROWS, dtype=np.uint64)[:, None] for low in (1, 0))
    exact, buckets = set(), set()
    for doc in read(source):
        units = words(doc["text"])
        same = hashlib.md5(" ".join(units).encode()).digest()
        if same in exact:
            continue
        exact.add(same)
        shingles = set(grams(units, SHINGLE)) or {" ".join(units)}
        hashed = [int.from_bytes(hashlib.sha1(one.encode()).digest()[:4], "little") for one in shingles]
        signature = ((np.array(hashed, np.uint64) * a + b) % prime & np.uint64(0xFFFFFFFF)).min(1)
        bands = [(n, signature[n * ROWS : (n + 1) * ROWS].tobytes()) for n in range(BANDS)]
        if not any(band in buckets for band in bands):
            yield doc
        buckets.update(bands)


# decontaminate


def decontaminate(source: str, language: str, questions: str) -> Iterator[dict]:
    answers = {}
    with open(questions, encoding="utf-8") as f:
        for row in map(json.loads, f):
            units = words(row["question"])
            for gram in grams(units, min(GRAM, len(units))):
                answers.setdefault(gram, []).append(" ".join(words(row["answer"])))
    for doc in read(source):
        units = words(doc["text"])
        hits = [(n, gram) for n, gram in enumerate(grams(units, GRAM)) if gram in answers]
        near = (" ".join(units[max(0, n - 100) : n + GRAM + 100]) for n, _ in hits)
        if not any(answer in text for text, (_, gram) in zip(near, hits, strict=True) for answer in answers[gram]):
            yield doc


# mask

PRIVATE = [
    (kind, re.compile(pattern, re.IGNORECASE))
    for kind, pattern in (
        ("email", r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"),
        ("url", r"(?:https?://|www\.)\S+\?\S*(?:id|token|mail|phone|key|auth|password|session)\w*=\S+"),
        ("id_card", r"(?<!\d)\d{17}[\dX](?!\w)|(?<!\d)\d{15}(?!\d)"),
        ("bank_card", r"(?<!\d)(?:\d{4}[ -]?){3,4}\d{1,4}(?!\d)"),
        ("phone", r"(?<!\d)(?:\+?86[- ]?)?1[3-9]\d[- ]?\d{4}[- ]?\d{4}(?!\d)"),
        ("phone", r"(?<!\d)\(?0\d{2,3}\)?[- ]?\d{7,8}(?!\d)"),
        ("phone", r"(?<!\d)\(?\d{3}\)?[-. ]\d{3}[-. ]\d{4}(?!\d)|\+\d{1,3}(?:[- ]?\(?\d{1,4}\)?){2,5}"),
        ("passport", r"\b[EG][A-Z]?\d{7,8}\b"),
        ("plate", r"[京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼][A-Z][·• -]?[A-Z0-9]{5,6}"),
        ("wechat", r"(?:微信|wechat|weixin|wx)号?(?: ?id)?[:： ]*[a-z][\w-]{5,19}"),
        ("qq", r"qq号?群?号?[:： ]*[1-9]\d{4,10}"),
        ("ip", r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.])|(?:[0-9a-f]{1,4}:){4,7}:?[0-9a-f]{1,4}"),
        (
            "address",
            r"[一-鿿]{2,6}(?:省|市|区|县)[一-鿿]{1,12}(?:路|街|道|巷|弄|里)\d+[号號弄]"
            r"(?:\d+[栋幢座室单元楼号房-]+)*",
        ),
        (
            "address",
            r"\d{1,5} (?:[A-Z][\w.]* ){1,3}(?:Street|St|Avenue|Ave|Road|Rd|Lane|Drive|Court|Place)\b"
            r"[^.\n]{0,40}\d{5}",
        ),
    )
]


def mask(source: str, language: str, _: str) -> Iterator[dict]:
    for doc in read(source):
        text = doc["text"]
        for kind, pattern in PRIVATE:
            text = pattern.sub(f"<|{kind}|>", text)
        yield doc | {"text": text}


def spans(source: str, language: str, _: str) -> Iterator[list]:
    for doc in read(source):
        yield [match.span() for _, pattern in PRIVATE for match in pattern.finditer(doc["text"])]


# shard


def shard(source: str, language: str, tokenizer_folder: str) -> Iterator[list]:
    from transformers import AutoTokenizer

    tokenizer, waiting = AutoTokenizer.from_pretrained(tokenizer_folder), []
    end = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    for doc in read(source):
        waiting += [*tokenizer(doc["text"])["input_ids"], end]
        while len(waiting) >= 4097:
            yield waiting[:4097]
            waiting = waiting[4097:]


JOBS = {job.__name__: job for job in (clean, boilerplate, quality, dedup, decontaminate, mask, spans, shard)}


def write(rows: Iterable, output: str) -> None:
    with open(output, "w", encoding="utf-8") as f:
        f.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def main(job: str, source: str, output: str, language: str, extra: str = "") -> None:
    write(JOBS[job](source, language, extra), output)


if __name__ == "__main__":
    main(*sys.argv[1:])
