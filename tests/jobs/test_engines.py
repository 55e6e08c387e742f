"""Whoever works, and whoever dies, the result is the same."""

import importlib.util
import os
import pathlib
import subprocess
import sys
import time
import types

import pytest
from rich.console import Console

from gasmcast.core import leases
from gasmcast.core.config import parse
from gasmcast.core.errors import ConfigError, DataError, UserError
from gasmcast.jobs import ray_engine
from gasmcast.jobs.engines import EngineConfig, run
from tests.core import shard_workers
from tests.jobs import engine_workers

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def clean(tmp_path):
  """What one undisturbed worker makes, by name."""
  engine_workers.finish(tmp_path / "clean")
  return shard_workers.found(tmp_path / "clean")


def made(folder):
  return {name: content for name, content in shard_workers.found(folder).items() if not name.startswith("death")}


def test_the_local_engine_works_in_this_process_and_is_watched(tmp_path, clean):
  seen = []
  watch = lambda: seen.append(shard_workers.open_work(tmp_path / "local").progress()[0])
  run(EngineConfig(), engine_workers.finish, (str(tmp_path / "local"), 0.01), watch=watch, every=0.1)
  assert made(tmp_path / "local") == clean
  assert len(seen) >= 2 and seen == sorted(seen) and seen[-1] == 50


@pytest.mark.reliability
def test_a_killed_process_is_replaced_and_the_result_is_the_same(tmp_path, clean, capsys):
  folder, seen = tmp_path / "processes", []
  config = EngineConfig("processes", workers=2)
  run(
    config,
    engine_workers.finish_but_die_once,
    (str(folder),),
    Console(width=100),
    lambda: seen.append(1),
    every=0.2,
  )
  assert made(folder) == clean and (folder / "death_0").exists() and seen
  assert " was ended by signal 9 (SIGKILL). Another one takes its place." in capsys.readouterr().out


def test_a_process_that_always_dies_is_given_up_by_name(tmp_path):
  with pytest.raises(
    UserError,
    match=r"^Worker 0 was ended by signal 9 \(SIGKILL\), for the 4th time\. .* memory was short: use fewer workers",
  ):
    run(EngineConfig("processes"), engine_workers.finish_but_die_once, (str(tmp_path), 100))
  assert [(tmp_path / f"death_{i}").exists() for i in range(5)] == [True] * 4 + [False]


def test_an_error_of_the_code_is_told_with_its_exit_code(tmp_path):
  with pytest.raises(RuntimeError, match=r"^worker 0 ended with exit code 1: KeyError: 'broken', for the 4th time$"):
    run(EngineConfig("processes"), engine_workers.fail, (str(tmp_path),))
  assert len(list(tmp_path.iterdir())) == 4


def test_an_error_of_the_user_ends_all_at_once(tmp_path):
  with pytest.raises(DataError, match=r"^clip 7 is unreadable\.$"):
    run(EngineConfig("processes", workers=2), engine_workers.refuse_or_hang, (str(tmp_path),))
  (hanging,) = tmp_path.glob("pid *")
  assert not leases.alive(int(hanging.name.split()[1]), None)


@pytest.mark.parametrize(
  ("visible", "expected"), [("4,5,6,7", ["4,5", "6,7"]), ("", ["0,1", "2,3"])], ids=["named", "numbered"]
)
def test_each_process_sees_its_own_gpus(tmp_path, monkeypatch, visible, expected):
  monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
  run(EngineConfig("processes", workers=2, gpus=2), engine_workers.say_what_is_visible, (str(tmp_path),))
  assert sorted(path.name for path in tmp_path.iterdir()) == expected


def test_more_gpus_than_are_visible_are_refused(tmp_path, monkeypatch):
  monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4")
  with pytest.raises(ConfigError, match=r"^The workers need 2 GPUs or more, CUDA_VISIBLE_DEVICES shows 1; use fewer "):
    run(EngineConfig("processes", workers=1, gpus=2), engine_workers.say_what_is_visible, (str(tmp_path),))


