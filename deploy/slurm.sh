#!/usr/bin/env bash
# Runs an experiment as one Slurm job: the coordinator in the batch script, a worker in each task.
#
#   sbatch --ntasks 4 --gpus-per-task 1 --time 8:00:00 deploy/slurm.sh --data fer2013.csv --store /shared/runs
#   sbatch --ntasks 4 --cpus-per-task 8 deploy/slurm.sh --data fer2013.csv --store s3://bucket/prefix  # CPUs
#
# Arguments after the script's name go to the coordinator. A directory as `--store` must be one that every
# node reaches, because the job may start again on another node. Before the time is up, or when the job is
# preempted, the fleet commits mid-epoch checkpoints, the job goes back into the queue, and it goes on where
# it was. The script looks for built programs in QUARTET_BIN (target/release). Nodes reach each other at
# QUARTET_PORT (by default derived from the job's number), with the keys of QUARTET_TLS, by default those in
# ~/.config/quartet/keys. They are made if there are none; every node must reach them.
#SBATCH --job-name=quartet
#SBATCH --output=quartet-%j.log
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=B:TERM@120
set -euo pipefail

: "${SLURM_JOB_ID:?this is a batch script: sbatch deploy/slurm.sh}"
cd "${SLURM_SUBMIT_DIR:-.}"
bin=$(realpath "${QUARTET_BIN:-target/release}")
port=${QUARTET_PORT:-$((20000 + SLURM_JOB_ID % 10000))}
for program in coordinator worker; do
  [[ -x $bin/$program ]] || {
    echo "slurm.sh: there is no $bin/$program: build it, or set QUARTET_BIN" >&2
    exit 2
  }
done

for argument in "$@"; do
  case $argument in
    --tls* | --insecure)
      echo "slurm.sh: set QUARTET_TLS instead of $argument: all programs of the job need the same keys" >&2
      exit 2
      ;;
  esac
done
"$bin/coordinator" keys
"$bin/coordinator" --workers "${SLURM_NTASKS:-1}" --listen "0.0.0.0:$port" "$@" &
coordinator=$!
trap 'kill -TERM "$coordinator" 2>/dev/null || true' TERM INT

# A task sees only its own GPUs, and the first of them is number 0. A worker that dies is not started again:
# the others take its run.
# shellcheck disable=SC2016
srun --ntasks "${SLURM_NTASKS:-1}" ${SLURM_CPUS_PER_TASK:+--cpus-per-task "$SLURM_CPUS_PER_TASK"} \
  --no-kill --kill-on-bad-exit=0 bash -c '
  device=(${SLURM_CPUS_PER_TASK:+--threads "$SLURM_CPUS_PER_TASK"})
  [[ -z ${CUDA_VISIBLE_DEVICES:-} ]] || device=(--gpu 0)
  exec "$1/worker" --coordinator "$2" --name "$(hostname)-$SLURM_PROCID" --give-up-after 2m "${device[@]}"
' worker "$bin" "$(hostname):$port" &
workers=$!

# A signal ends `wait` before the coordinator has ended.
status=0
while kill -0 "$coordinator" 2>/dev/null; do
  wait "$coordinator" && status=0 || status=$?
done
wait "$workers" || true
if ((status == 130)); then
  echo "slurm.sh: stopped before its end, back into the queue"
  exec scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
