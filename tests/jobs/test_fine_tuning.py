"""Rules on real networks, and runs that begin with another run's parameters, through the jobs."""

import dataclasses
import json
import subprocess
import sys

import pytest
from rich.console import Console

from configs import common, quickstart, ssv2_finetune, ssv2_gasmcast
from gasmcast.core import rules
from gasmcast.core.config import to_dict
from gasmcast.core.errors import ConfigError, WeightsError, WorkdirError
from gasmcast.jobs import count, table
from gasmcast.training.optim import OptimConfig


@pytest.fixture(scope="module")
def fine_tuned():
  """GASM-CAST on DINOv3 ViT-B/16, which is trained along."""
  config = ssv2_gasmcast.get_config()
  config.model.semantic.trainable = True
  config.model.max_trainable = 0
  return config


def test_the_last_block_of_a_backbone_is_fine_tuned_by_rules(fine_tuned, make, tmp_path):
  fine_tuned = fine_tuned.copy_and_resolve_references()
  fine_tuned.model.max_trainable = 20_000_000
  with pytest.raises(ConfigError, match=r"max_trainable = 20,000,000: .* would be trained"):
    make(fine_tuned)
  fine_tuned.optim.trained = (("^semantic/(block_11|norm)/", True), ("^semantic/", False))
  fine_tuned.optim.lr_rules = (("^semantic/", 0.1), (".*", 1.0))
  parts = make(fine_tuned).parameters()
  assert parts["semantic"] == {"trainable": 7_088_640 + 1_536, "frozen": 85_659_648 - 7_088_640 - 1_536}
  setup = count.SETUP(fine_tuned, tmp_path, "python launch/main.py", Console(record=True, width=140))
  count.run(setup)
  lines = [" ".join(line.replace("│", " ").split()) for line in setup.console.export_text().splitlines()]
  assert "semantic 7,090,176 78,569,472 0" in lines
  assert "semantic/block_11 7,088,640 trained x 0.1 7,077,888" in lines
  assert "semantic/block_0-10 77,975,040 frozen" in lines
  assert "motion 33,166,272 frozen" in lines


def test_the_config_of_the_second_stage_keeps_the_budget(make):
  experiment = make(ssv2_finetune.get_config())
  assert experiment.parameters()["semantic"]["trainable"] == 7_088_640 + 1_536
  treatments = experiment.treatments
  assert treatments["semantic/block_11/mlp/up/kernel"].lr_factor == 0.75
  assert treatments["semantic/norm/scale"].trained and not treatments["semantic/block_10/norm1/scale"].trained
  two = make(ssv2_finetune.get_config("blocks=2"))
  assert two.parameters()["semantic"]["trainable"] == 2 * 7_088_640 + 1_536
  trained = sum(part["trainable"] for name, part in two.parameters().items() if "auxiliary" not in name)
  assert round(trained / 1e6, 1) == 23.3
  with pytest.raises(ValueError, match="config argument blocks=two: use a whole number"):
    ssv2_finetune.get_config("blocks=two")
  for blocks in ("0", "13"):
    with pytest.raises(ValueError, match=f"{blocks} blocks of 12 can't learn; use 1 to 12"):
      ssv2_finetune.get_config(f"blocks={blocks}")


def test_layers_learn_slower_towards_the_frames(fine_tuned, make):
  fine_tuned = fine_tuned.copy_and_resolve_references()
  fine_tuned.optim.lr_rules = common.layer_decay(blocks=12, factor=0.5)
  treatments = make(fine_tuned).treatments
  factors = {name: treated.lr_factor for name, treated in treatments.items()}
  assert factors["semantic/block_11/attention/qkv_kernel"] == 0.5
  assert factors["semantic/block_1/mlp/up/kernel"] == 0.5**11  # and not that of block_10 or block_11
  assert factors["semantic/block_0/norm1/scale"] == 0.5**12
  assert factors["semantic/patch_embedding/kernel"] == factors["semantic/cls_token"] == 0.5**13
  assert factors["semantic/norm/scale"] == factors["fusion/head/kernel"] == 1.0
  fine_tuned.optim.lr_rules = common.layer_decay(blocks=13, factor=0.5)
  with pytest.raises(ConfigError, match=r"'\^semantic/block_12/', 0.5\) matches none"):
    make(fine_tuned)


def test_matrices_of_the_real_network_are_told_from_the_rest(fine_tuned, make):
  """Muon: every kernel but those that classify; the fused query, key and value of DINO as three."""
  names = list(rules.flatten(make(fine_tuned).abstract_variables["params"]))
  kinds = rules.match(names, OptimConfig().muon_rules, "config.optim.muon_rules")
  assert kinds["semantic/block_3/attention/qkv_kernel"] == "qkv"
  assert kinds["fusion/bcast_1/motion_to_semantic/query/kernel"] == kinds["motion/stem/kernel"] == "matrix"
  assert kinds["fusion/head/kernel"] == kinds["fusion/auxiliary_0/head/kernel"] == "adam"
  assert {kinds[name] for name in names if not name.endswith("kernel")} == {"adam"}


