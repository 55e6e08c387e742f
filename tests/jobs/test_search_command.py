"""The command of a trial: what was typed, with its workdir, its job and its values."""

import json
import pathlib
import shlex
import subprocess
import sys

from gasmcast.jobs.search_command import trial_command

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
READ = """
import json, runpy, sys
main = runpy.run_path("launch/main.py", run_name="launch")
main["parse"](sys.argv)
from absl import flags
print(json.dumps([flags.FLAGS.config.to_dict(), flags.FLAGS.workdir, flags.FLAGS.job]))
"""


def test_search_workdir_job_and_searched_fields_are_replaced():
  typed = (
    "python launch/main.py --config configs/quickstart.py:runlocal --workdir=runs/search --job search --debug "
    "--config.search.trials=20 --config.search.space.optim.lr.high 0.1 '--config.data.root=my videos' "
    "--config.optim.lr 3e-3 --noconfig.model.fusion.auxiliary --config.model.max_trainable -1"
  )
  made = trial_command(typed, pathlib.Path("runs/search/trials/3"), "train", {"optim.lr": 0.0123456789012345678})
  assert made == (
    "python launch/main.py --config configs/quickstart.py:runlocal --debug '--config.data.root=my videos' "
    "--noconfig.model.fusion.auxiliary --config.model.max_trainable -1 --workdir runs/search/trials/3 --job train "
    "--config.optim.lr=0.012345678901234568"
  )


def test_a_value_that_is_not_set_stays_so():
  values = {"model.fusion.dropout": None, "model.fusion.time_embedding": False}
  made = trial_command("python main.py --config a.py", pathlib.Path("w"), "train", values)
  assert made == "python main.py --config a.py --workdir w --job train --config.model.fusion.time_embedding=False"


def test_what_the_command_line_makes_of_it_is_what_was_meant():
  """Every kind of value goes through the flags of launch/main.py and comes back."""
  values = {
    "optim.lr": 0.0023170487362715,
    "optim.warmup_steps": "7 steps",
    "data.augmentation.scale": (0.6, 1.0),
    "data.size": 48,
    "model.fusion.auxiliary": False,
    "model.fusion.dropout": 0.30000000000000004,
  }
  typed = "python launch/main.py --config configs/quickstart.py:runlocal --workdir w --job search --config.optim.lr=1"
  made = shlex.split(trial_command(typed, pathlib.Path("runs/x y"), "train,report", values))
  done = subprocess.run([sys.executable, "-c", READ, *made[2:]], cwd=ROOT, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  config, workdir, job = json.loads(done.stdout)
  assert (workdir, job) == ("runs/x y", "train,report")
  for name, value in values.items():
    node = config
    for key in name.split("."):
      node = node[key]
    assert node == (list(value) if isinstance(value, tuple) else value), name
