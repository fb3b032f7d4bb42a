#!/usr/bin/env bash
# From nothing to a model of the wide world: codec, teacher, causal student, few steps, export.
#
#     bash recipes/pocket-2.sh                # into runs/pocket-2, on two processes
#     PROCESSES=1 bash recipes/pocket-2.sh    # the same batches on one, which accumulates them
#     SCALE=25 bash recipes/pocket-2.sh       # a quarter of the steps; 1: does it run at all?
#     DEVICE=cuda VAE=assets/pocket-2/vae bash recipes/pocket-2.sh    # ten minutes of a GPU
#
# This is the sequence of the recipe `pocket-2` (causvid/training/recipes.py), with its seeds. A
# stage that was stopped goes on from its last checkpoint when the script is run again. On a GPU a
# stage has a share of MINUTES in place of steps, and processes render clips beside it: it takes 16
# cores, and a codec that is finished.
set -euo pipefail
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
run="${RUN:-runs/pocket-2}"
scale="${SCALE:-100}" # percent of steps
seed="${SEED:-0}"
python="${PYTHON:-python}"
processes="${PROCESSES:-2}" # 1 or 2: a batch is two halves
device="${DEVICE:-cpu}"
recipe=(--recipe pocket-2 --run "$run")

scaled() { echo $((($1 * scale + 99) / 100)); } # rounded up
make() { $python -m causvid train "$@" "${recipe[@]}"; }
train() {
    if [ "$processes" = 1 ]; then
        make "$@" --seed "$seed" --optimiser.accumulation 2
    else
        shared "$@" --seed "$seed" --optimiser.accumulation 1
    fi
}
shared() {
    $python -m accelerate.commands.launch --multi_gpu --num_processes "$processes" \
        --num_machines 1 --mixed_precision no --dynamo_backend no \
        -m causvid train "$@" "${recipe[@]}"
}

# 1. The autoencoder: aligned frames and their motion, linear in closed form, then convolutions
#    beside it. The latents are fixed from here on. VAE names one that is finished.
if [ -n "${VAE:-}" ]; then
    mkdir -p "$run"
    [ -d "$run/vae" ] || cp -r "$VAE" "$run/vae"
else
    [ -d "$run/vae" ] || make codec --seed "$seed" --clips 300
    [ -d "$run/latents" ] || make decoder --seed "$seed" --steps "$(scaled 4000)"
fi

if [ "$device" = cuda ]; then
    images="${IMAGES:-384}" windows="${WINDOWS:-96}" rollouts="${ROLLOUTS:-32}" # of a batch
    workers="${WORKERS:-12}"                                    # processes that render
    seconds=$((${MINUTES:-10} * 60 - 90))                       # beside starts and the first clips
    each=(--seed "$seed" --checkpoint-seconds 60)
    [ "${COMPILE:-no}" = no ] || each+=(--compile) # takes a minute, and pays in longer runs
    share() { echo $((seconds * $1 / 100)); }
    once() { train_gpu "$@" --optimiser.accumulation 1; }
    train_gpu() { make "$@" "${each[@]}"; }

    # 2. Single pictures first, as they are drawn ten times faster, then clips as long as it takes.
    set -m # the processes that render are one group
    {
        make data --latents 1 --clips 128 --shards $((3 * workers)) --workers "$workers"
        make data --clips 24 --shards 900 --workers "$workers"
    } >"$run/data.log" 2>&1 &
    trap 'kill -- -$! 2>/dev/null || true' EXIT
    enough=$(printf "%s/latents/shard-%05d.safetensors" "$run" $((3 * workers + 8)))
    until [ -f "$enough" ]; do
        kill -0 $! || { tail "$run/data.log"; exit 1; }
        sleep 1
    done

    # 3. to 5., as below; the phases of the teacher keep these shares of its steps.
    once teacher --phases "1x${images}x2,7x${windows}x3" --seconds "$(share 52)"
    once causal --phases "7x${windows}x1" --seconds "$(share 20)"
    once consistency --batch "$windows" --seconds "$(share 11)"
    train_gpu dmd --batch "$rollouts" --student consistency --seconds "$(share 17)"
    make export --student dmd --out "$run/model"
    exit
fi

# 2. Captioned clips in three formats: 18 shards of 200.
[ -f "$run/latents/shard-00017.safetensors" ] || shared data --shards 18

# 3. The bidirectional teacher and its text encoder: images first, then windows.
train teacher --phases "1x8x$(scaled 8000),7x2x$(scaled 1500)"

# 4. A causal student: from the clean past, then consistent with itself in a few steps.
train causal --phases "7x2x$(scaled 2800)"
train consistency --steps "$(scaled 600)"

# 5. Distribution matching on its own past.
if [ "$processes" = 1 ]; then dmd=(make dmd --batch 4); else dmd=(shared dmd --batch 2); fi
"${dmd[@]}" --seed "$seed" --student consistency --steps "$(scaled 300)"
make export --student dmd --out "$run/model"
