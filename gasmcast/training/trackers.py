"""Where the numbers of metrics.jsonl are shown beside: TensorBoard, Weights & Biases. Each is optional and may fail.

A tracker is a class with `log` and `close`; its making may raise, ImportError where its library is not installed.
`Tracker` (training/tracking.py) switches off what fails.
"""

import contextlib
import os
import pathlib
import socket
import time
import uuid
from collections.abc import Mapping
from typing import Any

from gasmcast.core.manifest import atomic_file

_FLUSH_SECONDS = 30
_SECONDS_TO_BEGIN = 60
_SECONDS_TO_END = 60


class TensorBoard:
  """Event files in <workdir>/tensorboard. Of a resumed run the events beyond `start` are dropped.

  They are written by the thread that logs. The SummaryWriter of tensorboardX hands them to one of its own, and when
  a full disk has ended that one it waits for ever for room in its queue.
  """

  NAME = "TensorBoard"
  INSTALL = "pip install tensorboardX"

  def __init__(self, workdir: pathlib.Path, start: int, described: Mapping[str, Any]):
    from tensorboardX import record_writer
    from tensorboardX.proto.event_pb2 import SessionLog

    folder = workdir / "tensorboard"
    folder.mkdir(parents=True, exist_ok=True)
    name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{os.getpid()}"
    self._records = record_writer.RecordWriter(str(folder / name))
    self._flushed = time.monotonic()
    self._write(file_version="brain.Event:2")
    if start:
      self._write(step=start + 1, session_log=SessionLog(status=SessionLog.START))

  def _write(self, **event: Any) -> None:
    from tensorboardX.proto.event_pb2 import Event

    self._records.write(Event(wall_time=time.time(), **event).SerializeToString())

  def log(self, step: int, split: str, numbers: Mapping[str, float]) -> None:
    """Adds the numbers of one step."""
    from tensorboardX.proto.summary_pb2 import Summary

    try:
      for name, value in numbers.items():
        named = Summary.Value(tag=f"{split}/{name}", simple_value=value)
        self._write(step=step, summary=Summary(value=[named]))
      if time.monotonic() - self._flushed > _FLUSH_SECONDS:
        self._flushed = time.monotonic()
        self._records.flush()
    except Exception:
      with contextlib.suppress(Exception):  # it fails as the writing did
        self.close()
      raise

  def close(self) -> None:
    """Writes what is left."""
    self._records.close()


class WeightsAndBiases:
  """A run of W&B whose id stands in <workdir>/wandb_id.txt, so that a resumed run goes on in it.

  The mode, the account, the project and the server are wandb's own affair, by its environment variables (WANDB_MODE,
  WANDB_API_KEY, WANDB_PROJECT, WANDB_BASE_URL). Numbers and the described configuration are sent; the command line,
  the environment, the console, code, git and what the machine is are not.
  """

  NAME = "Weights & Biases"
  INSTALL = "pip install 'gasmcast[wandb]'"

  def __init__(self, workdir: pathlib.Path, start: int, described: Mapping[str, Any]):
    import wandb

    private = {
      "console": "off",
      "disable_git": True,
      "disable_code": True,
      "x_disable_meta": True,
      "x_disable_stats": True,
      "x_disable_machine_info": True,
    }
    patience = {
      "init_timeout": _SECONDS_TO_BEGIN,
      "login_timeout": _SECONDS_TO_BEGIN,  # of a question on the terminal
      "finish_timeout": _SECONDS_TO_END,
      "finish_timeout_raises": False,
    }
    self._run = wandb.init(
      dir=str(workdir),
      id=_run_id(workdir / "wandb_id.txt"),
      name=workdir.name,
      config=dict(described),
      resume="allow",
      reinit="create_new",
      settings=wandb.Settings(**private, **patience, silent=True),
    )
    # Its own count of steps refuses those that a resumed run repeats.
    self._run.define_metric("step", hidden=True)
    self._run.define_metric("*", step_metric="step")

  def log(self, step: int, split: str, numbers: Mapping[str, float]) -> None:
    """Adds the numbers of one step."""
    self._run.log({"step": step, **{f"{split}/{name}": value for name, value in numbers.items()}})

  def close(self) -> None:
    """Sends what is left, for a limited time."""
    self._run.finish()


TRACKERS = {"tensorboard": TensorBoard, "wandb": WeightsAndBiases}


def _run_id(file: pathlib.Path) -> str:
  if file.exists():
    return file.read_text("utf-8").strip()
  name = uuid.uuid4().hex[:12]
  with atomic_file(file) as opened:
    opened.write(f"{name}\n".encode())
  return name
