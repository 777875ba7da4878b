#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# nbdupload's sources beyond a disk image: disks in an OVA, compressed images, images on a web
# server. What can't be told apart, or is no disk, is refused before anything is sent.

. "$(dirname "$0")/lib.sh"
cd "$TMP" || exit 99
preload_nbdkit
mkdir tmp www
size=$((8 << 20))

{ seq 300000; head -c 1M /dev/urandom; } | head -c 4M >disk.raw
truncate -s $size disk.raw
cp disk.raw other.raw
printf other | dd of=other.raw conv=notrunc bs=1 seek=5000000 status=none
for name in disk other; do
  qemu-img convert -f raw -O qcow2 $name.raw $name.qcow2 || exit 99
  qemu-img convert -f raw -O vmdk -o subformat=streamOptimized $name.raw $name.vmdk || exit 99
done
echo '<Envelope/>' >guest.ovf

tickets=()
for name in at at2; do tickets+=(--ticket "$name=file:$TMP/$name,size=$size,writers=8"); done
start_server "${tickets[@]}"
url=https://localhost:$PORT/images

try() {
  run env TMPDIR="$TMP/tmp" "$UPLOAD_NBDUPLOAD" --plugin "$UPLOAD_PLUGIN" "$@" "cafile=$CAFILE"
}
expect_status() {
  [ "$status" = "$1" ] || { fail "exit status $status instead of $1"; show err; }
  [ -z "$(ls "$TMP/tmp")" ] || fail "left behind: $(ls "$TMP/tmp")"
}
expect_arrived() {
  expect_status 0
  cmp "$1" "$2" >"$TMP/cmp" 2>&1 || fail "$(cat "$TMP/cmp")"
  truncate -s 0 "$2"
  truncate -s $size "$2"
}

begin 'the disk of an OVA arrives'
tar -cf one.ova guest.ovf disk.vmdk
try --verify one.ova "$url/at"
expect_arrived disk.raw at
expect "^nbdupload: 'one.ova' is a tar archive, which is unpacked" err

begin 'of several disks in an OVA each is named'
tar -cf two.ova guest.ovf disk.vmdk other.vmdk
try two.ova "$url/at"
expect_status 3
expect "^nbdupload: 'two.ova' has several disks: 'two.ova:disk.vmdk', 'two.ova:other.vmdk'" err
try two.ova:other.vmdk "$url/at"
expect_arrived other.raw at
try --map "two.ova:disk.vmdk=$url/at" --map "two.ova:other.vmdk=$url/at2"
expect_arrived disk.raw at
expect_arrived other.raw at2
tar -cf raw.tar disk.raw guest.ovf
try --format=raw raw.tar:disk.raw "$url/at"
expect_arrived disk.raw at

begin 'what is not in an archive, or is in none, is refused'
try two.ova:third.vmdk "$url/at"
expect_status 3
expect "^nbdupload: 'two.ova:third.vmdk': there is no such file in the archive" err
gzip -k two.ova
try two.ova.gz:third.vmdk "$url/at"
expect_status 3
expect "^nbdupload: 'two.ova.gz:third.vmdk' can't be unpacked: tar " err
rm two.ova.gz
try disk.raw:third.vmdk "$url/at"
expect_status 3
expect "^nbdupload: 'disk.raw:third.vmdk': no such file" err
tar -cf none.tar guest.ovf
try none.tar "$url/at"
expect_status 3
expect "^nbdupload: 'none.tar' is a tar archive, and no file in it has a disk's name" err

begin 'the name of a file in an archive is no option of tar'\''s'
name="--use-compress-program=touch injected;.vmdk"
cp disk.vmdk "./$name"
tar -cf option.ova -- "$name"
for image in option.ova "option.ova:$name"; do
  try "$image" "$url/at"
  expect_status 3
  expect "^nbdupload: '.*: a file in an archive whose name begins with '-'" err
done
[ ! -e injected ] || fail 'it was run'

begin 'the name of a file with a colon in it is that file'
cp disk.raw one.ova:disk.vmdk
try one.ova:disk.vmdk "$url/at"
expect_arrived disk.raw at
rm one.ova:disk.vmdk

begin 'compressed images of any format arrive'
for file in disk.raw disk.qcow2; do
  for program in gzip xz; do
    $program -k $file
    packed=$(echo $file.[gx]z)
    try --verify "$packed" "$url/at"
    expect_arrived disk.raw at
    rm "$packed"
  done
done