def test_processes_end_with_the_one_that_started_them(tmp_path):
  code = (
    "import sys\nfrom gasmcast.jobs.engines import EngineConfig, run\nfrom tests.jobs import engine_workers\n"
    "if __name__ == '__main__':\n"
    "  run(EngineConfig('processes', workers=2), engine_workers.refuse_or_hang, (sys.argv[1],))\n"
  )
  script = tmp_path / "script.py"
  script.write_text(code)
  folder = tmp_path / "folder"
  folder.mkdir()
  (folder / "first").touch()  # nobody refuses: both hang
  parent = subprocess.Popen([sys.executable, str(script), str(folder)], env=os.environ | {"PYTHONPATH": str(ROOT)})
  until = time.monotonic() + 60
  while len(list(folder.glob("pid *"))) < 2 and time.monotonic() < until:
    time.sleep(0.05)
  parent.kill()
  parent.wait()
  pids = [int(path.name.split()[1]) for path in folder.glob("pid *")]
  while any(leases.alive(pid, None) and leases.start_time(pid) != -1 for pid in pids) and time.monotonic() < until:
    time.sleep(0.05)
  assert len(pids) == 2 and time.monotonic() < until


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"engine": "slurm"}, r"engine = 'slurm' is not one of 'local', 'processes', 'ray'\."),
    ({"workers": 0}, r"workers = 0: it must be at least 1\."),
    ({"cpus": -1}, r"cpus = -1\.0: it must be at least 0\."),
    ({"gpus": -1}, r"gpus = -1\.0: it must be at least 0\."),
    ({"workers": 2}, r"workers = 2 with engine = 'local', which is this process; use engine = 'processes'\."),
    ({"engine": "processes", "gpus": 0.5}, r"gpus = 0\.5 with engine = 'processes', which gives whole ones;"),
    ({"address": "auto"}, r"address = 'auto' with engine = 'local': it is a Ray cluster's; use engine = 'ray'"),
  ],
)
def test_impossible_fields_are_refused(fields, message):
  with pytest.raises(ConfigError, match=message):
    parse(EngineConfig, fields, "config.extract.engine")


def test_without_ray_the_extra_is_named(monkeypatch):
  monkeypatch.setitem(sys.modules, "ray", None)
  with pytest.raises(ConfigError, match=r"^engine = 'ray' needs Ray, which is not installed: pip install -e \"\.\[ray"):
    run(EngineConfig("ray"), engine_workers.finish)


def run_script(body, *arguments):
  """In an interpreter of its own: Ray leaves threads behind, and warnings that are errors here."""
  code = (
    "import sys\nfrom gasmcast.jobs.engines import EngineConfig, run\nfrom tests.jobs import engine_workers\n"
    f"from gasmcast.core.errors import UserError\ntry:\n  {body}\nexcept UserError as error:\n"
    "  print(type(error).__name__, error)\n"
  )
  environment = os.environ | {"PYTHONPATH": str(ROOT)}
  done = subprocess.run(
    [sys.executable, "-c", code, *map(str, arguments)], env=environment, capture_output=True, text=True, timeout=300
  )
  assert done.returncode == 0, done.stderr
  return done.stdout


needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed (extra [ray])")


@needs_ray
@pytest.mark.long
@pytest.mark.reliability
def test_a_killed_worker_of_a_ray_cluster_is_replaced_and_the_result_is_the_same(tmp_path, clean):
  folder = tmp_path / "ray"
  run_script(
    "run(EngineConfig('ray', workers=2, cpus=0.5), engine_workers.finish_but_die_once, (sys.argv[1],))", folder
  )
  assert made(folder) == clean and (folder / "death_0").exists()


