"""A finished feature store of ten examples."""

import shutil

import pytest

from gasmcast.store.feature_store import FeatureStore, create, find, store_key
from tests.store.made_up_features import DESCRIPTION, extract


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> FeatureStore:
  """With a split "train" of 10 examples in 4 shards, two views each; not to be changed."""
  store = create(tmp_path_factory.mktemp("store") / store_key("dinov3", "r3d18", DESCRIPTION), DESCRIPTION)
  assert extract(store, "train", 10, 3, views=2) == [0, 1, 2, 3]
  return store


@pytest.fixture
def store(tmp_path, finished) -> FeatureStore:
  """A copy of it for one test."""
  return find(shutil.copytree(finished.folder, tmp_path / finished.folder.name), {})