begin 'an image in an archive in an archive arrives, and an archive in one is not taken for a disk'
gzip -k two.ova
try two.ova.gz:disk.vmdk "$url/at"
expect_arrived disk.raw at
try two.ova.gz "$url/at"
expect_status 3
expect "^nbdupload: 'two.ova.gz' has a tar archive in it" err
printf 'PK\3\4' >inner
truncate -s 4096 inner
gzip inner
try inner.gz "$url/at"
expect_status 3
expect "^nbdupload: 'inner.gz' is a zip archive, not a disk" err

begin 'an image in an archive that refers to a file is refused, whatever its format is said to be'
cp disk.raw /tmp/"${TMP##*/}"-secret
qemu-img create -q -f qcow2 -b /tmp/"${TMP##*/}"-secret -F raw overlay.qcow2
gzip overlay.qcow2
for option in --quiet --format=qcow2; do
  try $option overlay.qcow2.gz "$url/at"
  expect_status 3
  expect "^nbdupload: 'overlay.qcow2.gz' \(qcow2\) refers to '/tmp/.*'" err
done
rm /tmp/"${TMP##*/}"-secret

begin 'a damaged archive is refused'
gzip -k disk.raw
head -c 100000 disk.raw.gz >cut.gz
try cut.gz "$url/at"
expect_status 3
expect "^nbdupload: 'cut.gz' can't be " err

begin 'a dry run shows each server that reads an image'
try --dry-run two.ova:disk.vmdk "$url/at"
expect_status 0
expect '^nbdkit .*--filter=tar file /dev/fd/([0-9]+) tar-entry=disk.vmdk .*\1<' out
expect '^qemu-nbd .*"driver":"nbd"' out
[ ! -s at.changed ] || fail 'it was changed'

# try_stream COMMAND [OPTION...]: what the command prints is standard input.
try_stream() {
  run env TMPDIR="$TMP/tmp" bash -c 'eval "$0" | "$@"' "$1" "$UPLOAD_NBDUPLOAD" \
    --plugin "$UPLOAD_PLUGIN" "${@:2}" "cafile=$CAFILE"
}
expect_one_line() { [ "$(wc -l <err)" = 1 ] || { fail 'not one line'; show err; }; }

begin 'a stream of the size that was told arrives, and its zeroes are not sent as data'
before=$(counter bytes_put)
try_stream 'cat disk.raw' --size=8M - "$url/at"
expect_arrived disk.raw at
[ ! -s err ] || { fail 'it says'; show err; }
sent=$(($(counter bytes_put) - before))
[ "$sent" -lt $((5 << 20)) ] || fail "$sent bytes were sent"
try_stream '{ head -c 100 disk.raw; sleep 0.1; tail -c +101 disk.raw; }' --size=$size - "$url/at"
expect_arrived disk.raw at
run env TMPDIR="$TMP/tmp" bash -c '"$@" <disk.raw' - "$UPLOAD_NBDUPLOAD" --plugin "$UPLOAD_PLUGIN" \
  --map "-=$url/at" --map "other.qcow2=$url/at2" --size=8M "cafile=$CAFILE"
expect_arrived disk.raw at
expect_arrived other.raw at2

begin 'a stream that is shorter or longer than was told fails with one line and is not flushed'
before=$(counter flushes)
for ended in 'head -c 8388607 disk.raw:ended after 8388607 of 8388608 bytes' \
  'head -c 513 disk.raw:ended after 513 of 8388608 bytes' \
  '{ cat disk.raw; echo; }:has more than 8388608 bytes'; do
  try_stream "${ended%%:*}" --size=8M - "$url/at"
  expect_status 1
  expect "^nbdupload: standard input ${ended#*:}; the disk at .* is incomplete" err
  expect_one_line
done
[ "$(counter flushes)" = "$before" ] || fail 'it was flushed'

begin 'a stream that is none, or an archive, or whose size is not told, changes nothing'
before=$(counter changes)
for bad in '3:true:--size=8M:is empty' '3:gzip -c disk.raw:--size=8M:is a gzip file, not a disk' \
  '3:cat disk.raw:--size=9M:more than the 8388608' '2:cat disk.raw:--quiet:--size=N' \
  '2:cat disk.raw:--size=0:is not a size' '2:cat disk.raw:--size=8X:is not a size' \
  '2:cat disk.qcow2:--size=8M --format=qcow2:as raw only' '2:cat disk.raw:--size=8M --verify:once more' \
  '2:cat disk.raw:--size=8M --zero-rest:not with standard input'; do
  IFS=: read -r wanted command options text <<<"$bad"
  # shellcheck disable=SC2086 # words are wanted
  try_stream "$command" $options - "$url/at"
  expect_status "$wanted"
  expect "^nbdupload: .*$text" err
  expect_one_line
