"""Which of several processes this one is: by hand, in Slurm; and what is said when they do not come together."""

import os
import pathlib
import socket
import subprocess
import sys
import time

import portpicker
import pytest

from gasmcast.core.errors import ConfigError
from gasmcast.jobs import table
from gasmcast.training import distributed
from gasmcast.training.distributed import NotJoinedError, Place, find_place, join

ROOT = pathlib.Path(__file__).parents[2]

# Two nodes, four tasks: what srun sets for the third one.
SLURM = {
  "SLURM_JOB_ID": "4097",
  "SLURM_STEP_NODELIST": "gpu[07-08]",
  "SLURM_STEP_NUM_TASKS": "4",
  "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
  "SLURM_PROCID": "2",
  "SLURM_LOCALID": "0",
  "SLURM_NODEID": "1",
}


def test_a_process_of_which_nothing_is_said_is_alone():
  assert find_place(False, None, None, None) is None
  assert find_place(False, None, None, None, SLURM) is None  # a worker of a Slurm job need not be one of several
  assert find_place(False, "node1:8476", 1, 0) is None


def test_a_place_by_hand():
  assert find_place(False, "node1:8476", 2, 1) == Place("node1:8476", 2, 1)
  assert find_place(False, "[fe80::1]:8476", 2, 0) == Place("[fe80::1]:8476", 2, 0)


@pytest.mark.parametrize(
  ("told", "message"),
  [
    ((None, 2, 0), r"--coordinator is missing beside --processes and --process; give all three to every process"),
    (("node1:1", None, None), r"--processes and --process is missing beside --coordinator"),
    (("node1", 2, 0), r"--coordinator=node1: use HOST:PORT of process 0, for example node1:8476"),
    ((":8476", 2, 0), r"--coordinator=:8476: use HOST:PORT"),
    (("node1:99999", 2, 0), r"--coordinator=node1:99999: use HOST:PORT"),
    (("node1:1", 2, 2), r"--process=2 of --processes=2: processes are numbered 0 to 1\."),
    (("node1:1", 2, -1), r"--process=-1 of --processes=2"),
    (("node1:1", 0, 0), r"--processes=0: use 1 or more\."),
  ],
)
def test_an_impossible_place_by_hand_is_refused(told, message):
  with pytest.raises(ConfigError, match=message) as raised:
    find_place(False, *told)
  assert "\n" not in str(raised.value)


def test_what_the_cluster_is_asked_for_is_not_told():
  with pytest.raises(ConfigError, match=r"--distributed asks the cluster for what --process says; use either\."):
    find_place(True, None, None, 0, SLURM)


def test_a_task_of_slurm_finds_its_place():
  # Port 61440 + 4097 % 4096; the first of two tasks on its node has the first of its GPUs.
  assert find_place(True, None, None, None, SLURM) == Place("gpu07:61441", 4, 2, (0,))
  assert find_place(True, None, None, None, SLURM | {"SLURM_STEP_NUM_TASKS": "1"}) is None


@pytest.mark.parametrize(
  ("nodes", "first"),
  [
    ("gpu7", "gpu7"),
    ("gpu7,gpu9", "gpu7"),
    ("gpu[007,009-12],login", "gpu007"),
    ("gpu[07-09]-ib", "gpu07-ib"),
    ("a-1,gpu[07-09]", "a-1"),
  ],
)
def test_the_coordinator_runs_on_the_first_node(nodes, first):
  assert find_place(True, None, None, None, SLURM | {"SLURM_STEP_NODELIST": nodes}).coordinator == f"{first}:61441"


def test_the_coordinator_can_be_named_as_jax_lets_it_be_named():
  changed = SLURM | {"JAX_COORDINATOR_PORT": "9000"}
  assert find_place(True, None, None, None, changed).coordinator == "gpu07:9000"
  changed = SLURM | {"JAX_COORDINATOR_ADDRESS": "10.0.0.1:9001"}
  assert find_place(True, None, None, None, changed).coordinator == "10.0.0.1:9001"


