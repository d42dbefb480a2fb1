"""Damaged JSON and JSONL files of every kind, each read by the functions that jobs read it with."""

import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import NamedTuple

import numpy as np

from data_prep import pipeline, report
from data_prep.jobs import notes
from data_prep.text import contamination
from mucpt_jax import compare, config, evaluate, export, score
from mucpt_jax.evaluation import answers, cards, run_files, tables
from mucpt_jax.formats import questions, score_sums
from mucpt_jax.formats.files import text_hash, write_json
from mucpt_jax.formats.manifest import read_manifest
from mucpt_jax.formats.scored import scored_manifest
from mucpt_jax.formats.tokenizer import load_tokenizer
from mucpt_jax.run import checkpoint, data, early_stop, goodput, lineage, metrics, tokenizers
from mucpt_jax.weights import hf, hf_write
from tests.fuzz import damage

ROOT = Path(__file__).parents[2]
SCORED = "scored/manifest.json"


class Kind(NamedTuple):
    path: str  # in the folder of the case
    read: Callable[[], object]
    often: int = 1  # how many tickets it draws


def of_rows() -> None:
    manifest = read_manifest("domain")
    data.split_sources(manifest, "domain", True, set())
    data.check_manifest(manifest, "domain", lineage.saved_config("rm"))
    export.data_table({"domain": "domain", "general": None})


def of_scores() -> None:
    scores = scored_manifest("scored")["scores"]
    score_sums.as_text(scores)
    score_sums.at_floor(scores["mean_raw_weight"], 1.0)
    data.check_scores(read_manifest("scored"), "scored", config.Config())
    data.resolved_loss(config.from_dict(config.Config, {"data": {"domain": "scored"}}))


FOLDERS = checkpoint.CHECKPOINTS, checkpoint.RESUME


MEASURED = {"params_hash": "h", "heldout": {}, "questions": {"k": 0, "n": 1}, "asked": {"questions": "q"}}


def of_heldout() -> None:
    early_stop.standing(Path("rm"), early_stop.lines_until(Path("rm/heldout.jsonl"), 6), 4)
    metrics.keep_until(Path("rm/heldout.jsonl"), 4)


def of_best() -> None:
    cfg = lineage.saved_config("rm")
    early_stop.ended(cfg, Path("rm"), 8, 8, {})
    kept, newest = (checkpoint.Folder(checkpoint.manager(Path("rm"), folder=name), {}) for name in FOLDERS)
    early_stop.end(cfg, Path("rm"), kept, newest)
    score.warn_of_best("x", Path("rm"))
    cards.write_card(Path("rm"))


def of_run() -> None:
    result = compare.compare(["run"], None, None, ["init_from"])
    assert [tables.text(rows) + tables.markdown(rows) for _, rows in tables.of(result)]
    Path("beside").mkdir(exist_ok=True)  # what is merged is written there
    evaluate.merged(evaluate.read_before(Path("run")), MEASURED, Path("beside/predictions.jsonl"))
    export.results(Path("run"), run_files.read("run")["evaluate"].get("params_hash", ""))
    cards.probes(Path("run"), run_files.read("run")["evaluate"].get("params_hash", ""))


def of_config() -> None:
    if run := lineage.saved_config("run"):
        config.flat(run)
    tokenizers.check("domain", ["run"])
    of_run()


def of_metrics() -> None:
    of_run()
    metrics.keep_until(Path("run/metrics.jsonl"), 4)
    of_run()


def of_scoring() -> None:
    score.claim_folder(Path("scored"), json.loads(Path("whole/scored/scoring.json").read_text()))


def of_note() -> None:
    about = json.loads(Path("whole/scored/scoring.json").read_text())
    cfg = config.from_dict(config.Config, {"score": {"input": "domain", "output": "scored"}})
    score.finish(cfg, read_manifest("domain"), about, Path("scored"))


def of_stages() -> None:
    steps = pipeline.recipe_of(pipeline.defaults()).steps
    pipeline.whole_steps(Path("out"), steps, pipeline.marks_of(steps, [], {}))


def of_report() -> None:
    report.write(Path("out"))
    steps = pipeline.recipe_of(pipeline.defaults()).steps
    pipeline.is_whole(Path("out"), steps[0])


def of_hf() -> None:
    model = hf.read_config("hf")
    assert all(np.isfinite(model.rope_theta) and size > 0 for size in (model.rope_theta, model.num_attention_heads))
    lineage.saved_config("hf")
    hf.config_json(model, "bfloat16", "hf", 0)


