"""The fuzzers read whole files without a fault: what damage does shows only beside that."""

import pytest
from fuzz import own_files


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    own_files.write_all(folder)
    return folder


@pytest.mark.parametrize("kind", own_files.KINDS, ids=lambda kind: kind.path)
def test_a_whole_file_is_read(folder, monkeypatch, kind):
    monkeypatch.chdir(folder)
    kind.read()
