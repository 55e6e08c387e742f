"""The index is written line by line, and read back as the data set that it was."""

import dataclasses
import json

import pytest

from gasmcast.core.errors import ConfigError, DataError
from gasmcast.core.types import Dataset, Example
from gasmcast.datasets import index, table
from gasmcast.datasets.index import Entry

EXAMPLES = (
  Example("a", "/v/a.webm", {"action": 1}),
  Example("ä\ud800", "/v/b.mp4", {"action": 0}, start=0.0, stop=2.5, group="p1", values={"openness": 0.25}),
  Example("c", "/v/frames", {}, rate=60.0),
)
HEAD = Dataset("mine", "train", EXAMPLES, {"action": ("up", "down")}, "", {"mirrored": ((0, 1),)}, ("openness",))


def write(folder, examples=EXAMPLES, head=HEAD, videos=()):
  folder.mkdir(parents=True, exist_ok=True)
  entries = (Entry(one, *(videos or ({"blake3": "0" * 64},)), ("short",)) for one in examples)
  split = index.write_split(folder, "train", head, entries)
  index.write_index(folder, head, {"train": split})
  return split


def test_what_is_written_is_read(tmp_path):
  split = write(tmp_path)
  loaded = index.load(tmp_path, "train")
  assert loaded == dataclasses.replace(HEAD, fingerprint=split.fingerprint)
  assert table.load("index", tmp_path, "train") == loaded
  lines = [json.loads(line) for line in (tmp_path / "train.jsonl").read_bytes().splitlines()[::2]]
  assert lines[0] == {
    "id": "a",
    "path": "/v/a.webm",
    "labels": {"action": 1},
    "video": {"blake3": "0" * 64},
    "flags": ["short"],
  }
  assert lines[1]["rate"] == 60.0 and "labels" not in lines[1]


def test_the_fingerprint_follows_content_and_not_place(tmp_path):
  moved = [dataclasses.replace(one, path=f"/elsewhere/{one.id}") for one in EXAMPLES]
  renamed = dataclasses.replace(HEAD, classes={"action": ("up", "left")})
  relabelled = [dataclasses.replace(EXAMPLES[0], labels={"action": 0}), *EXAMPLES[1:]]
  same = [write(tmp_path / "a"), write(tmp_path / "b", moved), write(tmp_path / "c")]
  others = [
    write(tmp_path / "d", EXAMPLES[::-1]),
    write(tmp_path / "e", head=renamed),
    write(tmp_path / "f", relabelled),
    write(tmp_path / "g", videos=({"blake3": "1" * 64},)),
    write(tmp_path / "h", EXAMPLES[:2]),
    write(tmp_path / "i", head=dataclasses.replace(HEAD, name="other")),
  ]
  assert len({one.fingerprint for one in same}) == 1
  assert len({one.fingerprint for one in (same[0], *others)}) == 7
  assert same[0].blake3 == same[2].blake3 != same[1].blake3


def edit(file, old, new):
  file.write_bytes(file.read_bytes().replace(old, new))


@pytest.mark.parametrize(
  ("file", "old", "new", "message"),
  [
    (
      "train.jsonl",
      b'"action": 1',
      b'"action": 0',
      r"train.jsonl is not as it was written \(other checksum\)",
    ),
    ("train.jsonl", b'"id": "a"', b'"id": "a', r"train.jsonl, line 1 is no example \(.*\); run job prepare again"),
    ("train.jsonl", b'"id": "a"', b'"ID": "a"', r"train.jsonl, line 1 is no example \('id'\)"),
    ("index.json", b'"format": 1', b'"format": 2', r"index.json is of format 2, not 1; run job prepare again"),
    ("index.json", b'"classes"', b'"klasses"', r"index.json is no index \(KeyError: 'classes'\)"),
    ("index.json", b'"file"', b'"flie"', r"index.json is no index \(TypeError"),
    ("index.json", b"{", b"[", r"index.json is not valid JSON"),
  ],
)
def test_what_was_changed_or_damaged_is_refused(tmp_path, file, old, new, message):
  write(tmp_path)
  edit(tmp_path / file, old, new)
  with pytest.raises(DataError, match=message):
    index.load(tmp_path, "train")


def test_what_is_not_there_is_refused(tmp_path):
  with pytest.raises(DataError, match=r"holds no index.json; give the folder that job prepare has written"):
    index.load(tmp_path, "train")
  write(tmp_path)
  with pytest.raises(DataError, match=r"index.json has no split 'test'; it has train"):
    index.load(tmp_path, "test")
  (tmp_path / "train.jsonl").unlink()
  with pytest.raises(DataError, match=r"train.jsonl can't be read \(No such file or directory\); run job prepare"):
    index.load(tmp_path, "train")


def test_a_file_outside_the_folder_is_never_opened(tmp_path):
  write(tmp_path / "index")
  (tmp_path / "train.jsonl").write_bytes((tmp_path / "index" / "train.jsonl").read_bytes())
  (tmp_path / "index" / "train.jsonl").unlink()
  edit(tmp_path / "index" / "index.json", b'"train.jsonl"', b'"../train.jsonl"')
  with pytest.raises(DataError, match=r"index/train.jsonl can't be read"):
    index.load(tmp_path / "index", "train")


def test_a_failed_writer_leaves_the_index_as_it_was(tmp_path):
  before = write(tmp_path)

  def entries():
    yield Entry(EXAMPLES[0])
    raise ConfigError("stop")

  with pytest.raises(ConfigError, match="stop"):
    index.write_split(tmp_path, "train", HEAD, entries())
  assert index.load(tmp_path, "train").fingerprint == before.fingerprint
