"""What is read from a config.json of the Hugging Face Hub."""

import pytest

from gasmcast.core.errors import WeightsError
from gasmcast.features.hub_config import read_values, require_kind, require_values


def test_known_keys_are_read_and_missing_ones_have_their_default():
  values = {"depth": 12, "ratio": 4, "patch": [16, 16], "comment": "ignored"}
  read = read_values(values, {"depth": 1, "ratio": 2.5, "patch": 14, "gated": False, "act": "gelu"})
  assert read == {"depth": 12, "ratio": 4, "patch": 16, "gated": False, "act": "gelu"}


@pytest.mark.parametrize(
  ("value", "default", "kind"),
  [
    ("12", 12, "int"),
    (12.5, 12, "int"),
    (True, 12, "int"),
    (1, True, "bool"),
    ("4", 4.0, "float"),
    (None, "gelu", "str"),
  ],
)
def test_a_value_of_another_type_is_refused(value, default, kind):
  with pytest.raises(WeightsError, match=f"key = {value!r}, which is no {kind}: .* Get it again, or use other weights"):
    read_values({"key": value}, {"key": default})


def test_a_side_that_differs_from_the_other_is_refused():
  with pytest.raises(WeightsError, match=r"patch = \[16, 8\], which is no int"):
    read_values({"patch": [16, 8]}, {"patch": 16})


@pytest.mark.parametrize(("values", "said"), [({"model_type": "bert"}, "'bert'"), ({}, "None")])
def test_a_file_of_another_network_is_refused(values, said):
  with pytest.raises(WeightsError, match=f"is of a {said}, not of a 'a' or 'b'; name its backbone"):
    require_kind(values, "a", "b")
  assert require_kind({"model_type": "b"}, "a", "b") == "b"


def test_every_value_that_is_not_built_is_named():
  require_values("vit", {"act": "gelu", "bias": True}, {"act": "gelu"})
  message = "'vit' with act = 'relu', bias = False; only act = 'gelu', bias = True is built here. Use weights made so"
  with pytest.raises(WeightsError, match=message):
    require_values("vit", {"act": "relu", "bias": False, "eps": 1.0}, {"act": "gelu", "bias": True, "eps": 1.0})
