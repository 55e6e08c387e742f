"""The command line as a user meets it: whole runs on rendered videos, and everything one can get wrong."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from configs import own_videos, quickstart
from tests.features.random_weights import random_variables, save_variables

ROOT = pathlib.Path(__file__).parent.parent.parent


def command(workdir, data, *arguments, config="configs/quickstart.py:runlocal"):
  flags = ["--config", config, "--workdir", str(workdir), f"--config.data.root={data}"]
  return [sys.executable, "launch/main.py", *flags, *arguments]


def environment():
  """One device, as a user has it; the tests' own environment has 8."""
  return {**{name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}, "COLUMNS": "160"}


def run(*arguments, **options):
  return subprocess.run(
    command(*arguments, **options), cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=300
  )


@pytest.fixture(scope="module")
def data(tmp_path_factory):
  return tmp_path_factory.mktemp("data") / "moving_objects"


@pytest.fixture(scope="module")
def finished(tmp_path_factory, data):
  """A workdir in which all jobs of the tiny quickstart have run, and what was printed."""
  workdir = tmp_path_factory.mktemp("runs") / "finished"
  result = run(workdir, data)
  assert result.returncode == 0, result.stdout + result.stderr
  return workdir, result


def test_one_command_leads_from_nothing_to_a_report(finished):
  workdir, result = finished
  metrics = json.loads((workdir / "metrics.json").read_text())
  assert metrics["splits"]["test"]["examples"] == metrics["splits"]["validation"]["examples"] == 12
  assert {"top1", "top5", "top1_depth_0", "top1_depth_2", "unreadable"} <= set(metrics["splits"]["test"])
  assert {"step", "config", "data", "weights", "parameters", "versions", "command"} == set(metrics["meta"])
  assert metrics["meta"]["weights"]["motion"] == {"name": "r3d", "origin": "random"}
  assert metrics["meta"]["versions"]["jax"]
  for name in ("index.html", "per_class.csv", "confusion.svg", "training.svg", "depth.svg", "attention-01.png"):
    assert (workdir / "report" / name).stat().st_size > 500, name
  page = (workdir / "report" / "index.html").read_text()
  assert "Moving something from left to right" in page and "mirrored" in page and "reversed in time" in page
  assert "<dt>Weights, motion</dt><dd>r3d, from scratch</dd>" in page
  for name in ("config.json", "environment.json", "command.txt", "metrics.jsonl"):
    assert (workdir / name).is_file()
  assert any((workdir / "tensorboard").iterdir())
  assert result.stderr == ""
  for words in ("12 clips", str(workdir / "report" / "index.html"), "Next:"):
    assert words in result.stdout


def test_the_same_command_again_says_that_the_run_is_complete(finished, data):
  workdir, _ = finished
  before = (workdir / "metrics.json").read_text()
  result = run(workdir, data, "--job=generate,train,evaluate")  # without the report, which takes as long as the rest
  assert result.returncode == 0
  assert "found and verified" in result.stdout and "All 8 steps are done" in result.stdout
  after = json.loads((workdir / "metrics.json").read_text())
  assert after["splits"] == json.loads(before)["splits"]
  assert after["meta"]["weights"] == json.loads(before)["meta"]["weights"]


def test_job_overrides_the_jobs_of_the_config(finished, data):
  result = run(finished[0], data, "--job", "count")
  assert result.returncode == 0
  assert "fusion/bcast_1" in result.stdout and "Budget of trainable parameters: 20,000,000, kept" in result.stdout


@pytest.mark.reliability(2)
def test_after_kill_9_the_run_resumes_and_ends_identically(tmp_path, finished, data, figure):
  line = command(tmp_path / "run", data, "--job=train")
  killed = subprocess.Popen(line, cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL)
  deadline = time.monotonic() + 200
  while not (tmp_path / "run" / "checkpoints" / "2" / "checksums.json").exists():
    assert time.monotonic() < deadline and killed.poll() is None
    time.sleep(0.002)
  killed.send_signal(signal.SIGKILL)
  killed.wait()
  resumed = run(tmp_path / "run", data, "--job=train,evaluate")
  assert resumed.returncode == 0 and "Resuming at step" in resumed.stdout
  whole, again = (json.loads((folder / "metrics.json").read_text()) for folder in (finished[0], tmp_path / "run"))
  assert again["meta"]["weights"] == whole["meta"]["weights"]
  assert again["splits"] == whole["splits"]
  assert _numbers(tmp_path / "run") == _numbers(finished[0])
  figure(
    "launch/main.py killed at a save of a run on videos and resumed: metrics.json and metrics.jsonl as uninterrupted"
  )


