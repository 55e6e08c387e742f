"""Every user error can be told apart from a defect, and travels between processes."""

import pickle

import pytest

from gasmcast.core import errors

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.UserError)]


def test_the_kinds_are_these():
  names = ["ChecksFailed", "ConfigError", "DataError", "TrainingError", "UserError", "WeightsError", "WorkdirError"]
  assert sorted(kind.__name__ for kind in KINDS) == names
  assert not issubclass(errors.Stopped, errors.UserError)  # nothing has to be mended


def test_a_user_error_is_none_of_the_errors_a_defect_raises():
  assert errors.UserError.__bases__ == (Exception,)
  assert len({errors.EXIT_DONE, errors.EXIT_DEFECT, errors.EXIT_USER, errors.EXIT_CHECKS}) == 4
  assert errors.EXIT_DONE == 0


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_error_survives_the_way_back_from_a_worker(kind):
  back = pickle.loads(pickle.dumps(kind("rule, number, remedy")))
  assert type(back) is kind
  assert str(back) == "rule, number, remedy"
