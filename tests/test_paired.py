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


def test_the_bootstrap_of_questions_is_the_normal_interval_where_there_are_many():
    # 40 won, 20 lost of 500: mean .04, variance (60 / 500 - .04^2) / 500 = .0154^2.
    low, high = paired.bootstrap([1] * 40 + [-1] * 20 + [0] * 440, list(range(500)))
    assert (low, high) == pytest.approx((0.04 - 1.96 * 0.0154, 0.04 + 1.96 * 0.0154), abs=0.002)
    assert paired.bootstrap([1] * 9, list(range(9))) == (1.0, 1.0)


def test_questions_on_few_artists_make_a_wider_interval():
    differences = [1] * 10 + [0] * 90
    alone = paired.bootstrap(differences, list(range(100)))
    together = paired.bootstrap(differences, [i // 10 for i in range(100)])  # one artist has all that differ
    assert together[1] - together[0] > 2 * (alone[1] - alone[0])


def test_the_smallest_difference_of_500_questions_is_4_to_7_points():
    points = [100 * paired.smallest_difference(500, discordant) for discordant in (0.1, 0.2, 0.3)]
    assert points == pytest.approx([4.0, 5.6, 6.8], abs=0.06)
    assert paired.smallest_difference(10, 0.1) is None and paired.smallest_difference(10, 0.0) is None


def test_kappa_of_two_judges():
    first, second = ({(i,): {"correct": c == "+"} for i, c in enumerate(right)} for right in ("++--", "+---"))
    agreed = paired.agreement(first, second)
    assert (agreed["agree"], agreed["differ"]) == (0.75, [(1,)])
    assert agreed["kappa"] == pytest.approx((0.75 - 0.5) / 0.5)