def _numbers(workdir):
  """metrics.jsonl without what a clock measured."""
  lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
  measured = ("time", "clips_per_second", "speed", "memory")
  return [{key: value for key, value in line.items() if key.split("/")[0] not in measured} for line in lines]


@pytest.fixture
def broken(tmp_path, data):
  """The data set by links, so that videos can be replaced one by one."""
  broken = tmp_path / "broken"
  broken.mkdir()
  for file in data.iterdir():
    (broken / file.name).symlink_to(file)
  (broken / "videos").unlink()
  (broken / "videos").mkdir()
  for video in (data / "videos").iterdir():
    (broken / "videos" / video.name).symlink_to(video)
  return broken


def test_an_unreadable_video_is_counted_named_and_masked(tmp_path, finished, data, broken):
  test = json.loads((data / "test.json").read_text())
  bad = broken / "videos" / f"{test[0]['id']}.webm"
  bad.unlink()
  bad.write_bytes(b"no video")
  workdir = tmp_path / "run"
  workdir.mkdir()
  (workdir / "checkpoints").symlink_to(finished[0] / "checkpoints")
  result = run(workdir, broken, "--job", "evaluate")
  assert result.returncode == 2 and "1 of 12 clips of the split 'test' could not be read, more than" in result.stderr
  result = run(workdir, broken, "--job", "evaluate,report", "--config.train.max_error_share=0.1")
  assert result.returncode == 0, result.stderr
  metrics = json.loads((workdir / "metrics.json").read_text())["splits"]["test"]
  assert (metrics["examples"], metrics["unreadable"]) == (11, 1)
  (line,) = map(json.loads, (workdir / "data_errors.jsonl").read_text().splitlines())
  assert bad.name in line["reason"] and line["split"] == "test"
  assert "1 clip could not be read" in result.stdout


@pytest.mark.long
def test_too_many_unreadable_videos_stop_the_training(tmp_path, finished, data, broken):
  for entry in json.loads((data / "train.json").read_text())[:6]:
    (broken / "videos" / f"{entry['id']}.webm").unlink()
  many = ("--config.train.steps=40 steps", "--config.train.max_error_share=0.1", "--job=train")
  result = run(tmp_path / "many", broken, *many)
  assert result.returncode == 2
  assert "could not be read" in result.stderr and "max_error_share" in result.stderr
  assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (("--config.optim.lrr=1",), """the config has no field 'lrr' Did you mean "lr" instead of "lrr"?"""),
    (("--config.optim.lr=fast",), "--config.optim.lr=fast: could not convert string to float: 'fast'"),
    (("--confg.optim.lr=1",), "Unknown command line flag 'confg.optim.lr'"),
    (("--job=trian",), "--job 'trian': 'trian' is no job; use prepare, generate, extract, train"),
    (("train",), "'train' is no flag; a field is set by --config.FIELD=VALUE"),
    (("--config.model.fusion.windows=(0,3,7)",), "every query must see at least two segments"),
    (("--config.data.root=nowhere", "--job=train"), "nowhere is not a folder"),
  ],
)
def test_mistakes_are_one_line_and_exit_code_2(tmp_path, arguments, message):
  result = run(tmp_path / "run", tmp_path / "data", *arguments)
  assert result.returncode == 2, result.stderr
  assert result.stderr.startswith("error: ") and message in result.stderr
  assert result.stderr.count("\n") == 1
  assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_missing_flag_and_a_missing_config_are_one_line(tmp_path):
  bare = lambda *arguments: subprocess.run(
    [sys.executable, "launch/main.py", *arguments], cwd=ROOT, env=environment(), capture_output=True, text=True
  )
  result = bare("--workdir", str(tmp_path))
  assert (result.returncode, result.stderr.count("\n")) == (2, 1) and "--config is missing" in result.stderr
  result = bare("--config", "configs/none.py", "--workdir", str(tmp_path))
  assert (result.returncode, result.stderr.count("\n")) == (2, 1) and "configs/none.py" in result.stderr
  result = bare("--config", "configs/ssv2_finetune.py:blocks=13", "--workdir", str(tmp_path))
  told = "flag --config=configs/ssv2_finetune.py:blocks=13: 13 blocks of 12 can't learn; use 1 to 12."
  assert (result.returncode, result.stderr) == (2, f"error: command line: {told}\n")


