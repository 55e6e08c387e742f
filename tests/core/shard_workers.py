"""Workers for the tests of core.shards, run as processes that can be killed.

python shard_workers.py work FOLDER SECONDS      works until everything is finished, SECONDS an item
python shard_workers.py lines FOLDER FIRST STEP  kills a worker at its line FIRST, FIRST + STEP, ... and looks what
                                                 the next one makes of it; prints how many were killed
"""

import os
import pathlib
import shutil
import signal
import sys
import time

from gasmcast.core import disk, leases, receipts, shards

ITEMS, SIZE = 50, 2
LINES_ITEMS, LINES_SIZE = 8, 3  # the last of three shards is shorter


def open_work(folder, items=ITEMS, size=SIZE, lease=3.0):
  return shards.Work.open(folder, items, size, {"seed": 7}, suffix=".txt", lease=lease)


def content(first, last):
  return "".join(f"item {item}\n" for item in range(first, last))


def work_on(claim, seconds=0.0):
  with open(claim.path, "w", encoding="utf-8") as file:
    for item in range(claim.shard.first, claim.shard.last):
      file.write(content(item, item + 1))
      file.flush()
      time.sleep(seconds)
  claim.finish({"items": claim.shard.last - claim.shard.first})


def run(folder, seconds=0.0, **plan):
  for claim in open_work(folder, **plan).claims():
    with claim:
      work_on(claim, seconds)


def found(folder):
  """Everything in a folder by name, other than the clock."""
  return {path.name: path.read_bytes() for path in pathlib.Path(folder).iterdir() if path.name != leases.CLOCK}


def damaged_start(folder):
  """Shard 0 finished, shard 1 cut short, shard 2 half written by a worker that is dead."""
  run(folder, items=LINES_ITEMS, size=LINES_SIZE)
  (folder / "00001.txt").write_text("item 3\nit")
  (folder / "00002.json").unlink()
  (folder / "00002.txt").unlink()
  if (child := os.fork()) == 0:
    claim = next(open_work(folder, LINES_ITEMS, LINES_SIZE).claims())
    claim.path.write_text("item 6")
    os._exit(0)
  os.waitpid(child, 0)


def die_at_line(number):
  """SIGKILL before the given line of the modules under test is run."""
  files, seen = {module.__file__ for module in (disk, leases, receipts, shards)}, 0

  def trace(frame, event, _):
    nonlocal seen
    if frame.f_code.co_filename not in files:
      return None
    if event == "line":
      seen += 1
      if seen == number:
        os.kill(os.getpid(), signal.SIGKILL)
    return trace

  sys.settrace(trace)


def kill_at_lines(folder, first, step):
  plan = {"items": LINES_ITEMS, "size": LINES_SIZE, "lease": 0.2}
  os.fsync = lambda descriptor: None  # no machine fails here, and it takes most of the time
  run(folder / "clean", **plan)
  expected = found(folder / "clean")
  damaged_start(folder / "start")
  line = first
  while True:
    again = folder / f"line_{line}"
    shutil.copytree(folder / "start", again)
    if (child := os.fork()) == 0:
      die_at_line(line)
      run(again, **plan)
      os._exit(0)
    status = os.waitpid(child, 0)[1]
    run(again, **plan)
    made = found(again)
    made.pop("00001.txt.damaged")
    left = [name for name in made if name not in expected]
    assert {name: made.get(name) for name in expected} == expected, f"line {line}: {made}"
    assert all(name.endswith(".part") for name in left), f"line {line}: {left}"
    time.sleep(0.25 if left else 0)
    run(again, **plan)
    assert not [name for name in found(again) if name.endswith(".part")], f"line {line}: {left} stayed"
    shutil.rmtree(again)
    if status == 0:
      return (line - first) // step
    line += step


if __name__ == "__main__":
  target = pathlib.Path(sys.argv[2])
  if sys.argv[1] == "work":
    run(target, float(sys.argv[3]))
  else:
    print(kill_at_lines(target, int(sys.argv[3]), int(sys.argv[4])))
