import numpy as np
import pytest
from test_select import write

from data_prep.packing import loss_ratio
from mucpt_jax.errors import UserError
from mucpt_jax.formats.files import write_json
from mucpt_jax.formats.manifest import read_manifest


@pytest.fixture
def folders(tmp_path):
    return write(tmp_path / "scored"), write(tmp_path / "base", which=1)


def test_rho_is_a_ratio_of_sums_over_the_whole_document(folders):
    """A's mean of token ratios is (4 x 2 + 2 x 0.25) / 6 = 1.42 and would be kept; its ratio of sums is 10 / 12."""
    segments = loss_ratio.read_sums(*folders, read_manifest(folders[0]))
    assert segments["document"].tolist() == [0, 1, 0, 2, 3]  # rows: A, B; the rest of A, C; A of songs
    documents = loss_ratio.sums_of_units(segments, "document")
    assert documents["targets"].tolist() == [6, 3, 0, 2]
    np.testing.assert_array_equal(documents["rho"], [10 / 12, 2 / 1.5, np.nan, 1.0])
    by_segment = loss_ratio.sums_of_units(segments, "segment")
    np.testing.assert_array_equal(by_segment["rho"], [2.0, 2 / 1.5, 0.25, np.nan, 1.0])


def test_a_certain_reference_model_has_no_limit_and_two_certain_models_are_equal():
    base, rm, targets = np.array([[3.0, 0.0, 0.0, 0.0], [0.0, 0.0, 2.0, 0.0], [5, 5, 5, 0]])
    assert loss_ratio.ratio(base, rm, targets)[:3].tolist() == [np.inf, 1.0, 0.0]
    assert np.isnan(loss_ratio.ratio(base, rm, targets)[3])


@pytest.mark.parametrize("more", [1, -1])
def test_a_manifest_that_counts_other_records_than_the_shards_hold_is_refused(folders, more):
    for folder in folders:
        manifest = read_manifest(folder)
        manifest["shards"][0]["records"] += more
        write_json(folder / "manifest.json", manifest)
    with pytest.raises(UserError, match=r"music-.* has not the . records of its manifest"):
        loss_ratio.read_sums(*folders, read_manifest(folders[0]))
