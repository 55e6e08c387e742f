"""metrics.jsonl reads like an uninterrupted run; TensorBoard and the bar may fail."""

import io
import json
import logging
import math
import struct
import time

from rich.console import Console
from tensorboardX import record_writer
from tensorboardX.proto.event_pb2 import Event, SessionLog

from gasmcast.training.tracking import JsonLines, Tracker


def tracker(folder, start=0, console=None):
  return Tracker(folder, start, steps=100, headline="top1", console=console or Console(file=io.StringIO()))


def lines(folder):
  return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_line_holds_step_time_split_and_numbers(tmp_path):
  with tracker(tmp_path) as tracked:
    tracked.log(5, "train", {"loss": 0.5, "grad_norm": math.inf})
    (line,) = lines(tmp_path)  # on the disk before the file is closed
  assert line.pop("time") > 1.7e9
  assert line == {"step": 5, "split": "train", "loss": 0.5, "grad_norm": None}


def test_lines_beyond_the_resumed_step_are_dropped(tmp_path):
  with tracker(tmp_path) as tracked:
    for step in (10, 20, 30):
      tracked.log(step, "train", {"loss": 1 / step})
      tracked.log(step, "validation", {"top1": step / 100})
  with open(tmp_path / "metrics.jsonl", "a") as file:
    file.write('{"step": 31, "time": 17')  # torn by kill -9
  with tracker(tmp_path, start=20) as tracked:
    tracked.log(30, "train", {"loss": 9.0})
  found = [(line["step"], line["split"]) for line in lines(tmp_path)]
  assert found == [(10, "train"), (10, "validation"), (20, "train"), (20, "validation"), (30, "train")]
  assert lines(tmp_path)[-1]["loss"] == 9.0


def test_a_torn_line_does_not_spoil_the_next_one(tmp_path):
  path = tmp_path / "some.jsonl"
  path.write_text('{"a": 1}\n[3]\n{"a"')
  opened = JsonLines(path)
  assert opened.kept == [{"a": 1}]
  opened.append({"a": 2})
  opened.close()
  assert path.read_text() == '{"a": 1}\n{"a": 2}\n'


def test_a_failing_tensorboard_is_reported_once_and_loses_no_line(tmp_path, monkeypatch, caplog):
  def fail(*_, **__):
    raise ConnectionError("no route to the board")

  monkeypatch.setattr(record_writer.RecordWriter, "flush", fail)
  monkeypatch.setattr("gasmcast.training.trackers._FLUSH_SECONDS", -1)
  with caplog.at_level(logging.WARNING), tracker(tmp_path) as tracked:
    tracked.log(1, "train", {"loss": 2.0})
    tracked.log(2, "train", {"loss": 1.0})
  assert [line["loss"] for line in lines(tmp_path)] == [2.0, 1.0]
  warnings = [record.getMessage() for record in caplog.records if record.name.startswith("gasmcast")]
  assert len(warnings) == 1 and "TensorBoard failed and is switched off" in warnings[0] and "no route" in warnings[0]


def events(folder):
  """All events in the files of TensorBoard: records of a length, its checksum, the event, its checksum."""
  for path in folder.iterdir():
    content = path.read_bytes()
    while content:
      (length,) = struct.unpack("<Q", content[:8])
      yield Event.FromString(content[12 : 12 + length])
      content = content[16 + length :]


def test_tensorboard_gets_the_numbers_and_is_told_of_a_resume(tmp_path):
  with tracker(tmp_path, start=2) as tracked:
    tracked.log(3, "validation", {"top1": 0.5, "loss": 2.0})
  found = list(events(tmp_path / "tensorboard"))
  assert found[0].file_version == "brain.Event:2"
  assert (found[1].step, found[1].session_log.status) == (3, SessionLog.START)
  scalars = [(event.step, value.tag, value.simple_value) for event in found[2:] for value in event.summary.value]
  assert scalars == [(3, "validation/top1", 0.5), (3, "validation/loss", 2.0)]
  assert all(abs(event.wall_time - time.time()) < 60 for event in found[2:])


def test_without_a_terminal_each_log_is_one_line(tmp_path):
  printed = io.StringIO()
  with tracker(tmp_path, console=Console(file=printed)) as tracked:
    tracked.log(4, "train", {"loss": 0.51239, "top1": 0.25, "grad_norm": 3.0, "clips_per_second": 120.0})
  assert printed.getvalue() == "step 4/100  train: loss 0.5124, top1 0.25, 120 clips/s\n"


def test_a_terminal_gets_a_bar(tmp_path):
  printed = io.StringIO()
  console = Console(file=printed, force_terminal=True, width=120)
  with tracker(tmp_path, start=10, console=console) as tracked:
    tracked.log(20, "train", {"loss": 0.5})
    tracked.log(20, "validation", {"top1": 0.75})
    tracked.advance(20)
  assert "20/100" in printed.getvalue() and "train: loss 0.5  validation: top1 0.75" in printed.getvalue()


def test_only_process_0_writes(tmp_path, monkeypatch):
  monkeypatch.setattr("jax.process_index", lambda: 1)
  with tracker(tmp_path / "run") as tracked:
    tracked.log(1, "train", {"loss": 2.0})
    tracked.advance(1)
    tracked.note("unseen")
  assert not (tmp_path / "run").exists()
