"""Clean text: one form per character, no invisible characters, tidy lines, no navigation lines.

    python -m data_prep.clean --input=raw/ --output=clean/ [--min_chars=20]

Drops documents as `empty` (nothing is left) or `too_short` (fewer than --min_chars characters are left).  Ids stay
those of the raw text.  A line that survives reads the same cleaned alone or within its document, so spans that are
known in the raw text can be found again.
"""

import argparse
import re
import unicodedata
from pathlib import Path

import apache_beam as beam
import pyarrow as pa

from data_prep import documents, job
from mucpt_jax.records import UserError

# NFKC would turn these into ASCII.  It leaves 。、“”《》— alone and never makes one of these, so pieces between them
# can be normalised one by one, again and again, with the same result.
_KEPT = "，！？：；（）…"
_PIECE = re.compile(f"[^{_KEPT}\n]+")
_LINE_END = re.compile("\r\n|[\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
_INVISIBLE = re.compile(  # controls but tab and newline; zero-width, direction and byte-order marks, soft hyphen
    "[\x00-\x08\x0e-\x1b\x1f\x7f-\x9f\u00ad\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]"
)
_BLANKS = re.compile(r"[^\S\n]+")

# Lines that go: only addresses, only symbols, only the words of menus and share bars (one, or several set apart).
# A sentence that merely mentions a QR code or a subscription stays; judging it is not a matter of its form.
# None of the patterns has a repeat within a repeat: such a one takes for ever on a line made for it.
_URL = re.compile(r"(https?://|www\.)\S+", re.IGNORECASE)
_SYMBOLS = re.compile(r"([^\w()\[\]{}`]|_)+")  # lines of brackets or ``` are code
_APART = re.compile(r"\s*[|/>»·•,、]+\s*")
_NAVIGATION = frozenset(
    word.strip()
    for words in (
        "home, menu, log in, login, sign in, sign up, register, search, share, share this, tweet, follow, follow us",
        "subscribe, print, previous, next, back to top, read more, skip to content, contact us, about us, sitemap",
        "privacy policy, terms of use, terms of service, cookie policy, cookie settings",
        "accept cookies, accept all cookies, we use cookies",
        "首页, 登录, 注册, 搜索, 菜单, 分享, 分享到, 转发, 收藏, 点赞, 关注, 关注我们, 订阅, 打印, 上一页, 下一页",
        "上一篇, 下一篇, 返回顶部, 阅读全文, 查看更多, 展开全文, 联系我们, 关于我们, 网站地图, 隐私政策",
        "接受所有cookie, cookie设置",
    )
    for word in words.split(",")
)


def is_boilerplate(line: str) -> bool:
    """Of a cleaned, non-empty line."""
    if _SYMBOLS.fullmatch(line) or all(_URL.fullmatch(word) for word in line.split()):
        return True
    words = _APART.split(line.casefold().strip(" |/>»·•,、.。:：!！"))
    return all(word.strip(" .。:：!！") in _NAVIGATION for word in words)


def clean_text(text: str) -> str:
    """Each step but the last works within lines; clean_text(clean_text(text)) == clean_text(text)."""
    text = _LINE_END.sub("\n", text)
    text = _INVISIBLE.sub("", text)  # before NFKC: what they kept apart may combine
    if not text.isascii():
        text = _PIECE.sub(lambda piece: unicodedata.normalize("NFKC", piece[0]), text)
    lines = [line.strip() for line in _BLANKS.sub(" ", text).split("\n")]
    lines = [line for line in lines if not line or not is_boilerplate(line)]
    return re.sub("\n{3,}", "\n\n", "\n".join(lines)).strip("\n")


def drop_reason(text: str, min_chars: int) -> str | None:
    """Of a cleaned text."""
    return "empty" if not text else "too_short" if len(text) < min_chars else None


def clean_batch(batch: pa.RecordBatch, min_chars: int) -> pa.RecordBatch:
    texts = [clean_text(text) for text in batch["text"].to_pylist()]
    return documents.keep(
        documents.replace(batch, "text", texts), [drop_reason(text, min_chars) for text in texts]
    )


class Clean(beam.PTransform):
    """Batches -> batches with cleaned text, without empty and short documents."""

    def __init__(self, min_chars: int = 20):
        super().__init__()
        self.min_chars = min_chars

    def expand(self, batches):
        return batches | "CleanBatch" >> beam.Map(clean_batch, self.min_chars)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--min_chars", type=int, default=20, help="shorter documents go as too_short (default 20)"
    )


def run(argv: list[str] | None = None) -> dict:
    parser = job.parser(__doc__)
    add_arguments(parser)
    args, beam_args = parser.parse_known_args(argv)
    if args.min_chars < 0:
        raise UserError(f"--min_chars={args.min_chars} is negative; 0 keeps short documents")

    def build(pipeline: beam.Pipeline, files: list[str], folder: Path):
        batches = pipeline | "Read" >> documents.Read(files, folder)
        return (
            batches | "Clean" >> Clean(args.min_chars) | "Write" >> beam.ParDo(documents.WriteParts(folder))
        )

    return job.run_job(args, beam_args, build)


if __name__ == "__main__":
    job.main(run)
