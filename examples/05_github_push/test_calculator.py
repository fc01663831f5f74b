"""The tests that the push runs: upload this file into the repository's session."""

import unittest


def mean(numbers: list[float]) -> float:
    """Return the arithmetic mean."""
    return sum(numbers) / len(numbers)


class MeanTest(unittest.TestCase):
    """What a mean must do."""

    def test_mean_of_two(self) -> None:
        self.assertEqual(mean([1, 2]), 1.5)
