"""Stored features are those that the model computes; a store is found by all that made it."""

import copy
import dataclasses
import errno
import json
import os
import pathlib
import re
import types

import jax
import numpy as np
import pytest

from gasmcast.core.config import parse, to_dict
from gasmcast.core.errors import ConfigError, DataError, WorkdirError
from gasmcast.core.shards import Work
from gasmcast.jobs import extract, extraction, extractor
from gasmcast.jobs.experiment import Experiment
from gasmcast.jobs.extraction import ExtractConfig, wanted
from gasmcast.jobs.extractor import Extractor, describe, store_folder
from gasmcast.store.compression import Variant, compress, decompress, load_pca
from gasmcast.store.feature_store import find, store_key
from gasmcast.store.source import split_name
from gasmcast.systems.gasmcast_network import Backbones
from tests.jobs import frozen_clips

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def sized(frozen_data):
  """(experiment with the sizes of its weights, the weights)."""
  config = frozen_clips.make_config(frozen_data / "data", frozen_data)
  return Experiment(config, frozen_data / "unused", "python launch/main.py").with_weights()


@pytest.fixture(scope="module")
def computed(sized):
  """Features of the clips of train, straight from the videos, two at a time; float32 by stream."""
  experiment, pretrained = sized
  clips = experiment.clips(experiment.dataset("train"))
  frames = np.stack([clips.read(index)["frames"] for index in range(10)])
  apply = jax.jit(Backbones(experiment.model).apply)
  parts = [apply(pretrained.variables, frames[first : first + 2]) for first in range(0, 10, 2)]
  return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def changed(experiment, **fields):
  """The experiment with other fields of `config.extract`."""
  again = copy.copy(experiment)
  values = experiment._fields.extract | fields
  again._fields = dataclasses.replace(experiment._fields, extract=values)
  return again


def test_stored_features_are_those_that_the_model_computes_from_the_videos(frozen_store, sized, computed):
  experiment, _ = sized
  store = find(frozen_store.root, wanted(experiment.model, experiment.data))
  reader = store.reader(split_name(experiment.dataset("train")))
  assert computed["semantic"].shape == (10, 4, 16, 16) and computed["motion"].shape == (10, 4, 16)
  for position in range(10):
    arrays = reader.read(position)
    assert arrays["labels"].tolist() == [position % 3]
    for name, leaf in computed.items():
      assert arrays[name].dtype == np.float32 and leaf[position].std() > 0.01
      np.testing.assert_allclose(arrays[name], leaf[position], atol=1e-6 * np.abs(leaf).max(), rtol=1e-6)


def test_the_documented_comparison_of_two_stores(frozen_store, capsys):
  """The snippet of docs/features.md, on one store twice: nothing has moved."""
  (snippet,) = re.findall(
    r"^```python\n(.*?)^```", (ROOT / "docs/features.md").read_text("utf-8"), re.MULTILINE | re.DOTALL
  )
  for folder in ("data/old_features", "data/my_features"):
    assert folder in snippet
    snippet = snippet.replace(folder, str(frozen_store.root))
  names = {}
  exec(compile(snippet, "docs/features.md", "exec"), names)
  drift = names["statistics"].drift(names["before"], names["now"])
  assert len(drift) == 3 and all(abs(value) < 1e-6 for value in drift.values()), drift
  assert capsys.readouterr().out.startswith("{") and names["now"]["rows"] > 0


def test_a_clip_that_cannot_be_read_is_listed_and_not_replaced(frozen_store, sized):
  experiment, _ = sized
  dataset = experiment.dataset("test")
  reader = find(frozen_store.root, {}).reader(split_name(dataset))
  assert list(reader.failed) == [1] and "test1.webm" in reader.failed[1]
  assert reader.read(0)["labels"].tolist() == [-1]  # there are no answers
  with pytest.raises(DataError, match="test1 has no features: .*test1.webm"):
    reader.read(1)
  assert "1 could not be read; " in frozen_store.printed


def test_the_end_says_what_there_is(frozen_store):
  told = json.loads((frozen_store.workdir / "extract.json").read_text())
  assert told["store"] == str(find(frozen_store.root, {}).folder)
  train = told["splits"]["train"]
  assert (train["clips"], train["failed"], train["here"]) == (10, 0, 10)
  assert told["splits"]["test"]["failed"] == 1
  semantic, motion = train["features"]["semantic"], train["features"]["motion"]
  assert semantic["values"] == 10 * 16 * 16 and motion["values"] == 10 * 4 * 16  # 16 of 64 tokens, all 4 segments
  assert semantic["std"] > 0 and 1 < semantic["effective_rank"] <= 16 == semantic["width"]
  assert "train, semantic: mean " in frozen_store.printed and " of 16 " in frozen_store.printed
  assert (frozen_store.workdir / "config.json").exists()


