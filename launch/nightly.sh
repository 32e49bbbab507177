#!/usr/bin/env bash
# One night: train on votes/NIGHT.jsonl from the current policy, and replace it unless it got worse.
# bash launch/nightly.sh monday
set -e
night=$1 run=runs/$1 settings=()
if [ -d current ]; then
    settings=(lora.start_from=current "replay.memory=[memories]" replay.share=0.25)
fi
fastslow train nightly.yaml output_dir=$run data.train=votes/$night.jsonl "${settings[@]}"
python - $run/summary.json <<'GATE'
import json, sys
measured = json.load(open(sys.argv[1]))["eval"]
before, now = measured["start"], measured["final"]
print(f"held-out accuracy {before['accuracy']:.3f} -> {now['accuracy']:.3f}")
sys.exit(now["accuracy_high"] < before["accuracy"])
GATE
rm -rf next && fastslow export $run --to next
mkdir -p memories && cp $run/memory.jsonl memories/$night.jsonl
rm -rf previous && { [ ! -d current ] || mv current previous; } && mv next current
