"""The recipes of docs/how-to/clusters.md: files of examples/clusters, run on this machine as far as that goes."""

from __future__ import annotations

import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch.distributed import run as torchrun

from tests import slurm_stand_in
from tests.strategies import launched_fit

ROOT = Path(__file__).parents[1]
CLUSTERS = ROOT / "examples" / "clusters"
SCRIPT = launched_fit.__file__
LIMIT_S = 150


def environment(**more: str) -> dict[str, str]:
    outside = ("RANK", "WORLD_SIZE", "LOCAL_", "MASTER_", "SLURM_", "KUBERNETES_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(outside)}
    return {**kept, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **more}


def wait_for_a_checkpoint(folder: Path, *processes: subprocess.Popen[bytes]) -> None:
    while not list(folder.rglob("*.ckpt")):
        assert all(each.poll() is None for each in processes)
        time.sleep(0.05)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What an undisturbed run on two ranks comes to."""
    folder = tmp_path_factory.mktemp("whole")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", SCRIPT, folder]
    subprocess.run(command, env=environment(), check=True, timeout=LIMIT_S)
    return torch.load(folder / "weights.pt")


# SLURM


def options_of(script: Path) -> dict[str, str]:
    """Return the options that sbatch finds in a script."""
    return dict(re.findall(r"^#SBATCH --([\w-]+)(?:=(\S+))?$", script.read_text(), re.MULTILINE))


def sbatch(folder: Path, job: int, *arguments: object) -> subprocess.Popen[bytes]:
    """Start the batch script as SLURM does, with one task for each node, in place of four."""
    nodes = options_of(CLUSTERS / "train.sbatch")["nodes"]
    job_variables = {"SLURM_JOB_ID": str(job), "SLURM_NNODES": nodes, "SLURM_NTASKS": nodes}
    batch_step = {"SLURM_NTASKS_PER_NODE": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0"}
    variables = environment(**job_variables, **batch_step, **slurm_stand_in.install(folder))
    return subprocess.Popen(["bash", CLUSTERS / "train.sbatch", SCRIPT, *map(str, arguments)], cwd=ROOT, env=variables)


def test_the_batch_script_is_one_of_bash_and_its_options_are_sbatchs():
    subprocess.run(["bash", "-n", CLUSTERS / "train.sbatch"], check=True)
    options = options_of(CLUSTERS / "train.sbatch")
    assert set(options) == {
        *("nodes", "ntasks-per-node", "gpus-per-node", "cpus-per-task", "time", "signal", "requeue", "open-mode")
    }
    assert options["ntasks-per-node"] == options["gpus-per-node"]  # a GPU for each rank
    assert options["signal"].startswith("USR1@")  # and not B:, which tells the script alone


@pytest.mark.distributed
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_job_that_meets_its_time_limit_is_queued_again_and_ends_as_one_that_does_not(
    tmp_path: Path, whole: dict[str, Any]
):
    job, commands, stopped = random.randrange(10**6), tmp_path / "commands", tmp_path / "stopped"
    commands.mkdir()

    first = sbatch(commands, job, stopped, "step_s=0.3")
    wait_for_a_checkpoint(stopped, first)
    os.kill(int((commands / "srun.pid").read_text()), signal.SIGUSR1)
    assert first.wait(LIMIT_S) == 138
    assert (commands / "scontrol.txt").read_text() == f"requeue {job}\n"
    assert not (stopped / "weights.pt").exists()

    assert sbatch(commands, job, stopped).wait(LIMIT_S) == 0
    assert (commands / "scontrol.txt").read_text() == f"requeue {job}\n"
    torch.testing.assert_close(torch.load(stopped / "weights.pt"), whole, rtol=0, atol=0)


# Kubernetes


def manifest() -> dict[str, dict[str, Any]]:
    """Return the objects of the manifest by their kinds."""
    return {each["kind"]: each for each in yaml.safe_load_all((CLUSTERS / "indexed-job.yaml").read_text())}


def container() -> dict[str, Any]:
    (only,) = manifest()["Job"]["spec"]["template"]["spec"]["containers"]
    return only


def test_the_manifest_is_valid_for_kubernetes():
    validate = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate")
    for each in manifest().values():
        validate.validate(each, validate.latest_version(), strict=True)


def test_the_pods_find_each_other_and_torchrun_knows_its_options():
    job, service = manifest()["Job"], manifest()["Service"]
    name, pods = job["metadata"]["name"], job["spec"]["completions"]
    command = [each.replace("$(JOB_COMPLETION_INDEX)", "1") for each in container()["command"]]
    assert command[0] == "torchrun"
    options = torchrun.parse_args(command[1:])

    assert (options.nnodes, options.node_rank, job["spec"]["parallelism"]) == (str(pods), 1, pods)
    assert options.nproc_per_node == str(container()["resources"]["limits"]["nvidia.com/gpu"])
    # What the Job controller calls pod 0, in the domain of a service that selects the pods of the Job.
    assert options.rdzv_endpoint == f"{name}-0.{service['metadata']['name']}:{container()['ports'][0]['containerPort']}"
    assert job["spec"]["template"]["spec"]["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["selector"] == {"job-name": name}
    assert service["spec"]["clusterIP"] == "None" and service["spec"]["publishNotReadyAddresses"]
    waits_s = next(each["value"] for each in container()["env"] if each["name"] == "TORCH_ELASTIC_SHUTDOWN_TIMEOUT")
    assert int(waits_s) < job["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]


def start_pod(index: int, port: int, backend: str, *arguments: object) -> subprocess.Popen[bytes]:
    """Start the command of the manifest's container, with one rank in place of four, in a process group of its own.

    Args:
        index: The number of the pod.
        port: Where the pods meet.
        backend: How they meet: as in the manifest, or ``"static"``, as with ``--master-addr``.
        arguments: What the program is given.
    """
    here = {
        "$(JOB_COMPLETION_INDEX)": str(index),
        "train-0.train:29500": f"localhost:{port}",
        "--nproc-per-node=4": "--nproc-per-node=1",
        "--rdzv-backend=c10d": f"--rdzv-backend={backend}",
    }
    words = []
    for word in container()["command"]:
        for name, value in here.items():
            word = word.replace(name, value)
        words.append(word)
    assert words[-1] == "script.py"
    # On one machine both agents would take themselves for the host of the meeting point.
    hosts = [f"--rdzv-conf=is_host={int(index == 0)}"] if backend == "c10d" else []
    options = ["--local-addr=localhost", "--monitor-interval=0.5", *hosts]
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", *words[1:-1], *options, SCRIPT, *map(str, arguments)],
        env=environment(**{each["name"]: each["value"] for each in container()["env"]}),
        start_new_session=True,
    )


def processes_of(session: int) -> list[int]:
    """Return the process of a session and those that it has started."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    pairs = [tuple(map(int, line.split())) for line in listed.splitlines()]
    return [session, *(pid for pid, parent in pairs if parent == session)]


@pytest.mark.distributed
@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("backend", ["c10d", "static"])
def test_a_machine_that_is_lost_and_comes_back_changes_nothing(tmp_path: Path, whole: dict[str, Any], backend: str):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pods = [start_pod(index, port, backend, tmp_path, "step_s=0.3") for index in (0, 1)]
    try:
        wait_for_a_checkpoint(tmp_path, *pods)
        for process in processes_of(pods[1].pid):  # its agent and its rank, at once
            os.kill(process, signal.SIGKILL)
        pods[1].wait()
        assert not (tmp_path / "weights.pt").exists()
        pods[1] = start_pod(1, port, backend, tmp_path)
        assert [each.wait(LIMIT_S) for each in pods] == [0, 0]
    finally:
        for each in pods:
            each.terminate()  # which ends its rank too
            each.wait()
    torch.testing.assert_close(torch.load(tmp_path / "weights.pt"), whole, rtol=0, atol=0)