@pytest.mark.parametrize(
  ("tasks", "node", "local", "environment", "devices"),
  [
    ("1(x2)", 1, 0, {"CUDA_VISIBLE_DEVICES": "0,1,2,3,4,5,6,7"}, None),  # one task a node has all GPUs
    ("1(x2)", 1, 0, {}, None),
    ("4(x2)", 1, 3, {"CUDA_VISIBLE_DEVICES": "0,1,2,3"}, (3,)),  # a task a GPU, all seen by each
    ("4(x2)", 1, 3, {}, (3,)),
    ("4(x2)", 1, 3, {"CUDA_VISIBLE_DEVICES": "3"}, None),  # a task a GPU, bound by Slurm (--gpus-per-task)
    ("2(x2)", 1, 1, {"CUDA_VISIBLE_DEVICES": "4,5,6,7"}, (2, 3)),  # half of what is seen, counted among these
    ("4,1", 1, 0, {"CUDA_VISIBLE_DEVICES": "0,1"}, None),  # nodes may have different numbers of tasks
    ("4(x2)", 1, 3, {"CUDA_VISIBLE_DEVICES": "0,1,2,3", "JAX_LOCAL_DEVICE_IDS": "1"}, None),  # jax reads that
  ],
)
def test_the_gpus_of_a_task(tasks, node, local, environment, devices):
  changed = {"SLURM_STEP_TASKS_PER_NODE": tasks, "SLURM_NODEID": str(node), "SLURM_LOCALID": str(local)}
  assert find_place(True, None, None, None, SLURM | changed | environment).devices == devices


def test_gpus_that_tasks_cannot_share_are_refused():
  with pytest.raises(
    ConfigError, match=r"3 GPUs of a node can't be divided among its 2 tasks .*= 0,1,2.*a divisor of 3"
  ):
    find_place(True, None, None, None, SLURM | {"CUDA_VISIBLE_DEVICES": "0,1,2"})


def test_a_slurm_job_without_srun_is_refused():
  without = {name: value for name, value in SLURM.items() if name != "SLURM_STEP_NODELIST"}
  with pytest.raises(ConfigError, match=r"SLURM_STEP_NODELIST is not set.*by srun \(launch/slurm_train\.sh\)"):
    find_place(True, None, None, None, without)


def test_a_port_in_use_is_named():
  with socket.create_server(("", 0)) as taken:
    port = taken.getsockname()[1]
    with pytest.raises(NotJoinedError, match=rf"Process 0 can't listen at port {port} of .*started twice"):
      join(Place(f"127.0.0.1:{port}", 2, 0))


def test_devices_that_cannot_reach_each_other_are_told_of_when_the_processes_meet(monkeypatch):
  def unreachable(*_, **__):
    raise RuntimeError("UNKNOWN: no route\nto host")

  monkeypatch.setattr(distributed.jax.distributed, "initialize", lambda *_, **__: None)
  monkeypatch.setattr(distributed.jax, "jit", unreachable)
  message = r"their 8 devices can't exchange numbers \(UNKNOWN: no route to host\); see whether firewalls let all ports"
  with pytest.raises(NotJoinedError, match=message):
    join(Place("127.0.0.1:1", 2, 1))


def command_line(*arguments, config="configs/quickstart.py:runlocal", environment=None):
  """launch/main.py in a process of its own; with two devices, as jax would count them."""
  variables = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2"} | (environment or {})
  return subprocess.run(
    [sys.executable, "launch/main.py", "--config", config, *arguments],
    cwd=ROOT,
    env=variables,
    capture_output=True,
    text=True,
    timeout=120,
  )


@pytest.mark.parametrize(
  ("process", "host", "message"),
  [
    (0, "127.0.0.1", "error: Process 0 of 2 waited 1 s (--connect_timeout) at 127.0.0.1:{port}, and not all others"),
    (
      1,
      "127.0.0.1",
      "error: Process 1 of 2 waited 1 s (--connect_timeout) for 127.0.0.1:{port}, where nothing answers",
    ),
    (1, "nowhere.invalid", "the name 'nowhere.invalid' is not known here; use one by which all machines know it."),
  ],
)
def test_processes_that_do_not_come_are_waited_for_no_longer_than_told(tmp_path, process, host, message):
  port = portpicker.pick_unused_port()
  place = (f"--coordinator={host}:{port}", "--processes=2", f"--process={process}")
  done = command_line("--workdir", str(tmp_path / "run"), "--job=train", *place, "--connect_timeout=1")
  assert done.returncode == 2 and message.format(port=port) in done.stderr
  assert done.stderr.count("\n") == 1 and done.stderr.startswith("error: ")
  assert not (tmp_path / "run").exists()