def of_tokenizer() -> None:
    hf_write.end_of_text(Path("tokenizer"))
    load_tokenizer("tokenizer")


def of_meta() -> None:
    cfg = lineage.saved_config("rm")
    checkpoint.read_meta(checkpoint.manager(Path("rm")), 8, cfg)


KINDS = (
    Kind("domain/manifest.json", of_rows, 3),
    Kind(SCORED, of_scores, 3),
    Kind("rm/best.json", of_best, 2),
    Kind("rm/config.json", lambda: cards.write_card(Path("rm"))),
    Kind("rm/heldout.jsonl", of_heldout),
    Kind("run/metrics.jsonl", of_metrics, 2),
    Kind("run/goodput.jsonl", lambda: goodput.summary(goodput.read(Path("run/goodput.jsonl"))), 2),
    Kind("run/config.json", of_config, 2),
    Kind("run/config.evaluate.json", of_run),
    Kind("run/evaluate.json", of_run, 2),
    Kind("run/predictions.jsonl", of_run),
    Kind("run/judged/judge.json", of_run),
    Kind("run/judged/verdicts.jsonl", of_run),
    Kind("run/harness/harness.json", of_run),
    Kind("run/harness/harness.jsonl", of_run),
    Kind("scored/scoring.json", of_scoring),
    Kind("scored/parts/songs-00000-of-00001.array_record.json", of_note, 2),
    Kind("questions.jsonl", lambda: (questions.read_questions("questions.jsonl"),
                                     list(contamination.read_questions("questions.jsonl")))),
    Kind("out/stages.json", of_stages),
    Kind("out/counts.json", of_report),
    Kind("out/config.json", of_report),
    Kind("out/clean/counts.json", of_report),
    Kind("out/clean/composition.json", of_report),
    Kind("out/clean/samples.jsonl", of_report),
    Kind("out/boilerplate/lines.jsonl", of_report),
    Kind("pieces/read-00000.composition", lambda: notes.merge_composition(Path("pieces"))),
    Kind("pieces/samples-00000.too_short.jsonl", lambda: notes.merge_samples(Path("pieces"))),
    Kind("hf/config.json", of_hf, 3),
    Kind("hf/model.safetensors.index.json", lambda: hf.weight_files(Path("hf"))),
    Kind("tokenizer/tokenizer.json", of_tokenizer),
    Kind("rm/checkpoints/8/meta/metadata", of_meta),
)  # fmt: skip


def fuzzer(folder: Path) -> Callable[[Random], None]:
    """A case damages one file of a folder of whole ones and reads it."""
    write_all(folder)
    kinds = [kind for kind in KINDS for _ in range(kind.often)]

    def case(rng: Random) -> None:
        kind = rng.choice(kinds)
        top = kind.path.split("/")[0]
        whole = (folder / "whole" / kind.path).read_bytes()
        Path(kind.path).write_bytes(damage.of_file(rng, whole, kind.path.endswith(".jsonl")))
        try:
            kind.read()
        finally:
            restore(folder, top)

    return case


def restore(folder: Path, top: str) -> None:
    source = folder / "whole" / top
    if source.is_file():
        shutil.copyfile(source, folder / top)
    else:
        shutil.rmtree(folder / top)
        shutil.copytree(source, folder / top)


def lines(path: Path, values: list) -> None:
    path.write_text("".join(json.dumps(value) + "\n" for value in values))


def write_all(folder: Path) -> None:
    """whole/ and beside it the same: rows, runs and folders of every kind of file."""
    whole = folder / "whole"
    with tarfile.open(ROOT / "tests/data/old_run/files.tar.gz") as tar:
        tar.extractall(whole, filter="data")
    heldout = [json.loads(line) for line in (whole / "rm/heldout.jsonl").read_text().split("\n")[:-1]]
    lines(whole / "rm/heldout.jsonl", [heldout[0] | {"params_hash": "0" * 16}, *heldout[1:]])  # as later versions note
    write_run(whole / "run", whole / "questions.jsonl")
    write_pipeline(whole / "out", whole / "pieces")
    (whole / "hf").mkdir()
    shutil.copy(ROOT / "tests/data/qwen2_tied/config.json", whole / "hf")
    write_json(whole / "hf/model.safetensors.index.json", {"weight_map": {"a": "a.safetensors", "b": "b.safetensors"}})
    manifest = json.loads((whole / "domain/manifest.json").read_text())
    about = json.loads((whole / SCORED).read_text())["scores"]
    about = {name: about[name] for name in ("rm_hash", "compute_dtype", "encoding")}
    write_json(
        whole / "scored/scoring.json",
        about | {"input": text_hash(json.dumps([s["sha256"] for s in manifest["shards"]]))},
    )
    for path in whole.iterdir():
        (shutil.copyfile if path.is_file() else shutil.copytree)(path, folder / path.name)


