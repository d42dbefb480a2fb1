import pytest

from mucpt_jax.evaluation import paired


def test_mcnemar_is_the_two_sided_binomial_of_the_discordant_questions():
    for discordant in ((1, 7), (7, 1)):
        assert paired.mcnemar(*discordant) == pytest.approx(2 * (1 + 8) / 2**8)
    assert paired.mcnemar(5, 0) == pytest.approx(2 / 32)
    assert paired.mcnemar(3, 3) == paired.mcnemar(0, 0) == 1.0
    # 25 questions of 500 between two models are significant with up to 149 discordant ones, 10 with up to 20.
    assert paired.mcnemar(87, 62) < 0.05 <= paired.mcnemar(88, 63)
    assert paired.mcnemar(15, 5) < 0.05 <= paired.mcnemar(16, 6)


def test_newcombe_interval_of_published_examples():
    # Altman et al. 2000, Statistics with Confidence, table 6.2: 0.011 to 0.226.
    assert paired.newcombe(14, 5, 0, 22) == pytest.approx((0.0115, 0.2265), abs=5e-5)
    # Fagerland, Lydersen, Laake 2014, airway hyper-responsiveness: -0.507 to -0.026.
    assert paired.newcombe(1, 1, 7, 12) == pytest.approx((-0.507, -0.026), abs=5e-4)


def test_newcombe_turns_round_with_the_pair_and_stays_inside_one():
    low, high = paired.newcombe(40, 12, 5, 43)
    assert paired.newcombe(40, 5, 12, 43) == pytest.approx((-high, -low))
    assert paired.newcombe(0, 10, 0, 0)[1] == 1.0  # always right against never
    low, high = paired.newcombe(10, 0, 0, 0)  # both always right
    assert low == pytest.approx(-high) and high < 0.3


def test_newcombe_is_narrower_where_the_two_answer_alike():
    low, high = paired.newcombe(45, 5, 0, 50)
    loose = paired.newcombe(25, 25, 20, 30)  # the same 50% and 45%, no correlation
    assert high - low < 0.5 * (loose[1] - loose[0])


def test_holm_multiplies_the_smallest_by_all_and_never_falls():
    assert paired.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert paired.holm([0.6, 0.9]) == [1.0, 1.0]
    assert paired.holm([]) == []