done
try --size=8M disk.raw "$url/at"
expect_status 2
try --size=8M --map "-=$url/at" --map "-=$url/at2"
expect_status 2
expect "^nbdupload: IMAGE is '-' more than once" err
[ "$(counter changes)" = "$before" ] || fail 'there were changes'

begin 'an archive in a stream goes up as it is if that is wanted'
cp disk.raw.gz padded.gz 2>/dev/null || gzip -c disk.raw >padded.gz
truncate -s $size padded.gz
try_stream 'cat padded.gz' --size=8M --format=raw - "$url/at"
expect_arrived padded.gz at

# make_iso IMAGE NAME: an ISO 9660 image of 8 MiB with one empty file.
make_iso() {
  truncate -s $size "$1"
  "${PYTHON:-python3}" - "$@" <<'END'
import struct, sys
def record(name, sector, size, flags):
    body = struct.pack("<xIxxxxIxxxx", sector, size) + bytes(7) + bytes([flags, 0, 0]) + bytes(4) + bytes([len(name)]) + name
    body += b"" if len(body) % 2 else b"\0"
    return bytes([len(body) + 1]) + body
root = record(b"\0", 18, 2048, 2)
with open(sys.argv[1], "r+b") as image:
    image.seek(16 * 2048); image.write(b"\1CD001\1")
    image.seek(16 * 2048 + 156); image.write(root)
    image.seek(18 * 2048); image.write(root + record(sys.argv[2].encode(), 19, 0, 0))
END
}

begin 'an ISO image with an OVA on it is refused, unless it is to be uploaded as it is; any other goes up'
make_iso ova.iso 'GUEST.OVA;1'
make_iso plain.iso 'SETUP.EXE;1'
gzip -k ova.iso plain.iso
for name in ova.iso ova.iso.gz; do
  try $name "$url/at"
  expect_status 3
  expect "^nbdupload: '$name' is an ISO image with 'GUEST.OVA' on it: .*--format=raw" err
done
for name in plain.iso plain.iso.gz; do
  try $name "$url/at"
  expect_arrived plain.iso at
done
try --format=raw ova.iso "$url/at"
expect_arrived ova.iso at

if command -v nginx >/dev/null; then
  begin 'an image on a web server arrives'
  cp disk.raw disk.qcow2 two.ova disk.raw.gz www/
  cat >nginx.conf <<END
$([ "$(id -u)" != 0 ] || echo 'user root;') daemon off; worker_processes 1; pid $TMP/nginx.pid; error_log stderr; events { }
http { access_log off; $(for name in client_body proxy fastcgi uwsgi scgi; do
    echo "${name}_temp_path $TMP/nginx-$name;"; done)
  server { listen unix:$TMP/nginx.socket; listen 127.0.0.1:0; root $TMP/www; } }
END
  free_port=$("${PYTHON:-python3}" -c 'import socket
s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
  sed -i "s|listen unix:[^;]*; listen 127.0.0.1:0;|listen 127.0.0.1:$free_port;|" nginx.conf
  nginx -e stderr -p "$TMP" -c "$TMP/nginx.conf" 2>nginx.log &
  pids+=($!)
  await 10 curl -s -o /dev/null "http://127.0.0.1:$free_port/" || { fail 'nginx does not start'; show nginx.log; }
  for name in disk.raw disk.qcow2 disk.raw.gz; do
    try --verify "http://127.0.0.1:$free_port/$name" "$url/at"
    expect_arrived disk.raw at
  done
  try "http://127.0.0.1:$free_port/missing" "$url/at"
  expect_status 3
  expect "^nbdupload: 'http://127.0.0.1:[0-9]+/missing' can't be " err
  try "http://me:hidden@127.0.0.1:$free_port/disk.raw" "$url/at"
  expect_status 2
  expect_not hidden err

  begin 'the query of an image'\''s URL is used and not shown, and not put into a process list'
  for name in disk.raw disk.qcow2; do
    try --verbose --log=log --progress=lines "http://127.0.0.1:$free_port/$name?sig=hidden-signature" "$url/at"
    expect_arrived disk.raw at
    expect "^nbdupload: uploading 'http://127.0.0.1:[0-9]+/$name\?\.\.\.'" err
    expect_not hidden err
    expect_not hidden log
  done
  try "http://127.0.0.1:$free_port/missing?sig=hidden-signature" "$url/at"
  expect_status 3
  expect "^nbdupload: 'http://127.0.0.1:[0-9]+/missing\?\.\.\.' can't be " err
  expect_not hidden err
  printf 'http://127.0.0.1:%s/disk.raw?sig=hidden-signature\t%s\n' "$free_port" "$url/at" >list
  try --list=list
  expect_status 2
  expect_not hidden err
fi

stop_server
finish