def test_help_lists_the_flags():
  result = subprocess.run([sys.executable, "launch/main.py", "--help"], cwd=ROOT, capture_output=True, text=True)
  for flag in ("--config", "--workdir", "--job", "--[no]debug"):
    assert flag in result.stdout


def test_another_configuration_in_the_same_workdir_is_refused(finished, data):
  records = {name: (finished[0] / name).read_bytes() for name in ("config.json", "command.txt", "metrics.json")}
  for job in ("train", "evaluate"):
    result = run(finished[0], data, "--config.optim.lr=0.5", f"--job={job}")
    assert result.returncode == 2
    assert "optim.lr: 0.003 -> 0.5" in result.stderr and "another workdir" in result.stderr
  assert records == {name: (finished[0] / name).read_bytes() for name in records}


@pytest.mark.long
def test_a_run_that_is_told_to_stop_saves_and_leaves_the_other_jobs(tmp_path, finished, data):
  fields = ("--config.train.steps=5000 steps", "--config.train.checkpoint_every=5000 steps")
  options = {"cwd": ROOT, "env": environment(), "stdout": subprocess.PIPE, "text": True}
  with subprocess.Popen(command(tmp_path / "run", data, *fields), **options) as process:
    for line in process.stdout:
      if line.startswith("step 3/"):
        break
    process.terminate()
    said = process.stdout.read()
  assert process.returncode == 1 and "the same command resumes" in said
  assert not (tmp_path / "run" / "metrics.json").exists()
  assert any((tmp_path / "run" / "checkpoints").glob("*/checksums.json"))


def test_a_report_needs_a_training_or_an_evaluation(tmp_path, data):
  result = run(tmp_path / "run", data, "--job=report")
  assert result.returncode == 2 and "neither a training nor an evaluation of the split 'test'" in result.stderr
  result = run(tmp_path / "run", data, "--job=evaluate")
  assert result.returncode == 2 and "train first" in result.stderr


def test_a_folder_of_ones_own_is_left_alone_by_generate(tmp_path):
  (tmp_path / "mine").mkdir()
  result = run(tmp_path / "run", tmp_path / "mine")
  assert result.returncode == 2 and "is left alone. To use it as it is, run --job train" in result.stderr


@pytest.mark.long
@pytest.mark.parametrize(
  "config", ["ssv2_gasmcast.py:efficient", "ssv2_gasmcast_vjepa2.py:", "ssv2_finetune.py:", "own_videos.py:"]
)
def test_the_full_configs_in_small(tmp_path, data, config):
  name, _, argument = config.partition(":")
  small = f"configs/{name}:{argument},runlocal".replace(":,", ":")
  result = run(tmp_path / "small", data, config=small)
  assert result.returncode == 0, result.stderr


def test_random_frozen_backbones_are_refused(tmp_path, data):
  result = run(tmp_path / "full", data, "--config.model.semantic.weights=random", config="configs/ssv2_gasmcast.py")
  assert result.returncode == 2 and "a frozen backbone would stay random" in result.stderr


def _motion_weights(path, seed):
  """Weights of the motion backbone of the tiny quickstart."""
  fields = quickstart.get_config("runlocal").model.motion.to_dict()
  kept = ("widths", "blocks", "norm", "image_size", "differences")
  return save_variables(path, random_variables("r3d", {name: fields[name] for name in kept}, seed)[1])


