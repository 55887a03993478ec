#!/usr/bin/env bash
# Benchmarks and tests that need a GPU: bench/gpu.sh PART [DIR]. Each part is meant to take less than ten minutes on an
# H100; that is an estimate from FLOPs and launches, as nobody has run them:
#   tests           the tests marked gpu
#   sparse          2:4 weights through the sparse tensor cores, beside the dense ones
#   usp DIR, sp DIR the ResNet-18 jobs of the bare command, on the image folder DIR: five of each method, one study
#   rewinding DIR   ResNet-20: fine-tune, weight and learning-rate rewinding at 2.4x, 4.8x, 9.3x (Renda et al. 2020)
#   at_init DIR     VGG-16: random, magnitude, SNIP, GraSP, SynFlow at 10x and 31.6x (Tanaka et al. 2020)
#   channels DIR    filters of VGG-16 and ResNet-56 (Li et al. 2017), slimming of VGG-19 (Liu et al. 2017), ResNet-56 at
#                   2.1x fewer MACs by group lasso
#   scan DIR        VGG-11 and DenseNet-40 trained, then 100 rates and the windows around their knees, on all test images
#   pool DIR        eight keras_cnn, one at a time on a GPU and four at a time: time, and the difference in accuracy
#   all DIR         all of them, one after the other, whether or not one fails
# PYTHON chooses the interpreter, EPOCHS and SEEDS (0,1,2) shorten the studies.
set -euo pipefail
dir=${2:+$(cd "$2" && pwd)}
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-.venv/bin/python}

train() {  # NAME OVERRIDES...
  time "$python" -m train -m trainer=gpu name="gpu-$1" data=image_folder data.root="$dir" "${@:2}"
}

tests() { "$python" -m pytest -m gpu -rs; }

sparse() { "$python" bench/sparse_kernels.py; }

usp() { train study prune=usp rate=0,0.2,0.4,0.6,0.8 epochs="${EPOCHS:-50}"; }

sp() { train study prune=sp rate=0,0.2,0.4,0.6,0.8 epochs="${EPOCHS:-50}"; }

# 2.4x, 4.8x and 9.3x are what 4, 7 and 10 rounds of 20 % leave. Their schedule: /10 at 91 and 136 of 182 epochs.
rewinding() {
  train rewinding model=resnet20 optim/schedule=multi_step optim.optimizer.weight_decay=2e-4 augment.pad=4 \
    prune=none epochs="${EPOCHS:-40}" seed="${SEEDS:-0}"
  train rewinding model=resnet20 optim/schedule=multi_step optim.optimizer.weight_decay=2e-4 augment.pad=4 \
    prune=finetune,weight_rewind,lr_rewind rate=0.5904,0.790285,0.892626 rewind=2ep pretrained=auto \
    epochs="${EPOCHS:-40}" seed="${SEEDS:-0}"
}

at_init() {
  local vgg="model=vgg16 epochs=${EPOCHS:-30} seed=${SEEDS:-0}"
  # shellcheck disable=SC2086
  train at_init $vgg prune=none
  # shellcheck disable=SC2086
  train at_init $vgg prune=random,snip,grasp,synflow rate=0.9,0.968377
  # shellcheck disable=SC2086
  train at_init $vgg prune=random prune/criterion=magnitude prune/allocation=global rate=0.9,0.968377
}

channels() {
  local common="epochs=${EPOCHS:-40} seed=${SEEDS:-0} augment.pad=4"
  # shellcheck disable=SC2086
  train channels $common prune=none model=vgg16,vgg19,resnet56
  # shellcheck disable=SC2086
  train channels $common experiment=li_vgg16,li_resnet56 pretrained=auto
  # shellcheck disable=SC2086
  train channels $common model=vgg19 prune=slimming rate=0.7
  # shellcheck disable=SC2086
  train channels $common model=resnet56 prune=group_lasso budget=macs rate=0.524
}

scan() {
  for net in vgg11 densenet40; do
    train "dense-$net" model=$net prune=none epochs="${EPOCHS:-30}" hydra.sweep.subdir="${EPOCHS:-30}-epochs"
    train "scan-$net" experiment=scan model=$net pretrained="outputs/gpu-dense-$net/${EPOCHS:-30}-epochs"
  done
}

pool() {
  for jobs in 1 4; do
    train "pool-$jobs" model=keras_cnn prune=usp rate=0.8 seed='range(8)' epochs="${EPOCHS:-10}" \
      hydra.launcher.jobs=$jobs parents="outputs/gpu-pool-$jobs/parents"  # else four would begin with the epochs of one
  done
  "$python" -m prunelab compare outputs/gpu-pool-1 outputs/gpu-pool-4
}

all() {
  local failed=()
  for part in tests sparse usp sp rewinding at_init channels scan pool; do
    bash bench/gpu.sh "$part" "$dir" || failed+=("$part")  # a process of its own: "||" would switch set -e off
  done
  [[ -z ${failed[*]} ]] || { echo "bench/gpu.sh: failed: ${failed[*]}" >&2; exit 1; }
}

case ${1-} in
  tests | sparse) "$1" ;;
  usp | sp | rewinding | at_init | channels | scan | pool | all)
    [[ -n $dir ]] || { echo "bench/gpu.sh: $1 needs an image folder: bench/gpu.sh $1 DIR" >&2; exit 2; }
    "$1" ;;
  *)
    echo "bench/gpu.sh: no part called ${1:-''}; expected tests, sparse, usp, sp, rewinding, at_init, channels, scan, pool or all" >&2
    exit 2 ;;
esac
