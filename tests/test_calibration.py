import numpy as np
import pytest

from mucpt_jax.errors import UserError
from mucpt_jax.formats import score_sums

R = np.array([0.0, 0.5, 2.0, 4.0], np.float16)


def test_mean_weight_and_effective_sample_size_at_a_floor_by_hand():
    # floor 1: weights 1, 1, 1/2, 1/4; floor 5: all 1/5
    found = score_sums.summary(score_sums.stats_of(R, "here"))
    assert found["mean_raw_weight"]["1.0"] == pytest.approx(2.75 / 4)
    assert found["ess"]["1.0"] == pytest.approx(2.75**2 / (4 * (1 + 1 + 1 / 4 + 1 / 16)))
    assert found["ess"]["5.0"] == pytest.approx(1.0)
    assert found["mean_nll"] == pytest.approx(6.5 / 4)


def test_the_weight_mass_lies_where_the_reference_model_is_sure():
    mass = score_sums.summary(score_sums.stats_of(R, "here"))["weight_mass"]["1.0"]
    named = dict(zip(score_sums.EDGES, mass, strict=False))
    assert named[0.0] == named[0.3] == pytest.approx(1 / 2.75, abs=1e-6)
    assert (named[2.0], named[3.0]) == pytest.approx((0.5 / 2.75, 0.25 / 2.75), abs=1e-6)
    assert score_sums.coarse(mass) == pytest.approx([1 / 2.75, 0, 1 / 2.75, 0.5 / 2.75, 0.25 / 2.75, 0], abs=2e-6)


def test_sums_of_two_parts_are_those_of_the_whole():
    parts = [score_sums.stats_of(r, "here", base_nll=2 * r) for r in (R[:1], R[1:])]
    whole = score_sums.stats_of(R, "here", base_nll=2 * R)
    assert score_sums.summary(score_sums.add(*parts)) == score_sums.summary(whole)


def test_the_recommended_floor_is_the_smallest_with_half_the_sample():
    assert score_sums.recommended_floor({"0.1": 0.2, "0.5": 0.5, "1.0": 0.7}) == 0.5
    assert score_sums.recommended_floor({"0.1": 0.2, "10.0": 0.4}) == 10.0
    # 10 tokens that the RM is sure of, 90 of one nat: (10/f + 90)^2 / 100(10/f^2 + 90), 0.33 at 0.1, 0.58 at 0.2.
    r = np.concatenate([np.full(10, 0.001), np.full(90, 1.0)])
    ess = score_sums.summary(score_sums.stats_of(r, "here"))["ess"]
    assert ess["0.001"] == pytest.approx((10 * 1000 + 90) ** 2 / (100 * (10 * 1e6 + 90)))
    assert score_sums.recommended_floor(ess) == 0.2


def test_a_negative_or_infinite_score_is_refused():
    for bad in (-0.5, np.inf, np.nan):
        with pytest.raises(UserError, match="rows: the model gave a score that is NaN, infinite or negative"):
            score_sums.stats_of(np.array([1.0, bad]), "rows")


def test_the_table_marks_the_recommended_floor_and_names_the_model():
    scores = {"rm_hash": "abc", **score_sums.summary(score_sums.stats_of(R, "here"))}
    lines = score_sums.as_text(scores).splitlines()
    assert lines[0] == "4 targets scored by abc, mean r 1.625 nats"
    assert sum("smallest with ess" in line for line in lines) == 1
    assert lines[-1] == f"recommended: --config.loss.rm_floor={scores['recommended_floor']}"


def test_floors_that_are_all_alike_recommend_none():
    scores = {"rm_hash": "abc", **score_sums.summary(score_sums.stats_of(np.full(9, 12.0), "here"))}
    text = score_sums.as_text(scores)
    assert "smallest with ess" not in text and "rm_floor" not in text
    assert text.splitlines()[-1].startswith("recommended: none, all floors")
