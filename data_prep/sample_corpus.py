"""A small raw corpus with known truth: synthetic by default, or sampled from a folder of real text.

    python -m data_prep.sample_corpus --output=RAW                 invented artists, their facts, noise, a tokenizer
    python -m data_prep.sample_corpus --output=RAW --data=FOLDER   real documents, planted noise and duplicates

RAW/{seed,domain,general,heldout}/*.jsonl   one document a line: {"id", "text", "source", "lang"}
    seed     clean domain text that trains the reference model
    domain   the text to be scored and trained on: noise lines, wrong facts, duplicates, private data
    general  text of other kinds (base model, general share);  heldout: clean text of both kinds
RAW/questions.jsonl   {"id", "lang", "question", "answer", "aliases"}
RAW/truth.jsonl       per domain document {"id", "spans", "duplicate_of", "wrong_facts"}; offsets are characters of the
                      raw text; a noise span is a whole line, a private one (email, id_card, ip) the string alone
RAW/tokenizer/        synthetic only: byte-level BPE of 2,048 entries, a Hugging Face folder
RAW/corpus.json       mode, data folder, seed, counts, tokenizer folder; written last: where it stands, all is done
The same arguments write the same bytes.
"""

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from data_prep.jobs import options
from data_prep.samples.real_text import real
from data_prep.samples.world import synthetic
from mucpt_jax.errors import UserError, exiting
from mucpt_jax.formats.files import writable, write_json

ROLES = ("seed", "domain", "general", "heldout")
ENTRIES = 2048
END_OF_TEXT = "<|endoftext|>"
# After Qwen2: runs of letters with the space before them, single digits, punctuation, white space.  Han runs are
# kept apart from spaces and cut at 的 and 是, else one name has other tokens in a question than in a statement.
SPLIT = (
    r"[的是]|[^\P{Han}的是]+|[^\r\n\p{L}\p{N}]?[\p{L}&&[^\p{Han}]]+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def train_tokenizer(texts: Iterable[str]) -> Tokenizer:
    """Byte-level BPE without normaliser, so that decode(encode(text)) == text."""
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(SPLIT), "isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=ENTRIES, special_tokens=[END_OF_TEXT], show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )  # fmt: skip
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 32768, "eos_token": END_OF_TEXT,
        "pad_token": END_OF_TEXT, "clean_up_tokenization_spaces": False,
    }  # fmt: skip
    write_json(folder / "tokenizer_config.json", settings)


def write_jsonl(path: Path, rows: Iterable[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="\n") as out:
        out.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def write_roles(output: Path, roles: dict[str, list[dict]]) -> None:
    """One file per role and source; refuses a folder that holds files of another corpus."""
    files: dict[Path, list[dict]] = {}
    for role in ROLES:
        for document in roles[role]:
            files.setdefault(output / role / f"{document['source']}.jsonl", []).append(document)
    for old in sorted(path for role in ROLES for path in (output / role).glob("*.jsonl")):
        if old not in files:
            raise UserError(f"{old} is of another corpus; remove {output} or name a new --output")
    (output / "corpus.json").unlink(missing_ok=True)
    for path, documents in files.items():
        write_jsonl(path, documents)


def build(output: Path, seed: int, data: Path | None, characters: int) -> dict:
    """Writes the whole folder; returns what corpus.json says."""
    roles, truth, questions = real(data, seed, characters) if data else synthetic(seed)
    with writable(f"--output={output}"):
        output.mkdir(parents=True, exist_ok=True)
    write_roles(output, roles)
    write_jsonl(output / "questions.jsonl", questions)
    write_jsonl(output / "truth.jsonl", truth)
    tokenizer = data / "tokenizer" / "qwen2" if data else output / "tokenizer"
    texts = {role: [document["text"] for document in roles[role]] for role in ROLES}
    if not data:
        save_tokenizer(train_tokenizer(texts["seed"] + texts["general"] + texts["domain"]), tokenizer)
    facts = {
        "mode": "real" if data else "synthetic", "data": str(data.resolve()) if data else "", "seed": seed,
        "documents": {role: len(texts[role]) for role in ROLES},
        "characters": {role: sum(map(len, texts[role])) for role in ROLES},
        "questions": len(questions), "tokenizer": str(tokenizer),
    }  # fmt: skip
    write_json(output / "corpus.json", facts)
    return facts


def run(argv: list[str] | None = None) -> None:
    parser = options.parser(__doc__, prog="python -m data_prep.sample_corpus")
    parser.add_argument("--output", type=Path, required=True, metavar="RAW", help="folder to write")
    parser.add_argument("--seed", type=int, default=0, help="another seed is another world or pick (default 0)")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="real text: music/, general/, eval/, tokenizer/")
    budget = "with --data: characters of domain and of general; seed gets 2/3 of it (default 600000)"
    parser.add_argument("--characters", type=int, metavar="N", help=budget)
    args = parser.parse_args(argv)
    if args.characters is not None and not args.data:
        raise UserError("--characters is the budget of --data; leave it out, the synthetic corpus has one size")
    if args.characters is not None and args.characters < 1:
        raise UserError(f"--characters={args.characters} must be positive, for example 600000")
    facts = build(args.output, args.seed, args.data, args.characters or 600_000)
    print(f"{args.output} ({facts['mode']}, seed {args.seed}, {facts['questions']} questions)")
    print(f"{'role':10}{'documents':>12}{'characters':>14}")
    for role in ROLES:
        print(f"{role:10}{facts['documents'][role]:>12,}{facts['characters'][role]:>14,}")


if __name__ == "__main__":
    with exiting():
        run()
