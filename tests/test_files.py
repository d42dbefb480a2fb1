"""Files and folders are replaced whole, by one run at a time."""

import errno
import os
from contextlib import nullcontext

import pytest

from mucpt_jax.errors import DISK_FULL, UserError, exiting
from mucpt_jax.formats import files


def test_bytes_are_on_the_disk_before_the_name_that_says_so(tmp_path, monkeypatch):
    """Of files and folders; the folder's own names come last."""
    events, replace = [], os.replace
    monkeypatch.setattr(files, "sync", lambda path: events.append(f"sync {path.name.split('.')[0].split('-')[0]}"))
    monkeypatch.setattr(files.os, "replace", lambda a, b: (events.append(f"name {b.name}"), replace(a, b)))
    files.write_text(tmp_path / "manifest.json", "{}")
    assert events == ["sync manifest", "name manifest.json", f"sync {tmp_path.name.split('-')[0]}"]
    events.clear()
    with files.replacing_folder(tmp_path / "out", "OUT") as folder:
        (folder / "kept.parquet").touch()
    assert events == ["sync kept", "sync run", "name out", f"sync {tmp_path.name.split('-')[0]}"]


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_the_old_one_until_the_new_one_is_whole(tmp_path):
    files.write_text(tmp_path / "a.txt", "old")
    with files.replacing(tmp_path / "a.txt") as beside:
        beside.write_text("new")
        assert (tmp_path / "a.txt").read_text() == "old" and beside.parent == tmp_path
    assert (tmp_path / "a.txt").read_text() == "new" and names(tmp_path) == ["a.txt"]
    with pytest.raises(KeyError), files.replacing(tmp_path / "a.txt") as beside:
        beside.write_text("half")
        raise KeyError
    assert (tmp_path / "a.txt").read_text() == "new" and names(tmp_path) == ["a.txt"]


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    with files.replacing(tmp_path / "a") as one, files.replacing(tmp_path / "a") as other:
        assert one != other
        one.write_text("1"), other.write_text("2")
    assert (tmp_path / "a").read_text() == "1"  # the last one to end


def test_a_folder_takes_the_place_of_the_old_one_as_a_whole(tmp_path):
    out = tmp_path / "below" / "out"
    for content in ("old", "new"):
        with files.replacing_folder(out, "OUT") as folder:
            (folder / content).touch()
            assert names(out) == ["old"] if content == "new" else not out.exists()
        assert names(out) == [content] and names(out.parent) == ["out"]
    full = pytest.raises(UserError, match=r"OUT cannot be written to the end \(.*No space left.*\); make room")
    with full, files.replacing_folder(out, "OUT") as folder:
        (folder / "half").touch()
        raise OSError(errno.ENOSPC, "No space left on device")
    assert names(out) == ["new"] and names(out.parent) == ["out"]


def test_a_second_run_into_a_folder_is_refused_until_the_first_has_ended(tmp_path):
    refused = pytest.raises(UserError, match="OUT is being written by another run")
    with files.locked(tmp_path, "OUT"), refused, files.locked(tmp_path, "OUT"):
        pass
    with files.locked(tmp_path, "OUT"):
        pass


def test_a_lock_that_was_removed_meanwhile_protects_nothing(tmp_path, monkeypatch):
    def lost(*_):
        os.unlink(tmp_path / "lock")  # the run before has ended, and cleared its folder

    monkeypatch.setattr(files.fcntl, "flock", lost)
    with pytest.raises(UserError, match="is being written by another run"), files.locked(tmp_path, "OUT"):
        pass


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (UserError("a=1 is wrong; use 2"), "error: a=1 is wrong; use 2"),
        (PermissionError(errno.EACCES, "Permission denied", "x"), r"error: \[Errno 13\] Permission denied: 'x'$"),
    ],
)
def test_a_command_ends_with_one_sentence_for_what_is_the_users_to_mend(error, sentence):
    with pytest.raises(SystemExit, match=sentence), exiting():
        raise error
    with pytest.raises(ZeroDivisionError), exiting():  # a fault of ours shows its place
        raise ZeroDivisionError


def foreign_place(out, kind: str, target) -> None:
    """What somebody put where replacing_folder writes: (target) holds what is dear to them."""
    writing = out.with_name(".out.writing")
    target.mkdir()
    (target / "dear").write_text("dear")
    if kind == "linked folder":
        (target / "run-0123abcd").mkdir()
        writing.symlink_to(target)
    else:
        writing.mkdir()
        (writing / "run-0123abcd").symlink_to(target) if kind == "linked run" else None
        (writing / "lock").symlink_to(target / "dear") if kind == "linked lock" else None
        (writing / "lock").write_text("dear") if kind == "foreign lock" else None
        (writing / "lock").write_text("lock of mucpt_jax\n0123abcd\n../../target\n") if kind == "linked run" else None
        (writing / "old-fedcba98").mkdir() if kind == "foreign folder" else None


def content(folder) -> dict:
    return {str(path): path.is_file() and path.read_text() for path in folder.rglob("*") if path.name != "new"}


@pytest.mark.parametrize("kind", ["linked folder", "linked run", "linked lock", "foreign lock", "foreign folder"])
def test_nothing_of_others_is_removed_or_written_to(tmp_path, kind):
    out = tmp_path / "out"
    foreign_place(out, kind, tmp_path / "target")
    before = content(tmp_path / "target"), content(tmp_path / ".out.writing")
    refused = kind in ("linked folder", "linked lock", "foreign lock")
    wanted = pytest.raises(UserError, match="is not of this program") if refused else nullcontext()
    with wanted, files.replacing_folder(out, "OUT") as folder:
        (folder / "new").touch()
    assert out.exists() != refused
    assert content(tmp_path / "target") == before[0]
    if kind in ("foreign lock", "foreign folder"):
        assert content(tmp_path / ".out.writing") == before[1]


def test_only_unfinished_files_of_ours_are_cleared(tmp_path):
    for name in ("a.json.0123abcd.writing", "a.json.writing", "b.json.0123abcd.writing", "a.json.mine.writing"):
        (tmp_path / name).touch()
    files.clear_unfinished(tmp_path, ["a.json"])
    assert names(tmp_path) == ["a.json.mine.writing", "a.json.writing", "b.json.0123abcd.writing"]


@pytest.mark.parametrize("name", ["../a", "/a", "a/b", "a\\b", "..", ".", "", "a\0", None, 3])
def test_a_name_in_a_manifest_is_one_of_its_own_folder(name):
    with pytest.raises(UserError, match=r"manifest\.json names the file .* no name in its own folder"):
        files.bare_name(name, "manifest.json")
    assert files.bare_name("音乐-00000-of-00001.array_record", "") == "音乐-00000-of-00001.array_record"


def full(how: str) -> Exception:
    """As Python, our own files, tensorstore and array_record tell of a full disk or quota."""
    words = "No space left on device"
    if how == "python":
        return OSError(errno.ENOSPC, words)
    if how == "quota":
        return OSError(errno.EDQUOT, "Disk quota exceeded")
    error = UserError("a checkpoint could not be written under run/checkpoints by step 40; make room")
    error.__cause__ = ValueError(f"RESOURCE_EXHAUSTED: Failed to write 97 bytes: {words} [os_error_code='28']")
    return error


@pytest.mark.parametrize("how", ["python", "quota", "library"])
def test_a_full_disk_has_its_own_exit_status(how, capsys):
    with pytest.raises(SystemExit) as ended, exiting():
        raise full(how)
    assert ended.value.code == 74 == DISK_FULL
    told = capsys.readouterr().err
    assert told.startswith("error: ") and "make room" in told and told.count("\n") == 1
