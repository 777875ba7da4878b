#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# nbdupload --verify=checksum: what differs is found without reading anything back, and what can
# not be compared is no success.

. "$(dirname "$0")/lib.sh"
cd "$TMP" || exit 99
preload_nbdkit
mkdir tmp
size=$(((9 << 20) + 4096))
secret=ticket-to-be-kept-secret

{ seq 300000; head -c 1M /dev/urandom; } | head -c 3M >disk.raw
truncate -s $size disk.raw
printf end | dd of=disk.raw conv=notrunc bs=1 seek=$((size - 3)) status=none
qemu-img convert -f raw -O qcow2 disk.raw disk.qcow2 || exit 99
head -c 1M disk.raw >small.raw

tickets=()
for name in data hole; do tickets+=(--ticket "$name=file:$TMP/at-$name,size=$size,writers=8"); done
for name in good no-checksum old method others-only failing strange lying $secret; do
  tickets+=(--ticket "$name=memory:$size")
done
tickets+=(--ticket "forgets=discard:$size"
          --fault 'op=algorithms,ticket=no-checksum,times=0,action=status,status=404'
          --fault 'op=algorithms,ticket=old,times=0,action=status,status=403'
          --fault 'op=algorithms,ticket=method,times=0,action=status,status=405'
          --fault 'op=algorithms,ticket=others-only,times=0,action=raw_json,body={"algorithms":["md5"]}'
          --fault 'op=checksum,ticket=failing,times=0,action=status,status=500'
          --fault 'op=checksum,ticket=strange,times=0,action=raw_json,body=[1]'
          --fault 'op=checksum,ticket=lying,times=0,action=raw_json,body={"checksum":"0"}')
start_server "${tickets[@]}"
url=https://localhost:$PORT/images

try() {
  run env TMPDIR="$TMP/tmp" "$UPLOAD_NBDUPLOAD" --plugin "$UPLOAD_PLUGIN" --verify=checksum \
    "${@:1:$#-1}" "$url/${*: -1}" "cafile=$CAFILE"
}
expect_status() {
  [ "$status" = "$1" ] || { fail "exit status $status instead of $1"; show err; }
  [ -z "$(ls "$TMP/tmp")" ] || fail "left behind: $(ls "$TMP/tmp")"
}

begin 'a good copy is found to be one, and nothing is read back'
try disk.raw good
before=$(counter bytes_got)
for image in disk.raw disk.qcow2; do
  try $image good
  expect_status 0
  [ ! -s err ] || { fail 'it says'; show err; }
done
try --progress=lines disk.raw good
expect_status 0
expect "^nbdupload: 'disk.raw': .*, verified" err
# The plugin reads a byte of each disk to find out its size.
[ $(($(counter bytes_got) - before)) -lt 10 ] || fail 'the disk was read back'

begin 'a server that kept nothing is found'
try disk.raw forgets
expect_status 4
expect '^nbdupload: verification failed: the disk at .* differs from' err

# An nbdcopy that changes a byte at the server when the upload is over.
mkdir meddle
cat >meddle/nbdcopy <<END
#!/bin/bash
PATH=$PATH
nbdcopy "\$@" || exit
printf X | dd of="\$TARGET" bs=1 seek=\$AT conv=notrunc status=none
END
chmod +x meddle/nbdcopy

begin 'a changed byte is found, in data, in a hole and at the end'
for change in data:1000000 hole:5000000 hole:$((size - 1)); do
  PATH=$TMP/meddle:$PATH TARGET=$TMP/at-${change%:*} AT=${change#*:} try disk.raw "${change%:*}"
  expect_status 4
  expect '^nbdupload: verification failed: .* differs' err
done

begin 'of several disks the one that differs is named'
run env TMPDIR="$TMP/tmp" "$UPLOAD_NBDUPLOAD" --plugin "$UPLOAD_PLUGIN" --verify=checksum \
  --map "disk.raw=$url/good" --map "disk.qcow2=$url/forgets" "cafile=$CAFILE"
expect_status 4
expect "^nbdupload: 'disk.qcow2': verification failed: .* differs" err
expect "^nbdupload: 'disk.raw': .*, verified" err

begin 'the checksum of a stream is made while it is sent, and compared'
for wanted in 0:good 4:forgets; do
  run env TMPDIR="$TMP/tmp" bash -c '"$@" <disk.raw' - "$UPLOAD_NBDUPLOAD" --plugin "$UPLOAD_PLUGIN" \
    --size=$size --verify=checksum - "$url/${wanted#*:}" "cafile=$CAFILE"
  expect_status "${wanted%:*}"
done

begin 'a server that has no such checksum is found before anything is sent'
before=$(counter changes)
for wanted in no-checksum:404 old:403 method:405; do
  try disk.raw "${wanted%:*}"
  expect_status 3
  expect "^nbdupload: --verify=checksum: .* has no checksums: the server answers ${wanted#*:}; --verify reads" err
  [ "$(wc -l <err)" = 1 ] || { fail 'not one line'; show err; }
done
try disk.raw others-only
expect_status 3
expect '^nbdupload: --verify=checksum: .* has no checksums by sha256' err
try --allow-larger --format=raw small.raw good
expect_status 3
expect "^nbdupload: --verify=checksum: .* is larger than 'small.raw'; --zero-rest" err
try --verify=sometimes disk.raw good
expect_status 2
expect "'sometimes' is neither read nor checksum" err
[ "$(counter changes)" = "$before" ] || fail 'there were changes'

begin 'a larger disk whose rest is made zero can be compared'
try --zero-rest --format=raw small.raw good
expect_status 0

begin 'a checksum that can'\''t be had or compared is no success'
for wanted in failing:'the server answers 500' strange:'the server has made another one' \
  lying:'the server has made another one'; do
  try disk.raw "${wanted%%:*}"
  expect_status 4
  expect "^nbdupload: verification failed: .* could not be compared by checksum: ${wanted#*:}" err
done

begin 'no secret is in a message'
echo "$secret-password" >password-file
run env TMPDIR="$TMP/tmp" "$UPLOAD_NBDUPLOAD" --plugin "$UPLOAD_PLUGIN" --verify=checksum --verbose \
  disk.raw "$url/$secret" "cafile=$CAFILE" user=me password=+password-file "header=X-Key: $secret"
expect_status 0
expect_not "$secret" err

stop_server
finish
