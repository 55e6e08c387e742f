"""Splits by groups."""

import pytest

from gasmcast.core.errors import ConfigError
from gasmcast.datasets.shares import check_shares, split_of


def test_groups_fall_into_splits_by_their_shares_and_stay_there():
  shares = check_shares({"validation": 0.25, "train": 0.75})
  splits = {f"person {number}": split_of(f"person {number}", shares) for number in range(2000)}
  assert 450 < list(splits.values()).count("validation") < 550
  # Of the hash of "a" the first digits are 17762f.. (0.09), of "b" 10e5cf.. (0.07): computed once, the same everywhere.
  assert [split_of(name, {"train": 0.08, "validation": 0.92}) for name in "ab"] == ["validation", "train"]
  assert {split_of(str(number), {"train": 0.0, "test": 1.0}) for number in range(50)} == {"test"}


@pytest.mark.parametrize(
  ("shares", "message"),
  [
    ({"train": 0.8}, r"the shares add up to 0.8, not to 1; write shares such as"),
    ({"train": 0.8, "val": 0.2}, r"shares.val is no split, use train, validation, test"),
    ({"train": 1.5, "test": -0.5}, r"shares.train = 1.5 is no number from 0 to 1"),
    ({"train": True}, r"shares.train = True is no number"),
    ({"train": "1"}, r"shares.train = '1' is no number"),
    ({"train": float("nan")}, r"shares.train = nan is no number"),
    ({}, r"the shares add up to 0, not to 1"),
    (0.8, r"shares = 0.8 is no mapping"),
  ],
)
def test_impossible_shares_are_refused(shares, message):
  with pytest.raises(ConfigError, match=message):
    check_shares(shares)
