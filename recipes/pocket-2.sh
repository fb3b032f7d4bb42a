#!/usr/bin/env bash
# From nothing to a model of the wide world: codec, teacher, causal student, few steps, export.
#
#     bash recipes/pocket-2.sh              # into runs/pocket-2
#     SCALE=1 bash recipes/pocket-2.sh      # one percent of steps and clips: does it run at all?
#     TRAIN="accelerate launch --multi_gpu --num_processes 2 -m causvid" bash recipes/pocket-2.sh
#
# This is the sequence of the recipe `pocket-2` (causvid/training/recipes.py), with its seeds; the
# last form uses two cores and twice the batches. A stage that was stopped goes on from its last
# checkpoint when the script is run again. It has not been run to its end yet.
set -euo pipefail
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
run="${RUN:-runs/pocket-2}"
scale="${SCALE:-100}" # percent
seed="${SEED:-0}"
causvid="${CAUSVID:-python -m causvid}"

scaled() { echo $((($1 * scale + 99) / 100)); } # rounded up
make() { $causvid train "$1" --recipe pocket-2 --run "$run" "${@:2}"; }
train() { ${TRAIN:-$causvid} train "$1" --recipe pocket-2 --run "$run" --seed "$seed" "${@:2}"; }

# 1. The autoencoder: aligned frames and their motion, linear in closed form, then convolutions
#    beside it. The latents are fixed from here on.
[ -d "$run/vae" ] || make codec --seed "$seed" --clips "$(scaled 300)"
train decoder --steps "$(scaled 4000)"

# 2. Captioned clips in three formats: 30 shards of 200.
make data --shards 30 --clips "$(scaled 200)"

# 3. The bidirectional teacher and its text encoder: images first, then windows.
train teacher --phases "1x16x$(scaled 2500),7x4x$(scaled 3000)"

# 4. A causal student: from the clean past, then consistent with itself in a few steps.
train causal --phases "7x4x$(scaled 3000)"
train consistency --steps "$(scaled 1000)"

# 5. Distribution matching on its own past.
train dmd --student consistency --steps "$(scaled 300)"
make export --student dmd --out "$run/model"
