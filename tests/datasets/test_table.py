"""Data sets by name."""

import importlib
import inspect
import json

import pytest

from gasmcast.core.errors import ConfigError, DataError
from gasmcast.datasets.table import DATASETS, feature_shapes, features, gives_features, load


def test_every_name_leads_to_a_reader_that_refuses_an_absent_folder_in_one_line(tmp_path):
  for name, module in DATASETS.items():
    assert list(inspect.signature(importlib.import_module(module).load).parameters)[:2] == ["root", "split"]
    if gives_features(name):  # which lie in no folder
      continue
    with pytest.raises(DataError, match="absent") as refusal:
      load(name, tmp_path / "absent", "train")
    assert "\n" not in str(refusal.value)


def test_a_data_set_is_loaded_by_name_with_its_options(tmp_path):
  (tmp_path / "list.txt").write_text("a.mp4 1\n")
  (tmp_path / "labels.json").write_text(json.dumps({"x": "0", "y": "1"}))
  assert load("list", tmp_path, "train", file="list.txt").examples[0].labels == {"action": 1}


def test_unknown_names_and_options_are_refused(tmp_path):
  with pytest.raises(
    ConfigError, match=r"'ssv2' is no data set; use one of something_something, epic_kitchens, first_"
  ):
    load("ssv2", tmp_path, "train")
  with pytest.raises(ConfigError, match=r"'list' has no option 'fps'; its options: file, rate, answers"):
    load("list", tmp_path, "train", fps=3)
  with pytest.raises(ConfigError, match=r"'something_something' has no option 'root_folder'; its options: none"):
    load("something_something", tmp_path, "train", root_folder="x")


def test_a_data_set_of_features_has_their_shapes_and_is_a_source():
  assert [name for name in DATASETS if gives_features(name)] == ["feature_sets"]
  options = {"task": "directions", "train": 3, "time": 6}
  dataset = load("feature_sets", "", "train", **options)
  source = features("feature_sets", dataset, **options)
  assert {name: x.shape for name, x in source.read(2).items()} == feature_shapes("feature_sets", **options)
  with pytest.raises(ConfigError, match=r"config\.data\.options\.tsk is not a field; did you mean 'task'\?"):
    load("feature_sets", "", "train", tsk="directions")
