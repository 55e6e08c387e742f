#!/bin/bash
# One training on several nodes under Slurm: srun starts the processes, and --distributed lets each ask which it is.
#
#   sbatch --nodes=2 --gpus-per-node=8 launch/slurm_train.sh --config configs/ssv2_gasmcast.py --workdir /shared/runs/x
#
# Run it in the root of the checkout. The checkout, its environment, the data and the workdir have to be on a disk that
# all nodes see under the same path. What stands before the script's name is sbatch's and replaces the lines below
# (--partition, --time, --cpus-per-task ...); what stands behind it is launch/main.py's. --job train,evaluate,report and
# every field work as on one machine.
#
# One task a node drives all GPUs of its node (the lines below); --ntasks-per-node=8 gives each task one of them.
# Five minutes before its time is over, and when it is preempted, the training saves its step; a requeued job, or the
# same command, goes on there. PYTHON names another interpreter than that of .venv.
#
#SBATCH --job-name=gasmcast
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --mem=0
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=TERM@300
#SBATCH --output=slurm-%j.out
set -eu

cd "${SLURM_SUBMIT_DIR:-.}" # Slurm runs a copy of this file, which lies elsewhere
python=${PYTHON:-.venv/bin/python}

if [ ! -f launch/main.py ]; then
  echo "error: $PWD is not the root of a checkout of gasmcast; run sbatch there." >&2
  exit 2
fi
if [ "$#" -eq 0 ]; then
  echo "error: nothing to do; usage: sbatch --nodes=2 launch/slurm_train.sh --config FILE --workdir FOLDER" >&2
  exit 2
fi
if ! command -v "$python" >/dev/null; then
  echo "error: $python is not there on $(hostname); make the environment on a shared disk, or name it by PYTHON." >&2
  exit 2
fi

echo "${SLURM_NTASKS:-1} process(es) on ${SLURM_JOB_NODELIST:-$(hostname)}, job ${SLURM_JOB_ID:-none}"
# --kill-on-bad-exit: a process that fails ends the others, which would wait for it until the heartbeat timeout.
# --cpus-per-task: since Slurm 22.05 srun does not take it over from sbatch. exec: signals reach srun itself.
exec srun --kill-on-bad-exit=1 --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" \
  "$python" launch/main.py "$@" --distributed
