"""Names of folders that scripts and libraries stumble over: each job works below them, or refuses them at its start."""

from pathlib import Path

import pytest
from conftest import one_device_mesh, small_config, write_rows
from test_faults import STAGES, flags, lines_of, packed, texts  # noqa: F401

from mucpt_jax import score, train
from mucpt_jax.errors import UserError
from mucpt_jax.run import checkpoint

ALL = "-dash \n\t%41音乐'\"*?#{x}~&;$HOME:=,."
GOOD = ["with blank", "音乐", "100% %41", "a#b", "it's", 'say "so"', "a*b?", "{x}", "-dash", "~home", "s3:x", "a=b,c",
        "a&b;$HOME", "new\nline\t", "ends."]  # fmt: skip
REFUSED = ["[x]", "back\\slash"]  # by what saves checkpoints


def slow(name: str):
    return pytest.param(name, marks=pytest.mark.slow)


def trained(folder: Path, steps: int) -> None:
    data = {"general": str(folder / "rows"), "general_fraction": 1.0, "read_threads": 1}
    cfg = small_config(data=data, optimizer={"steps": steps}, train={"checkpoint_every": 1})
    train.train(cfg, one_device_mesh(), folder / "run")


@pytest.mark.parametrize("name", [REFUSED[0], slow(REFUSED[1])])
def test_a_workdir_whose_checkpoints_could_not_be_read_back_is_refused_before_anything_is_written(tmp_path, name):
    folder = tmp_path / name
    write_rows(folder / "rows", {"music": 8})
    with pytest.raises(UserError, match=r"no checkpoint can be read back below .* name another --workdir, or a link"):
        trained(folder, 1)
    assert not (folder / "run").exists()
    (tmp_path / "link").symlink_to(folder)
    trained(tmp_path / "link", 1)
    trained(tmp_path / "link", 2)  # what the sentence advises can be read back
    assert checkpoint.newest_step(tmp_path / "link" / "run") == 2


@pytest.mark.parametrize("name", [ALL, slow("x" * 200)])
def test_a_run_below_a_folder_of_any_other_name_goes_on_and_scores(tmp_path, name):
    folder = tmp_path / name
    write_rows(folder / "rows", {"music": 8})
    trained(folder, 1)
    trained(folder, 2)
    assert checkpoint.newest_step(folder / "run") == 2
    places = {"input": str(folder / "rows"), "output": str(folder / "scored"), "batch_rows": 8}
    score.score(small_config(score=places), one_device_mesh(), folder / "run")
    assert (folder / "scored" / "manifest.json").is_file()


@pytest.mark.parametrize("name", [ALL, *map(slow, [*REFUSED, "x" * 200, *GOOD])])
def test_document_jobs_read_and_write_below_any_name(tmp_path, flags, name):  # noqa: F811
    folder = tmp_path / name
    folder.mkdir()
    source = packed(folder / f"{name[:50]}.jsonl", lines_of(texts(20)))
    for stage, where in (("clean", source), ("dedup", folder / "clean"), ("shard", folder / "dedup")):
        STAGES[stage].run([f"--input={where}", f"--output={folder / stage}", *flags[stage]])
    assert (folder / "shard" / "manifest.json").is_file()
