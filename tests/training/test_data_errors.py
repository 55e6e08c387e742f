"""Unreadable examples are listed once each and never reach the device."""

import json

import numpy as np

from gasmcast.training.data_errors import DataErrors
from tests.training.toy_system import batch_of


def broken_batch():
  """Rows 4 and 6 can't be read; the last row only fills up the batch."""
  batch = batch_of(np.array([4, 5, 6, -1]))
  batch["ok"] = np.array([False, True, False, False])
  return batch | {"error": np.array(["no such file: a.webm", "", "0 frames decoded", ""])}


def listed(folder, name="data_errors.jsonl"):
  return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def test_failures_are_listed_once_with_their_reason_even_after_a_restart(tmp_path):
  with DataErrors(tmp_path) as errors:
    errors.strip(broken_batch(), "train", step=3)
    errors.strip(broken_batch(), "train", step=9)
  with DataErrors(tmp_path) as errors:
    errors.strip(broken_batch(), "train", step=5)
    errors.strip(broken_batch(), "validation", step=10)
  assert listed(tmp_path) == [
    {"split": "train", "index": 4, "reason": "no such file: a.webm", "step": 3},
    {"split": "train", "index": 6, "reason": "0 frames decoded", "step": 3},
    {"split": "validation", "index": 4, "reason": "no such file: a.webm", "step": 10},
    {"split": "validation", "index": 6, "reason": "0 frames decoded", "step": 10},
  ]


def test_the_reason_is_taken_off_the_batch_and_all_else_stays(tmp_path):
  batch = broken_batch()
  with DataErrors(tmp_path) as errors:
    stripped = errors.strip(batch, "train", step=1)
  assert set(stripped) == set(batch) - {"error"}
  assert all(stripped[name] is batch[name] for name in stripped)


def test_a_batch_without_reasons_still_lists_its_failures(tmp_path, monkeypatch):
  monkeypatch.setattr("jax.process_index", lambda: 2)
  batch = broken_batch()
  del batch["error"]
  with DataErrors(tmp_path) as errors:
    errors.strip(batch, "train", step=1)
  found = listed(tmp_path, "data_errors.process_2.jsonl")
  assert [(line["index"], line["reason"]) for line in found] == [(4, "no reason given"), (6, "no reason given")]
