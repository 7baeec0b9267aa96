#!/usr/bin/env bash
# What only a machine with an NVIDIA GPU can show, in at most 10 minutes and without a network:
#
#     bash benchmarks/gpu.sh [DATA [FOLDER]]
#
# DATA is what edgeclf trains on (default: elpv, the solar cells of the demo), FOLDER is new (default: gpu-figures).
# In turn: fine-tuning in mixed precision and in float32, whether their accuracies differ on the test images, the files for
# the GPU, TensorRT's engines, and the report of `python3 NAME.edge report`: what the doctor finds, self-test and latency on
# each backend, the engines' layers, memory copied both ways, power, temperature, throttling.
# A step that fails or takes too long is listed, and the others go on.  Exit codes: 0 all done, 1 a step failed, 2 there is no
# GPU or no edgeclf here, or FOLDER exists.
set -euo pipefail

readonly MINUTES=10
data=${1:-elpv}
folder=${2:-gpu-figures}
python=${PYTHON:-python3}

refuse() {
  echo "error: $1" >&2
  exit 2
}

command -v nvidia-smi >/dev/null || refuse "an NVIDIA GPU with its driver is needed: nvidia-smi was not found"
nvidia-smi -L >/dev/null 2>&1 || refuse "an NVIDIA GPU with its driver is needed: nvidia-smi finds none"
"$python" -m edgeclf --version >/dev/null 2>&1 ||
  refuse "edgeclf is needed: $python -m pip install -e '.[demo,tensorrt]'; PYTHON names another interpreter"
[ ! -e "$folder" ] || refuse "$folder exists: name another folder"
mkdir -p "$folder"
trap 'rm -rf -- "$folder"; exit 130' INT TERM

results=()
failed=0

# step LIMIT_S NAME COMMAND...: runs a command within its limit and what is left of the ten minutes.
step() {
  local limit=$1 name=$2 status=0 left=$((MINUTES * 60 - SECONDS)) start=$SECONDS
  shift 2
  if [ "$left" -lt "$limit" ]; then limit=$left; fi
  if [ "$limit" -lt 1 ]; then
    results+=("left out   $name: the $MINUTES minutes were over")
    failed=1
    return
  fi
  echo "== $name (at most $limit s)" >&2
  # Progress goes to the terminal; what a command prints goes to a file.
  timeout --foreground --signal=INT --kill-after=10 "$limit" "$@" >"$folder/$name.json" || status=$?
  if [ "$status" -ne 0 ]; then failed=1; fi
  results+=("exit $status     $name, $((SECONDS - start)) s")
}

# As many of the four epochs as fit; the JSON says how many that were.
train=("$python" -m edgeclf train "$data" --finetune full --epochs 4 --minutes 1.5 --seed 0 --device cuda --json)
step 140 train-mixed "${train[@]}" --output "$folder/mixed" --compute mixed
step 140 train-float32 "${train[@]}" --output "$folder/float32" --compute float32
step 60 compare "$python" -m edgeclf compare "$folder/float32" "$folder/mixed" "$data" --skip-timing --json
step 120 quantize "$python" -m edgeclf quantize "$folder/mixed" --target x86-gpu --json
step 60 bundle "$python" -m edgeclf bundle "$folder/mixed" --output "$folder/gpu.edge" --json
step 180 build "$python" "$folder/gpu.edge" build --json
left=$((MINUTES * 60 - SECONDS))
step "$left" report "$python" "$folder/gpu.edge" report --output "$folder/board.json" --json \
  --minutes $((left > 119 ? left / 60 - 1 : 1))

printf '%s\n' "${results[@]}"
if [ -e "$folder/board.json" ]; then
  echo "next: send $folder/board.json, and what $folder/compare.json has as \"verdict\""
else
  echo "no report was made: the first step above whose exit code is not 0 says why"
fi
exit "$failed"
