#!/usr/bin/env bash
# From nothing to a model of Pocket's kind: codec, teacher, causal student, export.
#
#     bash recipes/pocket.sh              # some days of one CPU core, into runs/pocket
#     SCALE=1 bash recipes/pocket.sh      # one percent of steps and clips: does it run at all?
#
# This is the sequence of the recipe `pocket` (causvid/training/recipes.py), with its seeds. The
# weights in assets/pocket were not made by it, but by a longer series of runs that docs/pocket.md
# lists. A stage that was stopped goes on from its last checkpoint when the script is run again.
set -euo pipefail
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
run="${RUN:-runs/pocket}"
scale="${SCALE:-100}" # percent
seed="${SEED:-0}"
python="${PYTHON:-python}"

scaled() { echo $((($1 * scale + 99) / 100)); } # rounded up
train() { $python -m causvid train "$1" --run "$run" "${@:2}"; }

# 1. The autoencoder: linear in closed form, then a convolutional decoder beside it. The latents
#    are fixed from here on.
[ -d "$run/vae" ] || train codec --seed "$seed" --clips "$(scaled 300)"
train decoder --seed "$seed" --steps "$(scaled 16000)" --pool "$(scaled 400)"

# 2. Captioned clips of the world: 24 shards of 250.
train data --shards 24 --clips "$(scaled 250)"

# 3. The bidirectional teacher and its text encoder: images first, then longer windows.
train teacher --seed "$seed" \
    --phases "1x24x$(scaled 2400),4x8x$(scaled 900),7x6x$(scaled 9000)"

# 4. A causal few-step student: under the causal mask, then on the teacher's trajectories.
train causal --seed "$seed" --phases "7x6x$(scaled 200)"
train trajectories --seed "$seed" --shards 4 --count "$(scaled 64)" --batch "$(scaled 8)"
train ode --seed "$seed" --student causal --steps "$(scaled 200)"

# 5. How motions go on, from the true past; then distribution matching on the student's own past.
train forcing --seed "$seed" --student ode --steps "$(scaled 1500)"
train dmd --seed "$seed" --student forcing --steps "$(scaled 300)"

# 6. The decoder learns to see past the student's errors; everything goes into one folder.
train decoder --seed "$seed" --name decoder-of-student --student dmd \
    --steps "$(scaled 4000)" --pool "$(scaled 400)"
train export --student dmd --out "$run/model"
