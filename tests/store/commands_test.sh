#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# tests/store/commands_test.sh LAYERFS SUPPORT: images, inspect, history, tag, rmi and store df|check|gc as a user
# types them, on two images that share layers: output, exit statuses, messages, and that nothing stays behind.
set -euo pipefail
layerfs=$1 support=$2
command -v python3 >/dev/null || { echo "no python3 to make an image with"; exit 77; }
work=$(mktemp -d "${TMPDIR:-/tmp}/layerfs-commands-XXXXXX")
trap 'rm -rf "$work"' EXIT
export LAYERFS_ROOT=$work/store

fail() { echo "FAILED: $*" >&2; exit 1; }
expect() { [[ $2 == "$3" ]] || fail "$1: expected '$3', got '$2'"; }
# fails STATUS TEXT COMMAND...: the command's exit status, and its message on standard error.
fails() {
  local status=0 wanted=$1 text=$2 said
  shift 2
  said=$("$@" 2>&1 >/dev/null) || status=$?
  expect "status of '$*'" "$status" "$wanted"
  [[ $said == *"$text"* ]] || fail "'$*' says '$said', not '$text'"
}
# json FILE EXPRESSION: of the document `d`.
json() { python3 -c 'import json,sys; d=json.load(open(sys.argv[1])); print(eval(sys.argv[2]))' "$1" "$2"; }

# Before there is a store: it was named, so that it is missed.
for words in "images -q" "inspect x" "store check" "store gc" "tag x y" "export x oci:$work/out"; do
  # shellcheck disable=SC2086
  fails 1 "open store '$LAYERFS_ROOT': there is no store" "$layerfs" $words
  [[ ! -e $LAYERFS_ROOT ]] || fail "'$words' made a store"
done
fails 2 "" "$layerfs" store
fails 2 "" "$layerfs" rmi

"$support/make_layered_image" "$work/layout" >/dev/null
id=$("$layerfs" import -q "oci:$work/layout" --name many)
short=${id:0:12}
expect "images -q" "$("$layerfs" images -q)" "$short"
expect "images -q --no-trunc" "$("$layerfs" images -q --no-trunc)" "$id"
"$layerfs" images | grep -Eq "^localhost/many +latest +$short +.* ago +[0-9.]+ [kM]?B$" || fail "table of images"
"$layerfs" images --digests | grep -Eq "sha256:[0-9a-f]{64}" || fail "digests of images"

"$layerfs" inspect many >"$work/inspect"
layers=$(json "$work/inspect" 'len(d[0]["RootFS"]["Layers"])')
expect "id" "$(json "$work/inspect" 'd[0]["Id"]')" "$id"
expect "names" "$(json "$work/inspect" 'd[0]["RepoTags"]')" "['localhost/many:latest']"
expect "os" "$(json "$work/inspect" 'd[0]["Os"]')" "linux"
config_layers=$(python3 - "$work/layout" <<'PY'
import json, pathlib, sys
root = pathlib.Path(sys.argv[1])
blob = lambda d: json.loads((root / "blobs" / d["digest"].replace(":", "/")).read_text())
print(len(blob(blob(json.loads((root / "index.json").read_text())["manifests"][0])["config"])["rootfs"]["diff_ids"]))
PY
)
expect "layers" "$layers" "$config_layers"
expect "inspect by id" "$("$layerfs" inspect "$short" | sha256sum)" "$(sha256sum <"$work/inspect")"
fails 1 "inspect 'nothing': no such image, container or upper" "$layerfs" inspect nothing
fails 1 "no such container or upper" "$layerfs" inspect --type container many
fails 1 "'nothing': no such image" "$layerfs" inspect --type image nothing

"$layerfs" history many --json >"$work/history"
expect "steps with a layer" "$(json "$work/history" 'sum(not s["emptyLayer"] for s in d)')" "$layers"
expect "newest step first" "$(json "$work/history" 'd[0]["id"]')" "$id"
expect "sizes add up" "$(json "$work/history" 'sum(s["size"] for s in d)')" "$(json "$work/inspect" 'd[0]["Size"]')"
expect "a line a step" "$("$layerfs" history many | wc -l)" "$(($(json "$work/history" 'len(d)') + 1))"

# Names: all or none are given; an image goes with its last.
fails 1 "Bad" "$layerfs" tag many other Bad
expect "no name of a failed tag" "$("$layerfs" images | grep -c localhost/other || true)" "0"
"$layerfs" tag many other example.org/app:2
expect "one id, three names" "$("$layerfs" images -q | wc -l) $("$layerfs" images | tail -n +2 | wc -l)" "1 3"
fails 1 "it has 3 names" "$layerfs" rmi "$short"
expect "untag" "$("$layerfs" rmi other)" "Untagged: localhost/other:latest"
fails 1 "no such image" "$layerfs" rmi other

