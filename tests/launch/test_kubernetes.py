"""launch/kubernetes.yaml: what has to agree in it so that the pods find each other."""

import pathlib
import re

import pytest
import yaml  # of ml_collections

ROOT = pathlib.Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def documents():
  text = (ROOT / "launch" / "kubernetes.yaml").read_text()
  return {document["kind"]: document for document in yaml.safe_load_all(text)}


@pytest.fixture(scope="module")
def flags(documents):
  (container,) = documents["Job"]["spec"]["template"]["spec"]["containers"]
  python, script, *words = container["command"]
  assert (python, script) == ("python", "launch/main.py") and (ROOT / script).is_file()
  return dict(word.removeprefix("--").split("=", 1) for word in words)


def test_the_service_is_headless_and_selects_the_pods_of_the_job(documents):
  service, job = documents["Service"], documents["Job"]
  assert service["spec"]["clusterIP"] == "None" and service["spec"]["publishNotReadyAddresses"] is True
  assert service["spec"]["selector"] == {"job-name": job["metadata"]["name"]}
  assert job["spec"]["template"]["spec"]["subdomain"] == service["metadata"]["name"]


def test_as_many_processes_as_pods_each_with_its_index(documents, flags):
  job = documents["Job"]["spec"]
  assert job["completionMode"] == "Indexed"
  assert job["completions"] == job["parallelism"] == int(flags["processes"]) == 2
  assert flags["process"] == "$(JOB_COMPLETION_INDEX)"


def test_the_coordinator_is_the_first_pod_at_the_open_port(documents, flags):
  job = documents["Job"]
  host, port = flags["coordinator"].split(":")
  assert host == f"{job['metadata']['name']}-0.{documents['Service']['metadata']['name']}"
  (container,) = job["spec"]["template"]["spec"]["containers"]
  assert container["ports"] == [{"containerPort": int(port)}]


def test_the_flags_are_those_of_the_command_line(flags):
  known = set(re.findall(r'DEFINE_\w+\(\s*"(\w+)"', (ROOT / "launch" / "main.py").read_text()))
  assert set(flags) <= known
  assert (ROOT / flags["config"]).is_file()


def test_the_checkout_and_the_workdir_lie_on_the_shared_volume(documents, flags):
  pod = documents["Job"]["spec"]["template"]["spec"]
  (container,) = pod["containers"]
  mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
  assert {volume["name"] for volume in pod["volumes"]} == set(mounts)
  assert flags["workdir"].startswith(mounts["shared"] + "/") and container["workingDir"].startswith(mounts["shared"])