def write_run(run: Path, questions: Path) -> None:
    shutil.rmtree(run / "checkpoints")
    source = {"is_domain": True, "nll": 2.0, "mean_weight": 1.0, "ess": 0.5, "tokens": 10}
    web = source | {"is_domain": False, "nll": 0.75}
    lines(
        run / "metrics.jsonl", [{"step": i, "loss": 2.0, "sources": {"music": source, "web": web}} for i in (1, 4, 8)]
    )
    lines(run / "goodput.jsonl", [
        {"phase": phase, "step": step, "seconds": 1.5}
        for phase, step in (("init", 0), ("compile", 1), ("data_wait", 1), ("step", 2), ("init", 1), ("checkpoint", 4))
    ])  # fmt: skip
    asked = [{"id": i, "question": f"q{i}", "answer": "a", "aliases": ["b"], "lang": "en"} for i in range(3)]
    lines(questions, asked)
    answered = [q | {"prediction": "x|y", "correct": q["id"] > 0} for q in asked]
    lines(run / "predictions.jsonl", answered)
    heldout = {"music": {"nll": 1.5, "tokens": 9}}
    write_json(
        run / "evaluate.json",
        {
            "params_hash": "h",
            "step": 8,
            "heldout": heldout,
            "questions": answers.grade(answered),
            "asked": {"questions": "p", "prompt": "Q", "stop": "", "max_new_tokens": 3},
            "earlier": None,
        },
    )
    write_json(run / "config.evaluate.json", {"evaluate": {"prompt": "Q", "stop": "\n", "max_new_tokens": 3}})
    for name in ("judged", "harness"):
        (run / name).mkdir()
    lines(run / "judged/verdicts.jsonl", [q | {"prediction": "x|y", "verdict": "CORRECT"} for q in asked])
    judge = {"kind": "llm", "model": "m", "hash": "ab12cd34"}
    write_json(run / "judged/judge.json", {"judge": judge, "questions": "q.jsonl", "n": 3, "answers": {"asked": {}}})
    lines(run / "harness/harness.jsonl", [{"id": f"arts/{i}", "task": "arts", "correct": i > 0} for i in range(3)])
    write_json(run / "harness/harness.json", {"tasks": {"arts": {"k": 2, "n": 3, "group": "cmmlu"}}, "settings": {}})


def write_pipeline(out: Path, pieces: Path) -> None:
    counts = {"read": 10, "kept": 8, "dropped": {"too_short": 2}, "changed": {"mojibake": 1}, "lines": {"footer": 3}}
    rows = [{"source": "music", "lang": "en", "documents": 8, "characters": 80, "bytes": 90}]
    sample = {"reason": "too_short", "id": "1", "source": "music", "lang": "en", "text": "a<b"}
    for stage in ("clean", "boilerplate"):
        (out / stage).mkdir(parents=True)
        write_json(out / stage / "counts.json", counts)
        write_json(out / stage / "composition.json", {"read": rows, "kept": rows})
        lines(out / stage / "samples.jsonl", [sample, sample])
    lines(out / "boilerplate/lines.jsonl", [{"source": "music", "documents": 4, "text": "home | login"}])
    write_json(out / "config.json", pipeline.defaults().to_dict() | {"input": "raw/"})
    stages = {"clean": counts, "boilerplate": counts}
    more = {"input": "raw/", "stages": stages, "seconds": {"clean": 1.5}, "left_out": {"rows": "needs a tokenizer"}}
    write_json(out / "counts.json", counts | more)
    steps = pipeline.recipe_of(pipeline.defaults()).steps
    write_json(out / "stages.json", {k: v | {"seconds": 1.0} for k, v in pipeline.marks_of(steps, [], {}).items()})
    pieces.mkdir()
    write_json(pieces / "read-00000.composition", [["music", "en", [8, 80, 90]], ["web", "", [1, 2, 3]]])
    lines(pieces / "samples-00000.too_short.jsonl", [sample, sample | {"id": "2"}])
