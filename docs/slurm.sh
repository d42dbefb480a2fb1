#!/bin/bash
# Several hosts under Slurm; what stands behind the script goes to launch.py:
#
#     sbatch --nodes=32 docs/slurm.sh --config=configs/qwen32b_mucpt.py --config.init_from=... --config.data.domain=...
#
# PYTHON and SRUN_ARGS fit it to a container:
#     PYTHON="apptainer exec --nv image.sif python" sbatch ...
#     SRUN_ARGS="--container-image=IMAGE --container-mounts=..." sbatch ...
#SBATCH --job-name=mucpt
#SBATCH --nodes=32
# A process per GPU: under Slurm jax gives process i of a node GPU i.  All of them must see all GPUs of the node, so
# --gpus-per-node and not --gpus-per-task.  (--ntasks-per-node=1, a process per node with all its GPUs, works too.)
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --exclusive
#SBATCH --mem=0
#SBATCH --time=24:00:00
# SIGTERM 600 s before the time limit: the run saves and ends with 143.  The 600 s must hold up to three steps (two are
# on their way, and all hosts agree on a later one) and a save.  Preemption sends SIGTERM too; how long before the end
# is the partition's GraceTime.
#SBATCH --signal=SIGTERM@600
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log

export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK" # srun does not take --cpus-per-task over by itself
trap : TERM # this shell outlives the signal and waits for srun; srun's processes have their own handler

# shellcheck disable=SC2086  # both variables may hold several words
srun --kill-on-bad-exit=1 ${SRUN_ARGS:-} ${PYTHON:-python} launch.py --config.mesh.distributed=True "$@"
code=$?

# 143: saved, go on from there.  75: the watchdog, or a dead process.  74: the disk is full, make room first.  Others above 128: a process was killed or aborted (a lost GPU).
# 1 is a sentence for you to read; where it kills the other processes srun may show their code instead, so a start that
# ended within ten minutes is not tried again, and there are MAX_STARTS.  A job that scancel ended is not RUNNING any more and stays ended; one that Slurm
# preempted Slurm requeues itself.
again=no
if [ "$code" -eq 75 ] || [ "$code" -gt 128 ]; then again=yes; fi
state=$(scontrol show job --oneliner "$SLURM_JOB_ID" | grep -o 'JobState=[A-Z]*')
starts=$((${SLURM_RESTART_COUNT:-0} + 1))
echo "start $starts of job $SLURM_JOB_ID ended with $code ($state)"
if [ $again = yes ] && [ "$state" = JobState=RUNNING ] && [ "$starts" -lt "${MAX_STARTS:-20}" ] &&
    [ $SECONDS -ge 600 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
