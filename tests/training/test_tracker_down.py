"""A tracker that fails in the middle of a run takes nothing with it."""

import pytest
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.record_writer import RecordWriter

from tests.training.test_loop import record


@pytest.mark.reliability(24)
def test_a_run_goes_on_without_its_tracker_and_loses_no_line(run, whole, tmp_path, monkeypatch, caplog, figure):
  written = []
  real = RecordWriter.write

  def fails_from_step_6_on(self, content):
    if Event.FromString(content).step >= 6:
      raise ConnectionError("no route to host")
    written.append(content)
    real(self, content)

  monkeypatch.setattr(RecordWriter, "write", fails_from_step_6_on)
  result, _ = run()
  assert result == whole[1] and written
  assert record(tmp_path / "run") == record(whole[0])
  (warning,) = [message for message in caplog.messages if "switched off" in message]
  assert "no route to host" in warning
  lines = len(record(tmp_path / "run"))
  figure(f"TensorBoard down from step 6 of 12 on: one warning, {lines} of {lines} lines, the same result")