"$layerfs" store check --contents | grep -q ": no problems$" || fail "check"
"$layerfs" store df --json >"$work/df"
expect "one image in df" "$(json "$work/df" 'd["Images"]')" "1"
expect "dedup never adds" "$(json "$work/df" 'd["LogicalBytes"] >= d["LayerDedupBytes"] >= d["FileDedupBytes"] > 0')" "True"
"$layerfs" store df | grep -q "^with each file once" || fail "table of df"

"$layerfs" inspect many >"$work/inspect" # with its names of now
# Closed streams: no file of the store gets their numbers, and what is printed goes nowhere.
for command in images "ps -a" "store df" "inspect many" "history many" "upper ls" "--help"; do
  for closed in '<&- >&-' '<&- >&- 2>&-' '>&-' '<&-'; do
    # shellcheck disable=SC2086
    (eval "exec $closed" && exec "$layerfs" $command) >/dev/null 2>&1 || fail "$command with $closed"
    expect "store after '$command' with $closed" "$("$layerfs" inspect many | sha256sum)" "$(sha256sum <"$work/inspect")"
  done
done
"$layerfs" store check | grep -q ": no problems$" || fail "check after closed streams"
# An output that cannot be written is an error, and a message that cannot be said is no other.
fails 1 "standard output: write: no space left on device" bash -c '"$0" images >/dev/full' "$layerfs"
fails 1 "standard output: write: no space left on device" bash -c '"$0" --help >/dev/full' "$layerfs"
fails 1 "" bash -c '"$0" inspect nothing 2>/dev/full' "$layerfs"
fails 2 "" bash -c '"$0" nothing 2>/dev/full' "$layerfs"

# A byte of a pack that turned: check says so by name and status, unless it is to be quick.
pack=$(find "$LAYERFS_ROOT/packs" -type f -size +8k | head -n 1)
cp "$pack" "$work/pack"
printf '\xff\xfe\xfd' | dd of="$pack" bs=1 seek=5000 conv=notrunc status=none
"$layerfs" store check --quick >/dev/null || fail "structure is whole"
fails 2 "xcludes" "$layerfs" store check --quick --contents
status=0
"$layerfs" store check --json >"$work/check" || status=$?
expect "status of a failed check" "$status" "1"
expect "problems" "$(json "$work/check" 'any(p["Subject"].startswith("object sha256:") for p in d["Problems"])')" "True"
cat "$work/pack" >"$pack"

# Ended by a signal: nothing is left, and the status is the signal's. Whatever was faster than the signal doesn't count.
mkdir "$work/big" "$work/out"
head -c 150000000 /dev/urandom >"$work/big/file"
interrupted=0
# interrupt DIRECTORY COMMAND...: once a megabyte is below the directory.
interrupt() {
  local status=0 directory=$1
  shift
  "$@" >/dev/null 2>&1 &
  for _ in $(seq 200); do
    [[ -z $(find "$directory" -newer "$work/big/file" -size +1M) ]] || break
    sleep 0.01
  done
  kill "$!" 2>/dev/null || true
  wait "$!" || status=$?
  [[ $status == 0 || $status == 143 ]] || fail "an interrupted command ended with $status"
  [[ $status == 0 ]] || interrupted=$((interrupted + 1))
  last=$status
}
interrupt "$LAYERFS_ROOT" "$layerfs" import "dir:$work/big" --name big
expect "left by an import" "$("$layerfs" store gc --json | grep -c '"LeftoversRemoved": 0')" "1"
"$layerfs" import -q "dir:$work/big" --name big >/dev/null
for destination in oci oci-archive docker-archive tar; do
  interrupt "$work/out" "$layerfs" export big "$destination:$work/out/file"
  [[ $last == 0 ]] || expect "left by an export" "$(ls -A "$work/out")" ""
  rm -rf "$work/out/file"
done
((interrupted > 0)) || fail "nothing was interrupted"
"$layerfs" rmi big >/dev/null
"$layerfs" store gc >/dev/null

# Removed by id with --force: all names; then gc leaves no file but the catalog's and the two of the store.
"$layerfs" rmi -f "$short" >"$work/said"
expect "names taken" "$(grep -c Untagged "$work/said")" "2"
grep -q "^Deleted: $id$" "$work/said" || fail "deleted"
expect "nothing is listed" "$("$layerfs" images -q -a)" ""
"$layerfs" store gc --json >"$work/gc"
expect "gc removed the layers" "$(json "$work/gc" 'd["LayersRemoved"]')" "$layers"
left=$(cd "$LAYERFS_ROOT" && find . -type f ! -path './catalog/*' ! -name format ! -name lock)
expect "left over" "$left" ""
expect "second gc" "$("$layerfs" store gc)" "removed 0 objects, 0 layers, 0 trees, 0 blobs and 0 leftovers: 0 B freed"
echo "1 passed, 0 failed"
