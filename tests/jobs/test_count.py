"""Job count: exact numbers of all three systems, bytes as they would really be, and nothing of it allocated."""

import json
import subprocess
import sys

import jax
import numpy as np
import pytest
from rich.console import Console

from configs import common, epic_verb_noun, ocean, quickstart, ssv2_gasmcast, ssv2_gasmcast_vjepa2
from gasmcast.core.errors import ConfigError
from gasmcast.jobs import count, table
from gasmcast.training.optim import make_optimizer
from tests.test_floors import ROOT


@pytest.fixture
def make(tmp_path):
  """Makes what the job is given."""

  def setup(config, width=140):
    command = "python launch/main.py --job count"
    return count.SETUP(config, tmp_path / "run", command, Console(record=True, width=width))

  return setup


def numbers(part):
  return part["trainable"], part["frozen"], part["buffers"]


def printed(setup):
  """What the job prints, line by line and without the lines of the tables."""
  count.run(setup)
  return [" ".join(line.replace("│", " ").split()) for line in setup.console.export_text().splitlines()]


@pytest.mark.parametrize(
  ("variant", "total"),
  [
    ("literal", 7_208_910),
    ("small", 7_625_294),
    ("base", 14_197_326),
    ("large", 17_879_198),
    ("efficient", 9_079_886),
  ],
)
def test_variants_of_gasm_cast_without_auxiliary_heads(make, variant, total):
  result = make(ssv2_gasmcast.get_config(variant)).result
  assert numbers(result["all"]) == (total, 85_659_648 + 33_166_272, 9_600)
  assert numbers(result["parts"]["motion"]) == (0, 33_166_272, 9_600)
  assert {name: numbers(part) for name, part in result["training_only"].items()} == {
    f"fusion/auxiliary_{depth}": (225_454, 0, 0) for depth in range(3)
  }


def test_the_whole_of_gasm_cast_with_v_jepa_2(make):
  setup = make(ssv2_gasmcast_vjepa2.get_config())
  lines = printed(setup)
  assert "motion 0 303,885,312 0" in lines and "semantic 0 85,659,648 0" in lines
  fusion = sum(part["trainable"] for name, part in setup.result["parts"].items() if name.startswith("fusion/"))
  assert fusion == 9_550_334 and f"all {fusion:,} 389,544,960 0" in lines
  assert "Budget of trainable parameters: 20,000,000, kept." in lines


def test_ocean(make):
  setup = make(ocean.get_config())
  assert {name: numbers(part) for name, part in setup.result["parts"].items()} == {
    "cross_attention/static": (65_664, 0, 0),
    "cross_attention/dynamic": (32_896, 0, 0),
    "cross_attention/attention": (3 * 66_048 + 65_664, 0, 0),
    "cross_attention/norm": (256, 0, 0),
    "fusion/norm": (256, 0, 256),
    "head/hidden": (8_256, 0, 0),
    "head/out": (325, 0, 0),
  }
  lines = printed(setup)
  assert "all 371,461 0 256" in lines and not setup.result["training_only"]
  assert "Parameters: 371,461, of which 371,461 trainable. With 256 buffers (batch statistics): 371,717." in lines


@pytest.mark.parametrize(
  ("argument", "total"),
  [("", 146_490_317), ("independent", 128_844_237), ("baseline", 25_809_869), ("tokens=none", 122_982_285)],
)
def test_verb_noun(make, argument, total):
  setup = make(epic_verb_noun.get_config(argument))
  lines, result = printed(setup), setup.result
  buffers, frozen = (0, 0) if "none" in argument else (53_120, 1_444_928)
  assert numbers(result["all"]) == (total - frozen, frozen, buffers)
  assert any(line.startswith(f"Parameters: {total:,}, of which {total - frozen:,} trainable.") for line in lines)
  if not argument:
    assert "semantic 22,063,104 1,444,928 53,120" in lines and "cross_task 16,795,648 0 0" in lines
    assert "all 145,045,389 1,444,928 53,120" in lines


