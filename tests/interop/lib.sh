# SPDX-License-Identifier: Apache-2.0
# What the interop tests share. Source it: `. lib.sh`; it makes a private work directory in $work, and everything in
# it, mounts and Podman storage too, is gone when the script ends. Set before: $layerfs, the program under test.
set -euo pipefail
umask 022
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
support=$here/../support

skip() {
  echo "skip: $*"
  exit 77
}
say() { echo "--- $*"; }
fail() {
  echo "FAIL: $*" >&2
  exit 1
}
need() {
  local tool
  for tool in "$@"; do command -v "$tool" >/dev/null || skip "$tool is not installed"; done
}
# At the end: what a script did without a tool has passed, and what it left out for want of it is a skip that is seen.
end_without() { # end_without TOOL...
  local tool
  for tool in "$@"; do command -v "$tool" >/dev/null || skip "$tool is not installed; all that needs none has passed"; done
  say "done"
}
need_root() { [ "$(id -u)" = 0 ] || skip "unpacking owners, devices and trusted xattrs needs root"; }
need_fuse() {
  [ -c /dev/fuse ] || skip "there is no /dev/fuse"
  (exec 3<>/dev/fuse) 2>/dev/null || skip "/dev/fuse cannot be opened"
}

# No capitals in it: Podman makes an image's name of its layout's path. Short: Podman's run root ($work/podman/run)
# may have 50 characters.
work=${TMPDIR:-/tmp}
[[ $work != *[A-Z]* && ${#work} -le 25 ]] || work=/tmp
work=$work/interop.$$
mkdir -m 700 "$work"
mounts=()
clean_up() {
  local status=$? m
  set +e
  for m in "${mounts[@]}"; do
    mountpoint -q "$m" && { "$layerfs" umount "$m" || umount -l "$m"; } >/dev/null 2>&1
  done
  if [ -d "$work/podman" ]; then
    podman_do image unmount --all --force >/dev/null 2>&1
    umount "$work"/podman/*/overlay >/dev/null 2>&1
  fi
  rm -rf --one-file-system "$work"
  exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

export LAYERFS_ROOT=$work/store
lfs() { "$layerfs" "$@"; }
# layerfs with a store of its own, to import what was exported.
lfs_other() { LAYERFS_ROOT=$work/other "$layerfs" "$@"; }

# mount_image REF DIR [OPTION...]: the mount is taken down at the end.
mount_image() {
  local ref=$1 dir=$2
  shift 2
  mkdir -p "$dir"
  mounts+=("$dir")
  lfs mount "$@" "$ref" "$dir"
}

# Podman with storage of its own: podman_do ARG...; $podman_driver is vfs unless the caller wants overlay.
podman_driver=${podman_driver:-vfs}
podman_do() {
  mkdir -p "$work/podman"
  podman --root "$work/podman/root" --runroot "$work/podman/run" --storage-driver "$podman_driver" "$@"
}

# same_tree WHAT A B [OPTION of compare_trees...]
same_tree() {
  local what=$1
  shift
  say "compare: $what"
  "$here/compare_trees" "$@" || fail "the trees differ: $what"
}

# unpack LAYOUT:TAG DIR: by umoci; the tree is in DIR/rootfs. Layers are decompressed, and verified, before it.
unpack() {
  rm -rf "$work/plain"
  "$here/plain_layout" "$1" "$work/plain"
  umoci unpack --image "$work/plain:latest" "$2"
  rm -rf "$work/plain"
}
