"""What the project must survive, and the page of docs/ that shows it.

A test of row N has the mark `reliability(N)` and tells the fixture `figure` what it measured. `make reliability` runs
all of them and makes the page of what they told:

  python -m tests.reliability FIGURES.jsonl docs/reliability.md
"""

import collections
import datetime
import json
import os
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

VARIABLE = "RELIABILITY_FIGURES"  # names the file that figures are appended to

# number: (what is done, what must hold)
ROWS = {
  1: (
    "kill -9 of the trainer at 60 random instants, with saves in the background and with saves that are waited for",
    "every run resumes, no torn checkpoint, at most one save interval lost",
  ),
  2: ("kill and resume against an uninterrupted run, 5 cut points", "final state bit for bit the same, same metrics"),
  3: ("SIGTERM", "checkpoint of the current step within 10 s, no step lost"),
  4: ("disk full during a save", "non-zero exit with needed and free bytes; the step before restores"),
  5: (
    "one bit flipped in each of 100 random places of the newest checkpoint",
    "100 found, the step before is used, and the log says so",
  ),
  6: ("checkpoint files cut, deleted, emptied", "found, the step before is used, the good step is never deleted"),
  7: ("100 bit flips in feature shards", "none silent; the shard is set aside and made again identically"),
  8: ("12 kill -9 of extraction workers", "shards identical to those of a clean run, each clip exactly once"),
  9: (
    "a nan in one batch",
    "the update is left out and logged with the ids of the examples; the run is that without this update",
  ),
  10: (
    "nan for 10 steps",
    "back to the last good step, then stop with an error; no checkpoint that is not finite is kept",
  ),
  11: ("nan on one of two processes", "both take the same decision"),
  12: ("one of two processes killed, heartbeat timeout 10 s", "the other ends within 15 s"),
  13: ("one of two processes stalled", "a watchdog names it and ends the run within 60 s"),
  14: (
    "1, 2, 4 processes; 0, 1, 2 data workers; another number of both after a resume",
    "same order of examples, losses equal to 1e-5",
  ),
  15: ("5,000 mutated videos", "no crash, no hang over 10 s; the exact number of frames, or listed as bad"),
  16: (
    "decode bombs: 16k x 16k header, a million frames, 0 fps, 1 byte, wrong ending, playlist or URL",
    "refused within 2 s and 300 MB",
  ),
  17: ("malicious .pt, .pkl, .npy (object), .npz bomb, YAML tag, tar with ../", "no payload runs, clear error"),
  18: (
    "2,000 generated corruptions of manifests, configurations and annotation files",
    "only our own types of error, each naming file and field",
  ),
  19: (
    "two trainers in one working directory",
    "the second is refused with the name of the first; a stale lock is removed",
  ),
  20: ("weights, decoder, size or type of the feature store changed", "never found, old and new never mix"),
  21: (
    "10,000 predictions, 2,000 train steps",
    "memory grows at most 1 MB per 1,000; open files and threads stay as many",
  ),
  22: (
    "server: oversized, slow, 200 at once, killed worker, no or wrong token, fuzzed schema",
    "4xx, 429, 401, no 5xx but of the killed request, recovers within 5 s; refuses to bind beyond loopback untold",
  ),
  23: ("report made from labels and paths that hold markup", "nothing runs in a browser, no request to outside"),
  24: ("tracking backend down", "training goes on; no line of metrics.jsonl is lost"),
}


def record(row: int, measured: str, test: str, long: bool) -> None:
  """Appends a figure to the file that the environment names, if it names one."""
  if name := os.environ.get(VARIABLE):
    path = pathlib.Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps({"row": row, "measured": measured, "test": test, "long": long}) + "\n"
    with open(path, "a", encoding="utf-8") as file:  # one write a line: several processes append
      file.write(line)


def page(figures: Sequence[Mapping[str, Any]], machine: str, date: str) -> str:
  """docs/reliability.md. Of a test with small and full counts only the full ones are shown, where they ran."""
  by_test = collections.defaultdict(list)
  for figure in figures:
    by_test[figure["row"], figure["test"].partition("[")[0]].append(figure)
  lines = [
    "# What is done to it, and what it survives",
    "",
    "Written by `make reliability`, which runs every test with the mark `reliability`; no figure is typed.",
    "",
    f"{date}, {machine}.",
    "",
    "| # | what is done | what must hold | what was measured | test |",
    "|---|---|---|---|---|",
  ]
  if not any(figure["long"] for figure in figures):
    lines[4:4] = ["These are the small counts of the tests of every change; `make reliability` runs the full ones.", ""]
  for row, (done, holds) in ROWS.items():
    cells = []
    for (number, test), found in sorted(by_test.items()):
      if number == row:
        full = [figure for figure in found if figure["long"]] or found
        cells.append(("<br>".join(sorted({_cell(figure["measured"]) for figure in full})), f"`{test}`"))
    if cells:
      measured, tests = ("<br>".join(column) for column in zip(*cells, strict=True))
      lines.append(f"| {row} | {done} | {holds} | {measured} | {tests} |")
  missing = [row for row in ROWS if not any(number == row for number, _ in by_test)]
  if missing:
    lines += ["", "Not shown in this run:", ""]
    lines += [f"- {row}: {ROWS[row][0]} ({ROWS[row][1]})" for row in missing]
  return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
  return " ".join(text.replace("|", "\\|").split())


def _machine() -> str:
  from gasmcast.core import machine
  from gasmcast.jobs import records

  about = machine.describe()
  versions = ", ".join(f"{name} {version}" for name, version in records.versions().items())
  return f"{about['cpu']}, {about['cpus']} CPUs, {about['system']}; {versions}"


if __name__ == "__main__":
  told = [json.loads(line) for line in pathlib.Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()]
  pathlib.Path(sys.argv[2]).write_text(page(told, _machine(), datetime.date.today().isoformat()), encoding="utf-8")
