"""Is this page in my corpus?  What an output of dedup kept that is the same as or near to it.

    python -m data_prep.lookup page.txt more.jsonl --against=dedup/  (written with --signatures)

Prints a line for each page and document: page, id of the document, estimated Jaccard similarity (1 for the same text),
tab-separated; a page that is near to nothing has one line, with `not there`.  Exit status 0 if all pages are there,
1 if not.  A page is a text file, or a document of a file that data_prep reads; its name is the file's or the
document's id.

Pages go into an index of datasketch (MinHashLSH), and the stored signatures pass through it, so the memory is that of
the pages and of 8,192 signatures, however large the corpus is.  Subjects are not compared: see dedup --any_subject.
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from datasketch import LeanMinHash, MinHashLSH

from data_prep.duplicates import buckets, sidecars, signatures
from data_prep.duplicates.work_files import Work
from data_prep.jobs import documents, job, options
from mucpt_jax.errors import UserError


def parser():
    flags = options.parser(__doc__)
    flags.add_argument("pages", nargs="+", help=f"text files, or documents of {', '.join(documents.SUFFIXES)}")
    flags.add_argument("--against", required=True, help="output of data_prep.dedup --signatures")
    flags.add_argument("--similarity", type=float, default=0.8, help="least Jaccard similarity (default 0.8)")
    return flags


def run(argv: list[str] | None = None) -> None:
    args = parser().parse_args(argv)
    if not 0.5 <= args.similarity <= 1:
        raise UserError(f"--similarity={args.similarity} is not from 0.5 to 1; below, documents share but a topic")
    names, texts = zip(*(page for path in args.pages for page in read(path)), strict=True)
    there = set()
    for page, document, similarity in near(texts, args.against, args.similarity):
        there.add(page)
        print(f"{names[page]}\t{document}\t{similarity:.2f}")
    for page in sorted({*range(len(names))} - there):
        print(f"{names[page]}\tnot there")
    sys.exit(1 if len(there) < len(names) else 0)


def read(path: str) -> Iterator[tuple[str, str]]:
    """(name, text) of a file's pages."""
    if path.endswith(documents.SUFFIXES):
        for batch, _ in documents.read_batches(path):
            yield from zip(batch["id"].to_pylist(), batch["text"].to_pylist(), strict=True)
        return
    try:
        yield path, Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as a text in UTF-8 ({error}); name a text file") from error


def near(texts: Sequence[str], folder: str, similarity: float) -> Iterator[tuple[int, str, float]]:
    """(place of a text, id of a document that is near to it, estimated Jaccard similarity), in the corpus's order."""
    digests, _, signed = signatures.describe(texts)
    index = index_of(signed, similarity)
    for file in sidecars.find_earlier([folder]):
        for facts, ids, stored, _ in sidecars.earlier_batches(file):
            same = np.ascontiguousarray(facts["digest"]).view(np.uint8).reshape(-1, 16)
            for name, digest, signature in zip(ids, same, stored, strict=True):
                for page in sorted(index.query(minhash(signature))):
                    exact = bool((digest == digests[page]).all())
                    estimate = 1.0 if exact else float(signatures.similarity(signature, signed[page]))
                    if exact or (signature.any() and estimate >= similarity - buckets.MARGIN):
                        yield page, name.decode(), estimate


def index_of(signed: np.ndarray, similarity: float) -> MinHashLSH:
    """Signatures u1[n, SIZE] -> datasketch's index of their places, with the bands of data_prep.dedup."""
    width = Work(Path(), 0, similarity).band_bytes
    index = MinHashLSH(num_perm=signatures.SIZE, params=(signatures.SIZE // width, width))
    for place, signature in enumerate(signed):
        index.insert(place, minhash(signature))
    return index


def minhash(signature: np.ndarray | bytes) -> LeanMinHash:
    """A signature u1[SIZE] as datasketch has it: .jaccard is the share of equal bytes, 1/256 of which agree by chance.

    "legacy" is the scheme of datasketch whose values are stored as they are; the permutations are rensa's.
    """
    return LeanMinHash(seed=signatures.SEED, hashvalues=np.frombuffer(signature, np.uint8), scheme="legacy")


if __name__ == "__main__":
    job.main(run)