class TestBytes:
  def test_by_hand(self, make):
    """Adam keeps two moments of each parameter and counts its updates, and so does the learning rate."""
    held = make(ocean.get_config()).result["bytes"]
    assert held["training"] == {
      "parameters": 4 * 371_461,
      "buffers": 4 * 256,
      "gradients": 4 * 371_461,
      "optimizer": 2 * 4 * 371_461 + 2 * 4,
      "all": 4 * 4 * 371_461 + 4 * 256 + 8,
    }
    assert held["inference"] == {"float32": 4 * 371_717, "bfloat16": 2 * 371_717}

  def test_frozen_parameters_have_no_gradient_and_auxiliary_heads_are_trained_and_not_used(self, make):
    held = make(ssv2_gasmcast.get_config()).result["bytes"]
    trained, frozen, auxiliary = 9_079_886, 85_659_648 + 33_166_272, 676_362
    assert held["training"]["parameters"] == 4 * (trained + auxiliary + frozen)
    assert held["training"]["gradients"] == 4 * (trained + auxiliary)
    assert held["training"]["optimizer"] == 2 * 4 * (trained + auxiliary) + 8
    assert held["inference"]["bfloat16"] == 2 * (trained + frozen + 9_600)

  def test_a_running_average_is_one_more_copy_of_what_trains(self, make):
    config = quickstart.get_config("runlocal")
    assert "average" not in make(config).result["bytes"]["training"]
    config.train.average_decay = 0.99
    setup = make(config)
    held = setup.result["bytes"]["training"]
    assert held["average"] == held["gradients"] and sum(held.values()) == 2 * held["all"]
    assert f"training: running average of the trainable ones {held['average']:,}" in "\n".join(printed(setup))

  @pytest.mark.parametrize("optimizer", ["adamw", "sgd", "muon"])
  def test_the_state_of_the_optimiser_is_the_real_one(self, make, optimizer):
    config = ocean.get_config()
    config.optim.update({"optimizer": optimizer, "schedule": "cosine", "plateau": common.optim().plateau})
    setup = make(config)
    transformation, _ = make_optimizer(setup.model.optim, steps=10)
    state = transformation.init({name: np.zeros(leaf.shape, leaf.dtype) for name, leaf in setup.model.params.items()})
    assert setup.result["bytes"]["training"]["optimizer"] == sum(leaf.nbytes for leaf in jax.tree.leaves(state))


@pytest.mark.parametrize("config", [ocean.get_config(), epic_verb_noun.get_config(), ssv2_gasmcast.get_config()])
def test_every_line_fits_100_columns(make, config):
  setup = make(config, width=100)
  count.run(setup)
  text = setup.console.export_text()
  assert "…" not in text and max(map(len, text.splitlines())) <= 100
  for name, part in setup.result["parts"].items():  # a row that is broken has not all of its numbers
    assert any(name in line and f"{part['trainable']:,}" in line for line in text.splitlines())


def test_what_is_written(make, tmp_path):
  setup = make(ocean.get_config())
  count.run(setup)
  written = json.loads((tmp_path / "run" / "count.json").read_text())
  assert written == json.loads(json.dumps(setup.result | {"title": "Parameters of ocean", "meta": written["meta"]}))
  assert written["meta"]["config"]["model"]["num_heads"] == 4 and written["meta"]["command"] == setup.command
  page = (tmp_path / "run" / "count.md").read_text()
  assert "| all | 371,461 | 0 | 256 |" in page and "training: state of the optimiser | 2,971,696 | 3.0 MB |" in page
  assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["count.json", "count.md"]


def test_of_several_processes_one_writes(make, tmp_path, monkeypatch):
  monkeypatch.setattr(jax, "process_index", lambda: 1)
  count.run(make(ocean.get_config()))
  assert not (tmp_path / "run").exists()