@pytest.fixture(scope="module")
def smaller(sized, tmp_path_factory):
  """Train in two views, always mirrored: semantic as 4 tokens in int8, motion as 3 components in bfloat16.

  Motion has no tokens, so the number that is asked for says nothing.
  """
  experiment, pretrained = sized
  variants = {"semantic": {"tokens": 4, "precision": "int8", "pca": 0}}
  variants["motion"] = {"tokens": 4, "precision": "bfloat16", "pca": 3}
  experiment = changed(experiment, **variants, views=2, store=str(tmp_path_factory.mktemp("smaller")))
  experiment.data = dataclasses.replace(
    experiment.data, augmentation=dataclasses.replace(experiment.data.augmentation, flip=1.0)
  )
  extractor, dataset = Extractor(experiment, pretrained), experiment.dataset("train")
  extractor.extract(dataset, extractor.begin(dataset), lambda clips: None)
  return extractor, dataset


def test_smaller_forms_are_those_of_the_computed_features(smaller, computed):
  extractor, dataset = smaller
  reader = extractor.store.reader(split_name(dataset))
  pca = load_pca(extractor.store.folder / "components" / "00000.npz")
  assert extractor.store.description["semantic"]["shape"] == [4, 4, 16]
  assert extractor.store.description["motion"]["shape"] == [4, 3] and 0 < pca.explained <= 1
  for position in range(10):
    arrays = reader.read(position)
    expected = compress(computed["semantic"][position], Variant(tokens=4, precision="int8"))
    found = decompress({"": arrays["semantic"], "scale": arrays["semantic_scale"]})
    step = 1.2 * expected["scale"].astype(np.float32)  # a value between two levels, and the scale's own rounding
    assert arrays["semantic"].dtype == np.int8 and (np.abs(found - decompress(expected)) <= step).all()
    components = pca.apply(computed["motion"][position])
    assert arrays["motion"].shape == (4, 3)
    scale = np.abs(components).max()
    np.testing.assert_allclose(arrays["motion"].astype(np.float32), components, rtol=2**-7, atol=1e-4 * scale)


def test_a_mirrored_view_has_the_label_of_the_mirrored_action(smaller):
  extractor, dataset = smaller
  reader = extractor.store.reader(split_name(dataset))
  for position in range(10):
    first, second = reader.read(position, 0), reader.read(position, 1)
    assert first["labels"].tolist() == [position % 3]
    assert second["labels"].tolist() == [(1, 0, 2)[position % 3]]
    assert (first["semantic"] != second["semantic"]).any()