def test_the_defaults_of_the_configs_are_those_of_the_library(tiny, make):
  tiny.optim = common.optim()
  tiny.optim.warmup_steps = "0 steps"
  assert to_dict(make(tiny).optim) == to_dict(OptimConfig())
  assert set(common.optim()) == {field.name for field in dataclasses.fields(OptimConfig)}


def test_rules_and_durations_can_be_given_on_the_command_line(tmp_path):
  """Through absl and ml_collections, whose tuples are checked field by field."""
  given = {"trained": "(('^semantic/block_1/',True),('^semantic/',False))", "schedule": "restarts"}
  given |= {"lr_rules": "(('^fusion/head',1),('.*',0.1))", "cycle_steps": "2 steps", "momentum": "0.8"}
  program = (
    "import json, sys; from absl import app; from ml_collections import config_flags\n"
    "flag = config_flags.DEFINE_config_file('config', None, '', lock_config=True)\n"
    "app.run(lambda _: print(json.dumps(flag.value.optim.to_dict())))"
  )
  flags = ["--config", "configs/quickstart.py", *(f"--config.optim.{name}={value}" for name, value in given.items())]
  done = subprocess.run([sys.executable, "-c", program, *flags], capture_output=True, text=True, timeout=120)
  assert done.returncode == 0, done.stderr
  found = json.loads(done.stdout)
  assert found["trained"] == [["^semantic/block_1/", True], ["^semantic/", False]]
  assert found["lr_rules"] == [["^fusion/head", 1], [".*", 0.1]]
  assert (found["schedule"], found["cycle_steps"], found["momentum"]) == ("restarts", "2 steps", 0.8)


def test_a_cycle_has_a_unit_and_ends_in_the_run(tiny, make):
  tiny.optim.update({"schedule": "restarts", "cycle_steps": "1 epochs", "warmup_steps": "1 steps"})
  assert make(tiny).optim.cycle_steps == 3  # 24 clips in batches of 8
  tiny.optim.cycle_steps = "3 epochs"
  with pytest.raises(ConfigError, match="config.optim.cycle_steps = 9: the first cycle would end at step 10"):
    make(tiny)


def test_initial_weights_that_are_not_there_are_refused_before_any_work(tiny, make, tmp_path):
  tiny.init.weights = str(tmp_path / "nowhere")
  with pytest.raises(WeightsError, match=r"config.init.weights = '.*nowhere' does not exist"):
    table.find("train")[0].check(make(tiny))


def test_a_field_of_init_is_checked(tiny, make):
  tiny.unlock()
  with tiny.ignore_type():
    tiny.init.weight = "runs/x"
  with pytest.raises(ConfigError, match="config.init.weight is not a field; did you mean 'weights'"):
    make(tiny)


@pytest.mark.long
def test_a_run_begins_with_another_one(rendered, make, tmp_path):
  """Trains, begins another run from it, resumes and evaluates that; what may be new is the heads for other classes."""
  generate, train, evaluate = table.find("generate,train,evaluate")

  def configured(workdir, weights=None, **data):
    config = quickstart.get_config("runlocal")
    config.data.update({"root": str(rendered), **data})
    config.init.weights = weights
    return make(config, tmp_path / workdir)

  first = str(tmp_path / "first")
  generate.run(configured("first"))
  train.run(configured("first"))

  sized, pretrained = configured("other", first, classes=5).with_weights()
  taken, wanted = rules.flatten(pretrained.variables), rules.flatten(sized.abstract_variables)
  assert set(wanted) - set(taken) == {name for name in wanted if name.endswith(("head/kernel", "head/bias"))}
  assert "; new: fusion/auxiliary_0, fusion/auxiliary_1, fusion/auxiliary_2, fusion/head (" in sized.start.message
  strict = configured("other", first, classes=5)
  strict.init = dataclasses.replace(strict.init, new=((".*", False),))
  with pytest.raises(WeightsError, match=r"8 of another shape: fusion/auxiliary_0/head/bias \(12,\), here \(5,\)"):
    strict.with_weights()

  begun = configured("second", first)
  train.run(begun)
  said = begun.console.export_text()
  assert "Starting from step" in said and "new:" not in said and "What trains" in said
  again = configured("second", first)
  train.run(again)
  assert "All 8 steps are done" in again.console.export_text()
  evaluate.run(configured("second", first))
  with pytest.raises(WorkdirError, match=r"holds another run .*init: '[0-9a-f]{64}' -> None"):
    train.run(configured("second"))