def test_rules_of_the_optimiser_freeze_parts(make):
  config = epic_verb_noun.get_config()
  config.optim.trained = (("^semantic/", False),)
  assert numbers(make(config).result["parts"]["semantic"]) == (0, 23_508_032, 53_120)


def test_the_budget_is_checked_for_every_system(make):
  config = ocean.get_config()
  config.model.max_trainable = 371_461
  assert "Budget of trainable parameters: 371,461, kept." in printed(make(config))
  config.model.max_trainable = 371_460
  with pytest.raises(ConfigError, match=r"^config.model.max_trainable = 371,460: 371,461 parameters would be trained;"):
    make(config)
  config = ssv2_gasmcast.get_config()
  config.model.max_trainable = 9_079_885
  with pytest.raises(ConfigError, match="model.max_trainable = 9,079,885: 9,079,886 parameters would be trained"):
    make(config)


_TELLS_ITS_PEAK = """
import pathlib, runpy, sys
try:
  runpy.run_path(sys.argv[0], run_name="__main__")
finally:
  print(next(line for line in pathlib.Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_a_model_of_a_billion_parameters_is_counted_in_little_memory(tmp_path):
  """Its parameters alone are 3.6 GB; Python, jax and the traces of the model are a third of one.

  The process tells its peak itself: in that of a waiting parent the parent's own is counted from before the exec.
  """
  arguments = ["--config", "configs/ssv2_gasmcast.py:semantic=dinov3_vith16plus", "--workdir", str(tmp_path)]
  script = f"import sys; sys.argv = sys.argv[1:]{_TELLS_ITS_PEAK}"
  command = [sys.executable, "-c", script, "launch/main.py", *arguments, "--job", "count"]
  process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
  assert process.returncode == 0 and "840,591,360" in process.stdout
  assert int(process.stdout.split("VmHWM:")[1].split()[0]) < 1_000_000  # kB


@pytest.mark.parametrize("job", ["train", "evaluate", "generate", "devices", "inspect", "benchmark", "count,train"])
@pytest.mark.parametrize("config", [ocean, epic_verb_noun])
def test_every_other_job_says_what_can_be_done(job, config, tmp_path):
  values = config.get_config()
  said = f"^config.system = '{values.system}': job {job.split(',')[-1]} does not know this system; count does.$"
  with pytest.raises(ConfigError, match=said):
    table.prepare(job, values, str(tmp_path), "python launch/main.py")


def test_a_job_without_a_system_names_those_that_have_it(tmp_path):
  with pytest.raises(ConfigError, match="'gasmcast': job inspect does not know this system; generate, .*, count,"):
    table.prepare("inspect", quickstart.get_config(), str(tmp_path), "python launch/main.py")


@pytest.mark.parametrize(
  ("config", "field", "value", "message"),
  [
    (ocean, "system", "personality", "config.system = 'personality' is no system; use gasmcast, ocean, verb_noun."),
    (ocean, "optim.lrr", 1.0, "config.optim.lrr is not a field; did you mean 'lr'?"),
    (ocean, "model.num_heads", -4, "config.model: num_heads = -4: use 1 or more."),
    (ocean, "data", {}, "config.data is not a field"),
    (epic_verb_noun, "model.heads", 6, "config.model: heads = 6 does not divide the width 1024 of the branches;"),
    (epic_verb_noun, "model.hiden", 6, "config.model.hiden is not a field; did you mean 'hidden'?"),
    (epic_verb_noun, "optim.cycle_steps", 10, "config.optim.cycle_steps = 10 has no unit"),
    (
      epic_verb_noun,
      "optim.trained",
      (("^backbone/", False),),
      r"config.optim.trained: the rule \('\^backbone/', Fals",
    ),
  ],
)
def test_impossible_configurations_are_refused_in_one_line(make, config, field, value, message):
  values = config.get_config()
  *parents, last = field.split(".")
  node = values
  for parent in parents:
    node = node[parent]
  with node.ignore_type():
    node[last] = value
  with pytest.raises(ConfigError, match=message) as raised:
    make(values)
  assert "\n" not in str(raised.value)
