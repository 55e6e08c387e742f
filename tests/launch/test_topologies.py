"""One training of the tiny quickstart on other devices: the same losses, and checkpoints that resume on any of them."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import portpicker
import pytest

ROOT = pathlib.Path(__file__).parent.parent.parent
FSDP = ("--config.sharding.fsdp=True", "--config.sharding.min_size=64")
TOPOLOGIES = {  # processes, devices of each, fields
  "eight": (1, 8, ()),
  "fsdp": (1, 8, FSDP),
  "model": (1, 8, ("--config.sharding.model=2", "--config.sharding.parameters=(('kernel$','model'),)", FSDP[1])),
  "processes": (2, 4, ()),
  "fsdp_processes": (2, 4, FSDP),
}

pytestmark = pytest.mark.long


def run(workdir, data, processes, devices, fields, job="train"):
  """What process 0 prints; every process must end well, and all others say nothing."""
  port = portpicker.pick_unused_port()
  steps = ("--config.train.steps=6 steps", "--config.train.validate_every=3 steps")
  command = [sys.executable, "launch/main.py", "--config", "configs/quickstart.py:runlocal", "--workdir", str(workdir)]
  command += [f"--config.data.root={data}", *steps, "--job", job, *fields]
  place = [f"--coordinator=127.0.0.1:{port}", f"--processes={processes}"]
  environment = {**os.environ, "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}", "COLUMNS": "160"}
  options = {"cwd": ROOT, "env": environment, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
  started = [
    subprocess.Popen([*command, *(place if processes > 1 else ()), *own], **options)
    for own in ([f"--process={number}"] if processes > 1 else [] for number in range(processes))
  ]
  outputs = [process.communicate(timeout=900) for process in started]
  assert [process.returncode for process in started] == [0] * processes, outputs
  for said, _ in outputs[1:]:
    assert all(line.startswith("[Gloo]") for line in said.splitlines()), said
  return outputs[0][0]


def losses(workdir):
  """Losses and metrics of every step and of the validations."""
  lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
  return [(line["step"], line["split"], line["loss"], line["top1"]) for line in lines if "loss" in line]


def assert_same(workdir, expected):
  found, expected = losses(workdir), losses(expected)
  assert [line[:2] for line in found] == [line[:2] for line in expected] and len(found) == 8
  for a, b in zip(found, expected, strict=True):
    assert a[2:] == pytest.approx(b[2:], rel=1e-5), (a, b)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
  return tmp_path_factory.mktemp("data") / "moving_objects"


@pytest.fixture(scope="module")
def one(tmp_path_factory, data):
  """The run on one device."""
  workdir = tmp_path_factory.mktemp("runs") / "one"
  run(workdir, data, 1, 1, (), job="generate,train")
  return workdir


@pytest.fixture(scope="module")
def fsdp(tmp_path_factory, one, data):
  """The run on 8 devices that split parameters and optimiser state, and what it printed."""
  workdir = tmp_path_factory.mktemp("runs") / "fsdp"
  return workdir, run(workdir, data, *TOPOLOGIES["fsdp"])


@pytest.mark.parametrize("topology", ["eight", "model", "processes", "fsdp_processes"])
def test_losses_do_not_depend_on_devices_and_processes(tmp_path, one, data, topology):
  run(tmp_path / "run", data, *TOPOLOGIES[topology])
  assert_same(tmp_path / "run", one)
  assert all(not file.read_text() for file in tmp_path.glob("run/data_errors*.jsonl"))


def test_fsdp_has_the_same_losses_and_says_what_it_splits(fsdp, one):
  workdir, printed = fsdp
  assert_same(workdir, one)
  assert "Sharding: each of 8 devices holds" in printed


@pytest.mark.parametrize("topology", ["one", "processes"])
def test_a_checkpoint_of_split_parameters_resumes_on_other_devices(tmp_path, fsdp, one, data, topology):
  shutil.copytree(fsdp[0], tmp_path / "run")
  shutil.rmtree(tmp_path / "run" / "checkpoints" / "6")
  printed = run(tmp_path / "run", data, *TOPOLOGIES.get(topology, (1, 1, ())))
  assert "Resuming at step 4." in printed
  assert_same(tmp_path / "run", one)


def test_two_processes_evaluate_and_report_as_one(tmp_path, one, data):
  for name in ("alone", "together"):
    shutil.copytree(one, tmp_path / name)
  run(tmp_path / "alone", data, 1, 1, (), job="evaluate,report,predict")
  printed = run(tmp_path / "together", data, *TOPOLOGIES["processes"], job="evaluate,report,predict")
  alone, together = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("alone", "together"))
  assert alone["meta"]["weights"] == together["meta"]["weights"]
  for split, numbers in alone["splits"].items():
    assert together["splits"][split] == pytest.approx(numbers, rel=1e-5)
  assert printed.count("validation: top-1") == 1
  files = lambda name: {path.relative_to(tmp_path / name).as_posix() for path in (tmp_path / name).rglob("*")}
  assert files("together") - files("alone") <= {"data_errors.process_1.jsonl"} and files("alone") <= files("together")