def test_a_cluster_that_does_not_say_which_process_this_is(tmp_path):
  done = command_line("--workdir", str(tmp_path / "run"), "--job=train", "--distributed")
  assert done.returncode == 2 and done.stderr.count("\n") == 1
  assert "neither Slurm (srun), Open MPI, Cloud TPU nor Kubernetes" in done.stderr


def together(workdir, *arguments, own=((), ())):
  """Two processes of one command, `own` being what each of them gets beside it: (exit code, stdout, stderr) of each."""
  place = (f"--coordinator=127.0.0.1:{portpicker.pick_unused_port()}", "--processes=2")
  command = [sys.executable, "launch/main.py", "--config", "configs/quickstart.py:runlocal", "--workdir", str(workdir)]
  environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
  options = {"cwd": ROOT, "env": environment, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
  started = [
    subprocess.Popen([*command, *arguments, *place, f"--process={number}", *own[number]], **options)
    for number in range(2)
  ]
  said = [process.communicate(timeout=300) for process in started]
  return [(process.returncode, *texts) for process, texts in zip(started, said, strict=True)]


def test_processes_that_fail_together_say_so_in_one_line_each_and_leave_together(tmp_path):
  for code, _, said in together(tmp_path / "run", "--job=train", "--config.model.variant=none"):
    assert code == 2 and said.startswith("error: config.model.variant = 'none' is not one of"), said
    assert said.count("\n") == 1


@pytest.mark.long
def test_a_process_that_fails_alone_does_not_leave_the_other_waiting(tmp_path):
  data = tmp_path / "data"
  done = command_line("--workdir", str(tmp_path / "made"), "--job=generate", f"--config.data.root={data}")
  assert done.returncode == 0, done.stderr
  roots = ((f"--config.data.root={data}",), (f"--config.data.root={tmp_path / 'nowhere'}",))
  begin = time.monotonic()
  (waiting, _, _), (failed, _, said) = together(tmp_path / "run", "--job=train", own=roots)
  assert failed == 2 and "nowhere is not a folder" in said and said.count("\n") == 1
  assert waiting != 0 and time.monotonic() - begin < 100  # no matter that the heartbeat timeout is 100 s
  assert not list((tmp_path / "run").glob("checkpoints/*/checksums.json"))


LATE = """
import sys, time
import jax, jax.numpy as jnp, numpy as np
from gasmcast.training.distributed import join, leave, Place
from gasmcast.training.sharding import make_mesh, replicated, shard_batch
process = int(sys.argv[1])
join(Place(sys.argv[2], 2, process), 120)
mesh = make_mesh()
rows = shard_batch({"x": np.arange(2.0) + 2 * process}, mesh)["x"]
time.sleep(40 * process)
print(float(jax.jit(lambda x: jnp.sum(x * x), out_shardings=replicated(mesh))(rows)))
leave()
"""


@pytest.mark.long
def test_a_process_may_come_late_to_its_first_step():
  """Compiling takes longer on one machine than on another; Gloo alone would wait 30 s."""
  address = f"127.0.0.1:{portpicker.pick_unused_port()}"
  environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
  options = {"cwd": ROOT, "env": environment, "stdout": subprocess.PIPE, "text": True}
  started = [subprocess.Popen([sys.executable, "-c", LATE, str(number), address], **options) for number in range(2)]
  said = [process.communicate(timeout=300)[0].splitlines()[-1] for process in started]
  assert said == ["14.0", "14.0"]  # 0 + 1 + 4 + 9


def test_jobs_that_several_processes_do_as_one():
  table.require_distributed("generate,train,evaluate,predict,report")
  message = r"--job extract is not done by several processes as one \(those are generate, train.*docs/clusters\.md"
  with pytest.raises(ConfigError, match=message):
    table.require_distributed("train,extract")
