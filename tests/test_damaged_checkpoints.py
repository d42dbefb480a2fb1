"""Checkpoints that were damaged on the disk: none is restored as if it were whole."""

import errno
import os
import resource
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import one_device_mesh, small_config

from mucpt_jax import train, verify
from mucpt_jax.errors import UserError
from mucpt_jax.run import checkpoint, sums
from mucpt_jax.run.checkpoint import State
from mucpt_jax.step import model, optimizer

CFG = small_config()
IDENTITY = {"seed": 0, "data.batch_rows": 8}


def in_folder(ckpt) -> list[checkpoint.Folder]:
    return [checkpoint.Folder(ckpt, IDENTITY)]


def both_folders(workdir) -> list[checkpoint.Folder]:
    names = (checkpoint.CHECKPOINTS, checkpoint.RESUME)
    return [checkpoint.Folder(checkpoint.manager(workdir, CFG, name), IDENTITY) for name in names]


def raised(tree, by: int):
    return jax.tree.map(lambda x: x + jnp.asarray(by, x.dtype), tree)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A workdir with checkpoints of the steps 1 and 2, the states that were saved, and their shapes."""
    workdir, mesh, tx = tmp_path_factory.mktemp("run"), one_device_mesh(), optimizer.make(CFG)
    ckpt, states = checkpoint.manager(workdir, CFG), {}
    for step in (1, 2):
        params = model.init(CFG.model, jax.random.key(step))
        states[step] = State(params, raised(tx.init(params), step))
        checkpoint.save(ckpt, step, states[step], CFG, IDENTITY)
    checkpoint.finish(ckpt, 2)
    return workdir, states, train.abstract_state(CFG, tx, mesh)


def damage(path, kind: str, rng: np.random.Generator) -> None:
    data = bytearray(path.read_bytes())
    if kind == "flip" and data:
        data[rng.integers(len(data))] ^= 1 << rng.integers(8)
    elif kind == "zeros":
        start = int(rng.integers(max(len(data), 1)))
        data[start : start + 64] = bytes(len(data[start : start + 64]))
    path.unlink() if kind == "gone" else path.write_bytes(data[: len(data) // 2] if kind == "cut" else data)


def same(a, b) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def test_of_thirty_damaged_checkpoints_none_is_restored_silently(run, tmp_path, caplog):
    """Each either gives the state that was saved, or the older one and says so."""
    workdir, states, abstract = run
    rng, back = np.random.default_rng(0), 0
    files = sorted(path for path in (workdir / "checkpoints/2").rglob("*") if path.is_file())
    for number in range(30):
        shutil.copytree(workdir, tmp_path / str(number))
        kind = ("flip", "zeros", "cut", "gone")[number % 4] if number > 12 else "flip"
        hit = files[rng.integers(len(files))] if number % 2 else max(files, key=lambda path: path.stat().st_size)
        damage(tmp_path / str(number) / hit.relative_to(workdir), kind, rng)
        caplog.clear()
        step, state = checkpoint.restore(in_folder(checkpoint.manager(tmp_path / str(number), CFG)), abstract, CFG)
        assert same(state, states[step]), (number, kind, hit)
        assert step == 2 or "CHECKPOINT 2 IS DAMAGED AND TRAINING GOES BACK TO STEP 1" in caplog.text, (number, hit)
        back += step == 1
    assert back >= 15


@pytest.mark.parametrize("item", ["params", "opt_state"])
def test_arrays_that_are_not_those_that_were_saved_are_named(run, tmp_path, monkeypatch, item):
    workdir, states, abstract = run
    shutil.copytree(workdir, tmp_path / "run")
    other = states[2]._replace(**{item: raised(getattr(states[2], item), 1)})
    monkeypatch.setattr(checkpoint.ocp.CheckpointManager, "restore", restored_as(other))
    with pytest.raises(UserError, match=rf"/2 is damaged \(its {item} are not those that were saved\)"):
        checkpoint.restore_step(checkpoint.manager(tmp_path / "run"), 2, abstract, CFG, IDENTITY)


def restored_as(state: State):
    """CheckpointManager.restore, with the arrays of `state`."""
    whole = checkpoint.ocp.CheckpointManager.restore

    def restore(self, step, args):
        return state._asdict() if "params" in args else whole(self, step, args=args)

    return restore


def test_the_damaged_one_is_moved_away_and_its_step_can_be_saved_again(run, tmp_path):
    workdir, states, abstract = run
    shutil.copytree(workdir, tmp_path / "run")
    (tmp_path / "run/checkpoints/2/params/manifest.ocdbt").write_bytes(b"")
    ckpt = checkpoint.manager(tmp_path / "run", CFG)
    assert checkpoint.restore(in_folder(ckpt), abstract, CFG)[0] == 1
    assert [path.name[:2] for path in (tmp_path / "run/checkpoints.damaged").iterdir()] == ["2-"]
    checkpoint.save(ckpt, 2, states[2], CFG, IDENTITY)
    checkpoint.finish(ckpt, 2)
    step, state = checkpoint.restore(in_folder(checkpoint.manager(tmp_path / "run", CFG)), abstract, CFG)
    assert step == 2 and same(state, states[2])


def test_a_damaged_newest_state_goes_back_to_the_kept_one_of_the_other_folder(run, tmp_path):
    """As with train.keep=best, which has its best state in checkpoints/ and the newest in resume/."""
    workdir, states, abstract = run
    shutil.copytree(workdir / "checkpoints/1", tmp_path / "run/checkpoints/1")
    shutil.copytree(workdir / "checkpoints/2", tmp_path / "run/resume/2")
    (tmp_path / "run/resume/2/params/manifest.ocdbt").write_bytes(b"")
    both = both_folders(tmp_path / "run")
    assert list(verify.verify(tmp_path / "run")) != []
    step, state = checkpoint.restore(both, abstract, CFG)
    assert step == 1 and same(state, states[1])
    assert [path.name[:2] for path in (tmp_path / "run/resume.damaged").iterdir()] == ["2-"]


def test_where_no_checkpoint_is_whole_nothing_is_moved(run, tmp_path):
    workdir, _, abstract = run
    shutil.copytree(workdir, tmp_path / "run")
    for step in (1, 2):
        (tmp_path / f"run/checkpoints/{step}/params/manifest.ocdbt").write_bytes(b"")
    sentence = r"/2 is damaged .*, and so are the 1 older ones; move all away to go on from the start"
    with pytest.raises(UserError, match=sentence):
        checkpoint.restore(in_folder(checkpoint.manager(tmp_path / "run", CFG)), abstract, CFG)
    (tmp_path / "run/resume").mkdir()  # the older one as the kept state of train.keep=best: it counts all the same
    (tmp_path / "run/checkpoints/2").rename(tmp_path / "run/resume/2")
    with pytest.raises(UserError, match=sentence):
        checkpoint.restore(both_folders(tmp_path / "run"), abstract, CFG)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["checkpoints", "resume"]


@pytest.mark.parametrize("item", ["meta", "params"])
@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EMFILE, os.strerror(errno.EMFILE)), PermissionError(errno.EACCES, os.strerror(errno.EACCES)),
        MemoryError(), ValueError('Error opening "zarr" driver: [OS error 5 EIO: Input/output error]'),
        RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes"),
    ],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_what_does_not_show_damage_goes_back_to_no_older_state(run, tmp_path, monkeypatch, item, error):
    workdir, _, abstract = run
    shutil.copytree(workdir, tmp_path / "run")
    whole = checkpoint.ocp.CheckpointManager.restore

    def restore(self, step, args):
        if step == 2 and item in args:
            raise RuntimeError("the library's own words") from error
        return whole(self, step, args=args)

    monkeypatch.setattr(checkpoint.ocp.CheckpointManager, "restore", restore)
    with pytest.raises(UserError, match=r"/2 could not be read \(.*\), which does not show damage; mend that"):
        checkpoint.restore(in_folder(checkpoint.manager(tmp_path / "run", CFG)), abstract, CFG)
    assert sorted(os.listdir(tmp_path / "run/checkpoints")) == ["1", "2"]


def test_too_many_open_files_are_no_damage(run, tmp_path):
    """As the system itself says it, through Orbax and tensorstore."""
    workdir, _, abstract = run
    shutil.copytree(workdir, tmp_path / "run")
    ckpt = checkpoint.manager(tmp_path / "run", CFG)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)  # the lowest number that is free: with it as the limit, no file can be opened
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        with pytest.raises(UserError, match=r"could not be read \(.*Too many open files"):
            checkpoint.restore(in_folder(ckpt), abstract, CFG)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert checkpoint.restore(in_folder(ckpt), abstract, CFG)[0] == 2


@pytest.mark.parametrize(
    ("hosts", "sentence"),
    [
        ([0, 1], r"/2 is damaged \(host 1 could not read it\); move it away to go on from step 1"),
        ([0, 1, 2], r"/2 could not be read \(on host 2, whose log tells why\), which does not show damage"),
    ],
)
def test_a_meta_that_one_host_cannot_read_ends_all(run, monkeypatch, hosts, sentence):
    """This host is the first and has read it: it must not go on to what all do together."""
    monkeypatch.setattr(checkpoint, "hosts_faults", lambda own: np.array([own, *hosts[1:]]))
    with pytest.raises(UserError, match=sentence):
        checkpoint.read_meta(checkpoint.manager(run[0]), 2, CFG)


def test_a_job_that_only_reads_takes_no_older_state(run, tmp_path):
    """Else it would score or export a model that nobody asked for."""
    workdir, _, abstract = run
    shutil.copytree(workdir, tmp_path / "run")
    (tmp_path / "run/checkpoints/2/params/manifest.ocdbt").write_bytes(b"")
    with pytest.raises(UserError, match=r"/2 is damaged .*; move it away to go on from step 1"):
        checkpoint.restore_params(tmp_path / "run", abstract.params, CFG)


def test_the_hash_of_an_optimiser_sees_every_bit_of_every_dtype():
    arrays = [np.zeros(3, np.float32), np.zeros((), np.int32), np.zeros(2, jnp.bfloat16), np.zeros(2, bool)]
    whole = sums.opt_state_hash(arrays)
    assert sums.opt_state_hash({"other": arrays[::-1]}) == whole
    for i, value in enumerate([1e-45, 1, 1e-40, True]):
        changed = [x if i != j else np.full_like(x, value) for j, x in enumerate(arrays)]
        assert sums.opt_state_hash(changed) != whole
