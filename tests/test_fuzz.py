"""The fuzzers see what they look for, and a case is the same each time."""

import pytest

from mucpt_jax.errors import UserError
from tests.fuzz import child, damage


def test_a_stack_and_a_long_sentence_are_faults_and_a_short_sentence_is_none():
    def ending(error):
        def case(rng):
            raise error

        return child.fault_of(case, child.rng_of("files", 0, 0))

    assert ending(UserError("no; use another")) is ending(OSError(2, "No such file", "x" * 9000)) is None
    assert child.fault_of(lambda rng: None, None) is None
    assert ending(KeyError("step")).startswith("KeyError at ")
    assert "a sentence of 3,000 characters" in ending(SystemExit("x" * 3000))


@pytest.mark.parametrize("lines", [False, True])
def test_a_case_follows_from_its_number_and_most_cases_change_the_file(lines):
    data = b'{"a": [1, {"b": "c"}]}\n' * (2 if lines else 1)
    cases = [[damage.of_file(child.rng_of("files", 0, n), data, lines) for n in range(100)] for _ in range(2)]
    assert cases[0] == cases[1]
    assert len(set(cases[0])) > 80 and cases[0].count(data) < 20