@needs_ray
@pytest.mark.long
def test_errors_of_ray_workers_are_told_in_one_line(tmp_path):
  said = run_script("run(EngineConfig('ray', workers=2), engine_workers.refuse)")
  assert said.endswith("DataError clip 7 is unreadable.\n")
  said = run_script("run(EngineConfig('ray'), engine_workers.finish_but_die_once, (sys.argv[1], 100))", tmp_path)
  assert "UserError A Ray worker died for the 4th time: " in said
  assert [(tmp_path / f"death_{i}").exists() for i in range(5)] == [True] * 4 + [False]


class FakeRay:
  """As much of Ray as is needed until it fails."""

  def __init__(self, init_error=None, resources=None):
    self._error, self._resources, self.given, self.ended = init_error, resources, {}, False
    crashed = type("WorkerCrashedError", (Exception,), {})
    self.exceptions = types.SimpleNamespace(WorkerCrashedError=crashed, NodeDiedError=crashed, OutOfMemoryError=crashed)

  def is_initialized(self):
    return False

  def init(self, **options):
    self.given = options
    if self._error is not None:
      raise self._error

  def cluster_resources(self):
    return self._resources

  def shutdown(self):
    self.ended = True

  def get(self, task):
    raise self.exceptions.WorkerCrashedError("The worker died\n  unexpectedly.")


def test_a_ray_cluster_that_does_not_start_is_refused(monkeypatch):
  ray = FakeRay(Exception("The current node timed out\nduring startup."))
  monkeypatch.setattr(ray_engine, "_import_ray", lambda: ray)
  monkeypatch.delenv("RAY_ADDRESS", raising=False)
  monkeypatch.setenv("JAX_PLATFORMS", "cpu")
  with pytest.raises(
    ConfigError, match=r"^address = None: the Ray cluster can't be used or started: The current node ti"
  ):
    run(EngineConfig("ray"), engine_workers.finish)
  assert ray.given["runtime_env"]["env_vars"]["JAX_PLATFORMS"] == "cpu" and "address" not in ray.given
  with pytest.raises(ConfigError, match=r"^address = 'auto': the Ray cluster can't be used or started: "):
    run(EngineConfig("ray", address="auto"), engine_workers.finish)
  assert ray.given["address"] == "auto"


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    (
      {"gpus": 1.0},
      r"^gpus = 1\.0: this machine has 0, so no worker would ever start; use fewer, or the address of a ",
    ),
    ({"cpus": 64.0}, r"^cpus = 64\.0: this machine has 2, so no worker would ever start;"),
  ],
)
def test_a_machine_without_the_resources_is_refused(monkeypatch, fields, message):
  ray = FakeRay(resources={"CPU": 2.0})
  monkeypatch.setattr(ray_engine, "_import_ray", lambda: ray)
  monkeypatch.delenv("RAY_ADDRESS", raising=False)
  with pytest.raises(ConfigError, match=message):
    run(EngineConfig("ray", **fields), engine_workers.finish)
  assert ray.ended


def test_a_ray_worker_that_always_dies_is_told_in_one_line():
  error = ray_engine._outcome(FakeRay(), None)
  assert str(error) == (
    "A Ray worker died for the 4th time: The worker died unexpectedly. Run the same command again; "
    "finished shards stay."
  )


def test_a_node_that_does_not_see_the_folder_is_named():
  error = ray_engine._work(engine_workers.finish, (), "/absent/checkout")
  assert str(error).startswith("/absent/checkout, where the job was started, can't be entered on ")
  assert str(error).endswith("Start it on a disk that all nodes of the cluster see under the same path.")


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "[::1]:1", "127.0.0.1:70000"])
def test_an_address_where_nothing_answers_is_refused_at_once(address, monkeypatch):
  monkeypatch.setattr(ray_engine, "_import_ray", lambda: types.SimpleNamespace(is_initialized=lambda: False))
  with pytest.raises(ConfigError, match=r"^address = '.*': nothing answers there \(.*\); is the cluster up\?$"):
    run(EngineConfig("ray", address=address), engine_workers.finish)