def test_weights_that_were_not_there_before_are_another_run(tmp_path, finished, data):
  weights = _motion_weights(tmp_path / "motion.safetensors", 0)
  result = run(finished[0], data, f"--config.model.motion.weights={weights}", "--job=train")
  assert result.returncode == 2 and "weights.motion: 'random' -> '" in result.stderr, result.stderr
  result = run(finished[0], data, "--config.model.motion.weights=none.safetensors", "--job=train")
  assert result.returncode == 2 and "config.model.motion.weights: none.safetensors does not exist" in result.stderr
  assert result.stderr.count("\n") == 1


@pytest.mark.long
def test_a_frozen_backbone_comes_from_its_file_in_training_and_in_evaluation(tmp_path, finished, data):
  weights = _motion_weights(tmp_path / "motion.safetensors", 0)
  frozen = (f"--config.model.motion.weights={weights}", "--config.model.motion.trainable=False")
  result = run(tmp_path / "run", data, *frozen)
  assert result.returncode == 0, result.stderr
  meta = json.loads((tmp_path / "run" / "metrics.json").read_text())["meta"]
  assert meta["weights"]["motion"]["origin"] == weights and len(meta["weights"]["motion"]["fingerprint"]) == 64
  page = (tmp_path / "run" / "report" / "index.html").read_text()
  assert f"r3d from {weights}, fingerprint {meta['weights']['motion']['fingerprint']}" in page
  moved = tmp_path / "moved.safetensors"
  pathlib.Path(weights).rename(moved)
  again = (f"--config.model.motion.weights={moved}", frozen[1])
  result = run(tmp_path / "run", data, *again)
  assert result.returncode == 0 and "All 8 steps are done" in result.stdout, result.stderr
  second = json.loads((tmp_path / "run" / "metrics.json").read_text())["meta"]
  assert second["weights"]["model"] == meta["weights"]["model"]
  _motion_weights(moved, 1)
  for job in ("train", "evaluate"):
    result = run(tmp_path / "run", data, *again, f"--job={job}")
    assert result.returncode == 2 and "weights.motion: '" in result.stderr


@pytest.mark.long
def test_real_surveillance_videos_train_and_evaluate(tmp_path, shared_data):
  """240 real clips (VP9) in the layout of Something-Something-V2, without a test split; labels need no direction."""
  fields = ("--config.data.classes=2", "--config.evaluate.splits=('validation',)", "--job=train,evaluate,report")
  result = run(tmp_path / "run", shared_data / "fight", *fields)
  assert result.returncode == 0, result.stderr
  numbers = json.loads((tmp_path / "run" / "metrics.json").read_text())["splits"]["validation"]
  assert (numbers["examples"], numbers["unreadable"]) == (60, 0)
  assert (tmp_path / "run" / "report" / "attention-01.png").stat().st_size > 500
  assert not (tmp_path / "run" / "data_errors.jsonl").read_text()


@pytest.mark.long
def test_frozen_published_backbones_train_on_real_videos(tmp_path, shared_data):
  """EfficientNet-Lite0 and I3D with their real weights, on frames smaller than published to be quick."""
  folder = shared_data / "weights"
  fields = (
    f"--config.model.semantic.weights={folder / 'efficientnet_lite0.safetensors'}",
    f"--config.model.motion.weights={folder / 'i3d_k400_rgb.safetensors'}",
    *("--config.model.semantic.image_size=96", "--config.model.motion.image_size=64"),
    *("--config.data.size=96", "--config.data.short_side=112", "--config.train.steps=4 steps"),
    *("--config.optim.warmup_steps=1 steps", "--config.train.validate_every=4 steps"),
  )
  result = run(tmp_path / "run", shared_data / "fight", *fields, config="configs/own_videos.py")
  assert result.returncode == 0, result.stderr
  metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
  numbers, meta = metrics["splits"]["validation"], metrics["meta"]
  assert (numbers["examples"], numbers["unreadable"]) == (60, 0)
  assert meta["parameters"]["frozen"] == 3_371_008 + 12_279_984  # as published, without their classifiers
  assert meta["weights"]["semantic"]["name"] == own_videos.get_config().model.semantic.name
  assert "i3d_rgb from" in (tmp_path / "run" / "report" / "index.html").read_text()
