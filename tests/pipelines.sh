#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# The programs that people upload with: nbdcopy, qemu-img, nbdkit's filters.
# The target is a file behind a real qemu-nbd.

. "$(dirname "$0")/lib.sh"

target=$TMP/target.raw
size=$((96 << 20))

# A fresh, empty target.
start_target() {
  rm -f "$target" "$TMP/nbd.pid"
  truncate -s $size "$target"
  qemu-nbd -f raw --shared=16 --persistent --discard=unmap --socket="$TMP/nbd.sock" \
    --pid-file="$TMP/nbd.pid" "$target" &
  qemu_pid=$!
  pids+=("$qemu_pid")
  await 20 test -S "$TMP/nbd.sock" || { echo 'qemu-nbd does not start' >&2; exit 99; }
  start_server --ticket disk="nbd:unix:$TMP/nbd.sock"
  keys=("url=https://localhost:$PORT/images/disk" "cafile=$CAFILE")
}

stop_target() {
  stop_server
  kill "$qemu_pid"; wait "$qemu_pid"
}

# NAME COMMAND [NBDKIT OPTIONS...]: runs COMMAND with $uri, then compares.
uploads() {
  local name=$1 command=$2; shift 2
  begin "$name"
  start_target
  upload -U - "$@" "${keys[@]}" --run "$command"
  [ $status = 0 ] || { fail "exit status $status"; show "$TMP/err"; }
  stop_target
  cmp "$TMP/source.raw" "$target" || fail 'the copy differs'
  [ "$(qemu-img compare -f raw -F raw "$TMP/source.raw" "$target")" = 'Images are identical.' ] ||
    fail 'qemu-img says they differ'
}

# Data, holes, and stretches of 4 KiB of each.
truncate -s $size "$TMP/source.raw"
dd if=/dev/urandom of="$TMP/source.raw" bs=1M count=30 conv=notrunc status=none
for i in $(seq 0 8 800); do
  dd if=/dev/urandom of="$TMP/source.raw" bs=4k seek=$((10240 + i)) count=4 conv=notrunc status=none
done
dd if=/dev/urandom of="$TMP/source.raw" bs=1000 seek=90000 count=7 conv=notrunc status=none
qemu-img convert -f raw -O qcow2 "$TMP/source.raw" "$TMP/source.qcow2"

uploads 'nbdcopy with its defaults, and a flush' "nbdcopy --flush '$TMP/source.raw' \"\$uri\""
uploads "nbdcopy with virt-v2v's options" \
  "nbdcopy --request-size=4194304 --requests=16 --flush '$TMP/source.raw' \"\$uri\"" --threads 8
uploads 'nbdcopy where the target is known to be zero' \
  "nbdcopy --destination-is-zero --flush '$TMP/source.raw' \"\$uri\""
uploads 'nbdcopy of everything as data' "nbdcopy --allocated --flush '$TMP/source.raw' \"\$uri\""
uploads 'qemu-img convert as the client' \
  "qemu-img convert -n -f qcow2 -O raw '$TMP/source.qcow2' \"\$uri\""
uploads 'qemu-img convert with many coroutines, out of order' \
  "qemu-img convert -n -m 16 -W -f qcow2 -O raw '$TMP/source.qcow2' \"\$uri\""
uploads 'under the log and stats filters' "nbdcopy --flush '$TMP/source.raw' \"\$uri\"" \
  --filter=log --filter=stats "logfile=$TMP/log" "statsfile=$TMP/stats"
expect 'Write' "$TMP/log"
expect 'write' "$TMP/stats"

begin 'the checkwrite filter finds on the server what was sent'
start_target
upload -U - "${keys[@]}" --run "nbdcopy --flush '$TMP/source.raw' \"\$uri\""
[ $status = 0 ] || { fail "exit status $status"; show "$TMP/err"; }
upload -U - --filter=checkwrite "${keys[@]}" --run "nbdcopy '$TMP/source.raw' \"\$uri\""
[ $status = 0 ] || { fail "exit status $status"; show "$TMP/err"; }
printf x | dd of="$target" bs=1 seek=5000 conv=notrunc status=none
upload -U - --filter=checkwrite "${keys[@]}" --run "nbdcopy '$TMP/source.raw' \"\$uri\""
[ $status != 0 ] || fail 'a difference was not found'
stop_target

begin 'a disk comes back the way it went: nbdcopy from the server'
start_target
cp "$TMP/source.raw" "$target"
upload -U - "${keys[@]}" --run "nbdcopy \"\$uri\" '$TMP/back.raw'"
[ $status = 0 ] || { fail "exit status $status"; show "$TMP/err"; }
cmp "$TMP/source.raw" "$TMP/back.raw" || fail 'what came back differs'

begin 'nbdinfo shows the export and a map of the extents'
upload -U - "${keys[@]}" --run "nbdinfo \"\$uri\" && nbdinfo --map=base:allocation \"\$uri\""
[ $status = 0 ] || { fail "exit status $status"; show "$TMP/err"; }
expect "export-size: $size" "$TMP/out"
expect 'can_multi_conn: true' "$TMP/out"
expect 'block_size_preferred: 65536' "$TMP/out"
expect 'hole|zero' "$TMP/out"
stop_target

begin 'an image fragmented at 4 KiB needs few requests'
/usr/bin/env bash -c 'for i in $(seq 0 2 2047); do
  dd if=/dev/urandom of="$1" bs=4k seek=$i count=1 conv=notrunc status=none; done' - "$TMP/fragmented"
start_target
truncate -s $size "$TMP/fragmented"
upload -U - -v -D upload.stats=1 "${keys[@]}" --run "nbdcopy --flush '$TMP/fragmented' \"\$uri\""
[ $status = 0 ] || fail "exit status $status"
requests=$(sed -n 's/.* write: \([0-9]*\) requests.*/\1/p' "$TMP/err")
[ "${requests:-9999}" -le $((1024 / 20)) ] || fail "$requests requests for 1024 extents"
stop_target
cmp "$TMP/fragmented" "$target" || fail 'the copy differs'

begin 'a disk with extents of more than 4 GiB can be mapped'
start_server --ticket large=memory:8G
upload -U - "url=https://localhost:$PORT/images/large" "cafile=$CAFILE" \
  --run 'nbdinfo --map --totals "$uri" && nbdinfo --map "$uri"'
[ $status = 0 ] || { fail "exit status $status"; show "$TMP/err"; }
expect '^ *8589934592 .*zero' "$TMP/out"
stop_server

finish
