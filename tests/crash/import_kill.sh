#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# import_kill.sh LAYERFS SUPPORT-DIR: an import is killed with SIGKILL at random moments, LAYERFS_CRASH_ROUNDS
# times (20). After each kill the store must open and `store check` find no problem; a gc must leave nothing that
# no image needs; and in the end the same image is imported whole, with every content and layer verified.
set -euo pipefail
layerfs=$1 support=$2
rounds=${LAYERFS_CRASH_ROUNDS:-20}
work=$(mktemp -d "${TMPDIR:-/tmp}/layerfs-import-kill.XXXXXX")
trap 'rm -rf "$work"' EXIT
export LAYERFS_ROOT=$work/store
fail() { echo "import_kill: $*" >&2; exit 1; }

"$support/make_layered_image" "$work/layered" >/dev/null
# A second image of a few MB, so that kills hit large contents, packs and the merge too.
mkdir -p "$work/tree"
for directory in a b c d; do
  mkdir "$work/tree/$directory"
  for file in $(seq 150); do head -c $((RANDOM % 3000)) /dev/urandom >"$work/tree/$directory/$file"; done
  head -c 3000000 /dev/urandom >"$work/tree/$directory/large"
done
sources=("oci:$work/layered:latest" "dir:$work/tree")

# How long a whole import takes, in milliseconds: kills are spread over that and a little more.
start=$(date +%s%N)
for i in 0 1; do "$layerfs" import -q "${sources[$i]}" --name "whole$i" >/dev/null || fail "the first import failed"; done
span=$((($(date +%s%N) - start) / 2000000 + 20))
rm -rf "$LAYERFS_ROOT"

killed=0
for round in $(seq "$rounds"); do
  "$layerfs" import -q "${sources[$((round % 2))]}" --name "round$round" >"$work/out" 2>"$work/err" &
  pid=$!
  sleep "$(printf '0.%03d' $((RANDOM % (span < 999 ? span : 999))))"
  if kill -KILL "$pid" 2>/dev/null; then killed=$((killed + 1)); fi
  wait "$pid" 2>/dev/null || true
  [ -s "$work/err" ] && fail "round $round: $(cat "$work/err")"
  if [ -e "$LAYERFS_ROOT/format" ]; then
    "$layerfs" store check >"$work/check" || fail "round $round: $(cat "$work/check")"
  fi
  # Every other round goes on with what the one before left, the others begin with an empty store again.
  if [ $((round % 4)) = 0 ]; then
    for name in $("$layerfs" images --json | grep -o '"localhost/round[^"]*"' | tr -d '"' | sort -u); do
      "$layerfs" rmi "$name" >/dev/null || fail "rmi $name"
    done
    "$layerfs" store gc >/dev/null || fail "gc after round $round"
  fi
done
[ "$killed" -gt 0 ] || fail "no import was killed: none ran long enough"

for i in 0 1; do "$layerfs" import -q "${sources[$i]}" --name "whole$i" >/dev/null || fail "import after the kills"; done
"$layerfs" store check --contents >"$work/check" || fail "$(cat "$work/check")"
"$layerfs" store gc >/dev/null || fail "gc"
"$layerfs" store check --contents >"$work/check" || fail "after gc: $(cat "$work/check")"
# Nothing that is not needed is left: a second gc finds nothing, and without images nothing remains.
again=$("$layerfs" store gc --json) || fail "the second gc"
[ "$(grep -Ec '"(Objects|Layers|Trees|Blobs|Leftovers)Removed": 0,?$' <<<"$again")" = 5 ] || fail "the second gc found something: $again"
for name in $("$layerfs" images --json | grep -o '"localhost/[^"]*"' | tr -d '"' | sort -u); do "$layerfs" rmi "$name" >/dev/null; done
"$layerfs" store gc >/dev/null
left=$(cd "$LAYERFS_ROOT" && find objects packs layers trees blobs tmp -type f)
[ -z "$left" ] || fail "left over without any image: $left"
echo "import_kill: $killed of $rounds imports killed, no problem, nothing left over"
