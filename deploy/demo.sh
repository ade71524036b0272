#!/usr/bin/env bash
# Builds Quartet and runs the main job on this machine: a coordinator with four local workers, the four
# backbones at a reduced width, synthetic faces, and the ensemble's evaluation. Arguments go to the
# coordinator.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

command -v cargo >/dev/null || {
  echo "demo.sh: cargo is not installed; see https://rustup.rs" >&2
  exit 2
}
echo "demo.sh: building; the first time this takes 7 to 10 minutes on two idle cores"
cargo build --release --locked
# Each of these may be among the arguments.
defaults=(--local)
for default in "--workers 4" "--store runs" "--name demo-$(date +%Y%m%d-%H%M%S)"; do
  option=${default%% *}
  case " $* " in
    *" $option "* | *" $option="*) ;;
    *) defaults+=("$option" "${default#* }") ;;
  esac
done
exec "${CARGO_TARGET_DIR:-target}/release/coordinator" "${defaults[@]}" "$@"