def test_extraction_goes_on_where_it_was_stopped_and_makes_damaged_shards_again(smaller):
  extractor, dataset = smaller
  folder = extractor.store.folder / split_name(dataset)
  before = {path.name: path.read_bytes() for path in folder.glob("0*")}
  (folder / "00001.json").unlink()
  whole = bytearray((folder / "00002.arrayrecord").read_bytes())
  whole[len(whole) // 2] ^= 1
  (folder / "00002.arrayrecord").write_bytes(whole)
  work, done = extractor.begin(dataset), []
  assert [shard.number for shard in work.missing()] == [1]  # the size of shard 2 is right
  assert [shard.number for shard in work.verify(full=True)] == [2] and "Shard 2 is set aside" in work.notes[0]
  extractor.extract(dataset, work, done.append)
  assert sum(done) == 6
  assert {name: (folder / name).read_bytes() for name in before} == before


def test_too_many_clips_that_cannot_be_read_end_the_job_and_are_tried_again(sized, tmp_path):
  experiment, work = sized[0], Work.open(tmp_path, 4, 2, {})
  for failed in ({}, {"2": "clip.webm is cut off."}):
    claim = next(claim for claim in work.claims())
    with claim:
      claim.path.write_bytes(b"records")
      claim.finish({"failed": failed})
  few = copy.copy(experiment)
  few.max_error_share = 0.25
  extract._check_failed(few, "train", {"failed": 1, "clips": 4}, work)
  few.max_error_share = 0.2
  with pytest.raises(DataError, match=r"1 of 4 clips of the split 'train' .*0\.2 allows; the first: clip\.webm is cut"):
    extract._check_failed(few, "train", {"failed": 1, "clips": 4}, work)
  assert [shard.number for shard in work.verify(full=True, refused=extract._retried)] == [1]
  assert work.notes[-1].endswith("1 of its clips could not be read.") and len(work.missing()) == 1


def key(experiment, pretrained, config=None):
  description = describe(experiment, config or ExtractConfig(), pretrained, experiment.dataset("train"))
  return store_key("s", "m", description)


def test_whatever_changes_features_makes_another_store(sized, monkeypatch):
  experiment, pretrained = sized
  shapes = {"semantic": (4, 16, 16), "motion": (4, 16)}
  monkeypatch.setattr(extraction, "feature_shapes", lambda *_: shapes)  # tracing takes longer than all the rest
  first = key(experiment, pretrained)
  others = {}

  def change(name, model=experiment.model, data=experiment.data, weights=pretrained, config=None):
    other = types.SimpleNamespace(model=model, data=data, seed=experiment.seed, dataset=experiment.dataset)
    others[name] = key(other, weights, config)

  model, data = experiment.model, experiment.data
  change("dtype", dataclasses.replace(model, dtype="bfloat16"))
  change("stride", dataclasses.replace(model, stride=4))
  change("grid", dataclasses.replace(model, motion_tokens="grid"))
  for field, value in (("frames", 16), ("size", 40), ("short_side", 0)):
    change(field, data=dataclasses.replace(data, **{field: value}))
  streams = {**pretrained.streams, "motion": {**pretrained.streams["motion"], "fingerprint": "other"}}
  change("weights", weights=dataclasses.replace(pretrained, streams=streams))
  change("views", config=ExtractConfig(views=2))
  change("precision", config=ExtractConfig(motion=Variant(precision="int8")))
  change("tokens", config=ExtractConfig(semantic=Variant(tokens=4)))
  change("components", config=ExtractConfig(semantic=Variant(pca=4)))
  change("clips of components", config=ExtractConfig(semantic=Variant(pca=4), pca_clips=100))
  assert len({first, *others.values()}) == 1 + len(others), others
  incidental = ExtractConfig(batch=3, shard=7, threads=1, lease=9.0, verify=True, splits=("train",))
  same = types.SimpleNamespace(
    model=model, data=dataclasses.replace(data, threads=1, global_batch=16), seed=5, dataset=experiment.dataset
  )
  assert key(same, pretrained, incidental) == first


def test_a_store_for_another_model_is_not_taken(frozen_store, sized):
  experiment, _ = sized
  model = dataclasses.replace(experiment.model, stride=4)
  with pytest.raises(DataError, match=r"none of 1 feature stores in .* was made as needed; .*semantic\.stride.*2.*4"):
    find(frozen_store.root, wanted(model, experiment.data))


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"views": 0}, r"^config\.extract\.views = 0: it must be at least 1\.$"),
    ({"batch": 0}, r"^config\.extract\.batch = 0: it must be at least 1\.$"),
    ({"splits": ()}, r"^config\.extract\.splits is empty; name one or more splits\.$"),
    ({"lease": 0.0}, r"^config\.extract\.lease = 0\.0: it is a number of seconds above 0\.$"),
    ({"shards": 5}, r"^config\.extract\.shards is not a field; did you mean 'shard'\?"),
    ({"semantic": {"precision": "int4"}}, r"precision = 'int4' is not one of 'float32', 'bfloat16', 'int8'\.$"),
  ],
)
def test_wrong_fields_are_refused(fields, message):
  with pytest.raises(ConfigError, match=message):
    parse(ExtractConfig, to_dict(fields), "config.extract")


@pytest.mark.parametrize("fields", [{"trainable": True}, {"weights": "random"}])
def test_backbones_that_are_trained_or_random_are_refused(sized, fields):
  experiment = copy.copy(sized[0])
  stream = dataclasses.replace(experiment.model.motion, **fields)
  experiment.model = dataclasses.replace(experiment.model, motion=stream)
  with pytest.raises(
    ConfigError, match=r"^config\.model\.motion is trained or random: only features of a frozen, publ"
  ):
    extract.check(experiment)


def test_an_unknown_engine_is_refused_by_the_name_of_its_field(sized):
  experiment = copy.copy(sized[0])
  experiment.cluster = experiment.cluster | {"engine": "slurm"}
  with pytest.raises(ConfigError, match=r"^config\.engine = 'slurm' is not one of 'local', 'processes', 'ray'\.$"):
    extract.check(experiment)


def test_a_store_that_is_named_itself_is_the_one_that_is_filled(frozen_store, sized):
  """As training may name it: a store inside of it would not be found."""
  folder = find(frozen_store.root, {}).folder
  assert store_folder(sized[0], ExtractConfig(store=str(folder)), {}) == folder
  assert store_folder(sized[0], ExtractConfig(store=str(frozen_store.root)), {}).parent == frozen_store.root


def test_a_full_disk_is_told_with_the_room_that_is_there(sized, tmp_path, monkeypatch):
  def write_two_bytes(path, records):
    path.write_bytes(b"12")
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

  monkeypatch.setattr(extractor, "write_records", write_two_bytes)
  dataset, work = sized[0].dataset("train"), Work.open(tmp_path, 10, 3, {})
  fields = {"_config": ExtractConfig(batch=2), "_experiment": sized[0], "_records": lambda *args: iter(())}
  with pytest.raises(WorkdirError, match=r"no space is left on the disk\. \d+ bytes are free\. 2 bytes of shard 0 "):
    Extractor.extract(types.SimpleNamespace(**fields), dataset, work, print)
  assert not list(tmp_path.glob(".*.part")) and not list(tmp_path.glob(".*.claim"))


def test_hours_minutes_and_seconds():
  assert [extract.duration(seconds) for seconds in (0, 59.6, 3723)] == ["0:00:00", "0:01:00", "1:02:03"]
