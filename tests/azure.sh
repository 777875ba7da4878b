#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Azure page blobs and managed disks, as users see them: with azurite, and with the project's own
# server, which is as strict as the real service and can be told to throttle.

# Some functions here are called by their name only.
# shellcheck disable=SC2317
. "$(dirname "$0")/lib.sh"

cd "$TMP" || exit 99
azurite=$UPLOAD_SRCDIR/build-npm/node_modules/.bin/azurite-blob
# The emulator's, which everybody knows.
account=devstoreaccount1
key=Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==
hexkey=$(base64 -d <<<"$key" | od -An -v -tx1 | tr -d ' \n')
size=$((24 << 20))

hmac() { openssl dgst -sha256 -mac HMAC -macopt "hexkey:$hexkey" -binary | base64; }
encoded() { sed 's/%/%25/g; s/+/%2B/g; s,/,%2F,g; s/=/%3D/g; s/:/%3A/g' <<<"$1"; }

# PERMISSIONS BLOB [EXPIRY]: a service SAS.
sas() {
  local expiry=${3:-2099-01-01T00:00:00Z}
  local signature
  signature=$(printf '%s\n\n%s\n/blob/%s/images/%s\n\n\n\n2021-12-02\nb\n\n\n\n\n\n\n' "$1" "$expiry" "$account" "$2" | hmac)
  echo "sv=2021-12-02&sr=b&sp=$1&se=$(encoded "$expiry")&sig=$(encoded "$signature")"
}

# curl METHOD PATH [HEADER...]: signed with the key. The path may have one parameter.
signed() {
  local method=$1 path=$2 resource date canonical; shift 2
  date=$(LC_ALL=C TZ=GMT date '+%a, %d %b %Y %H:%M:%S GMT')
  canonical=$(printf '%s\n' "x-ms-date:$date" x-ms-version:2021-12-02 "${@/: /:}" | grep '^x-ms-' | LC_ALL=C sort)
  resource=/$account${path%%\?*}
  # name=value, a line each
  [[ $path != *\?* ]] || resource+=$'\n'$(tr '&' '\n' <<<"${path#*\?}" | LC_ALL=C sort | sed 's/=/:/')
  local signature
  signature=$(printf '%s\n\n\n\n\n\n\n\n\n\n\n\n%s\n%s' "$method" "$canonical" "$resource" | hmac)
  local headers=() header
  for header; do headers+=(-H "$header"); done
  curl -sS --max-time 30 --cacert "$CAFILE" -X "$method" "https://localhost:$PORT$path" -H 'Content-Length: 0' \
    -H 'Content-Type:' -H "x-ms-date: $date" -H 'x-ms-version: 2021-12-02' "${headers[@]}" \
    -H "Authorization: SharedKey $account:$signature"
}

start_azurite() {
  # Its certificate is one of the project's server's, and its port was free a moment ago.
  start_server --ticket unused=memory:1M
  stop_server
  timeout 900 "$azurite" --blobHost 127.0.0.1 --blobPort $PORT --cert "$CERTS/cert.pem" --key "$CERTS/key.pem" \
    --location "$TMP/azurite" --disableTelemetry --skipApiVersionCheck --oauth basic >azurite.log 2>&1 &
  azurite_pid=$!
  pids+=("$azurite_pid")
  await 60 grep -q 'successfully listens' azurite.log || { echo 'azurite does not start' >&2; cat azurite.log >&2; exit 99; }
  signed PUT "/$account/images?restype=container" >out || fail 'no container'
}

# NAME SIZE: makes a page blob.
make_blob() {
  signed PUT "/$account/images/$1" 'x-ms-blob-type: PageBlob' "x-ms-blob-content-length: $2" >out ||
    fail "no blob $1"
}

blob() { echo "https://localhost:$PORT/$account/images/$1"; }
with_key=(target=azure user="$account" password="$key")
copy() { timeout "$LIMIT" nbdcopy --flush "$1" "$(uri)" 2>copy.log; }
same() { timeout "$LIMIT" qemu-img compare -f raw -F raw "$1" "$(uri)" >compare.log 2>&1; }

# With holes of all sizes, and 4 KiB in every 8 for a while.
head -c $((6 << 20)) /dev/urandom >image
truncate -s $size image
dd if=/dev/urandom of=image bs=4k seek=3000 count=1 conv=notrunc 2>dd.log
for i in $(seq 0 63); do
  dd if=image of=image bs=4k skip="$i" seek=$((4000 + 2 * i)) count=1 conv=notrunc 2>dd.log
done

# --- What both servers do ---------------------------------------------------------

# NAME OF THE SERVER
common_cases() {
  begin "$1: a sparse image is copied to a blob that is created, with the key"
  start_nbdkit "${with_key[@]}" url="$(blob one)" create=true size=$size
  copy image || { fail 'the copy fails'; show copy.log; show nbdkit.log; }
  same image || { fail 'the blob is another one'; show compare.log; }
  timeout "$LIMIT" nbdinfo --map "$(uri)" >map
  expect ' hole,zero$' map
  timeout "$LIMIT" nbdinfo "$(uri)" >info
  expect 'block_size_minimum: 512' info
  end_nbdkit 20

  begin "$1: create=true leaves alone what is there"
  start_nbdkit "${with_key[@]}" url="$(blob one)" create=true size=$size
  same image || { fail 'it was wiped'; show compare.log; }
  end_nbdkit 20

  begin "$1: size= is compared with what is there, to the byte"
  upload -U - cafile="$CAFILE" "${with_key[@]}" url="$(blob one)" size=$((size - 512)) --run true
  expect "size=$((size - 512)) is not the size of the disk at the server, which is $size" err
  expect_one_error

  begin "$1: a blob that is not there is not made without create=true"
  upload -U - cafile="$CAFILE" "${with_key[@]}" url="$(blob none)" size=$size --run true
  expect '404, BlobNotFound: there is no such blob' err
  expect_one_error
  upload -U - cafile="$CAFILE" "${with_key[@]}" url="$(blob none)" create=true --run true
  expect 'create=true needs size=: there is no such disk at the server' err

  begin "$1: a wrong key is refused"
  upload -U - cafile="$CAFILE" target=azure user=$account password=AAAA url="$(blob one)" --run true
  [ $status != 0 ] || fail 'it starts'
  expect_one_error

  begin "$1: a managed disk has its footer behind the image"
  if [ "$1" = azurite ]; then make_blob disk $((size + 512)); fi
  start_nbdkit user=$account password="$key" target=azure-disk url="$(blob disk)"
  copy image || { fail 'the copy fails'; show copy.log; }
  same image || { fail 'the disk is another one'; show compare.log; }
  timeout "$LIMIT" nbdcopy "$(uri)" - | cmp - image || fail 'the disk is another one'
  end_nbdkit 20
  # All of it is what a reader of VHDs takes for one.
  start_nbdkit "${with_key[@]}" url="$(blob disk)"
  timeout "$LIMIT" nbdcopy "$(uri)" disk.vhd
  end_nbdkit 20
  run qemu-img info -f vpc disk.vhd
  expect "virtual size: .*\\($size bytes\\)" out
  upload -U - cafile="$CAFILE" target=azure-disk url="$(blob disk)" create=true size=$size --run true
  expect "create=true: target=azure-disk can't create a disk" err
}

# --- azurite ----------------------------------------------------------------------

if [ -x "$azurite" ]; then
  start_azurite
  common_cases azurite

  begin 'azurite: a SAS, found without target=, by HEAD'
  start_nbdkit url="$(blob two)?$(sas rcw two)" create=true size=$size
  timeout "$LIMIT" qemu-img convert -n -f raw -O raw image "$(uri)" 2>copy.log || { fail 'the copy fails'; show copy.log; }
  same image || { fail 'the blob is another one'; show compare.log; }
  end_nbdkit 20
  expect_not 'sig=' nbdkit.log

  begin 'azurite: nbdupload makes a blob of the size of the image, and reads it back'
  qemu-img convert -f raw -O qcow2 image image.qcow2
  run "$UPLOAD_NBDUPLOAD" --plugin="$UPLOAD_PLUGIN" --verify image.qcow2 "$(blob three)?$(sas rcw three)" create=true cafile="$CAFILE"
  [ $status = 0 ] || { fail 'it fails'; show err; }
  expect "the disk is created, with $size bytes" err
  head -c 1000001 image >odd
  run "$UPLOAD_NBDUPLOAD" --plugin="$UPLOAD_PLUGIN" --format=raw odd "$(blob four)?$(sas rcw four)" create=true cafile="$CAFILE"
  [ $status != 0 ] || fail 'it takes a part of a block'
  expect "'odd' has 1000001 bytes, and .* takes whole blocks of 512" err

  begin 'azurite: a SAS that is wrong, has expired, or only writes, is told so in one line'
  good=$(sas rw two)
  upload -U - cafile="$CAFILE" target=azure url="$(blob two)?${good/sig=/sig=A}" --run true
  expect '403, AuthorizationFailure: the SAS, the key or the token is wrong or has expired' err
  expect_one_error
  expect_not "$(sed 's/.*sig=//' <<<"$good")" err
  upload -U - cafile="$CAFILE" target=azure url="$(blob two)?$(sas rw two 2020-01-01T00:00:00Z)" --run true
  expect '403, AuthorizationFailure: the SAS, the key or the token is wrong or has expired' err
  expect_one_error
  upload -U - cafile="$CAFILE" target=azure url="$(blob two)?$(sas w two)" --run true
  expect 'the SAS must allow to read, too: it has sp=w, and sp=rw is needed' err
  expect_one_error

  begin 'azurite: a blob of another type is refused'
  signed PUT "/$account/images/block" 'x-ms-blob-type: BlockBlob' >out
  upload -U - cafile="$CAFILE" "${with_key[@]}" url="$(blob block)" --run true
  expect "it is no page blob: x-ms-blob-type is 'BlockBlob', and must be PageBlob" err
  expect_one_error

  begin 'azurite: with a spool, what was written while it was away is there'
  mkdir -m 700 spool
  start_nbdkit "${with_key[@]}" url="$(blob two)" replay=4M spool="$TMP/spool" timeout=2 connect-timeout=2
  kill -STOP $azurite_pid
  timeout "$LIMIT" qemu-io -f raw -c 'write -P 77 0 1M' -c 'write -P 78 10M 64k' "$(uri)" >io.log 2>&1 || { fail 'a write fails'; show io.log; }
  kill -CONT $azurite_pid
  timeout "$LIMIT" qemu-io -f raw -c 'flush' -c 'read -P 77 0 1M' -c 'read -P 78 10M 64k' "$(uri)" >io.log 2>&1 ||
    { fail 'what was written is not there'; show io.log; show nbdkit.log; }
  expect_not 'verification failed' io.log
  end_nbdkit 60

  begin 'azurite: a lease that somebody else has keeps all others from writing'
  signed PUT "/$account/images/two?comp=lease" 'x-ms-lease-action: acquire' 'x-ms-lease-duration: -1' >out
  upload -U - cafile="$CAFILE" "${with_key[@]}" url="$(blob two)" --run 'nbdcopy --flush --connections=1 --requests=1 image "$uri"'
  [ $status != 0 ] || fail 'the copy succeeds'
  expect '412, LeaseIdMissing: somebody else has a lease on the blob' err
  signed PUT "/$account/images/two?comp=lease" 'x-ms-lease-action: break' 'x-ms-lease-break-period: 0' >out

  begin 'azurite: claim=lease keeps a second uploader out, and is complete at the end'
  signed PUT "/$account/images/two?comp=metadata" 'x-ms-meta-project: moving' >out
  start_nbdkit "${with_key[@]}" url="$(blob two)" claim=lease
  upload -U - cafile="$CAFILE" "${with_key[@]}" url="$(blob two)" claim=lease claim-steal=true --run true
  expect 'claim=lease: another uploads to this disk: process [0-9]+ on host .*, since 20' err
  expect_one_error
  # Also one that asks for no claim: the server refuses its writes.
  upload -U - cafile="$CAFILE" "${with_key[@]}" url="$(blob two)" --run 'nbdcopy --flush --connections=1 --requests=1 image "$uri"'
  expect '412, LeaseIdMissing: somebody else has a lease on the blob' err
  copy image || { fail 'the copy fails'; show copy.log; show nbdkit.log; }
  end_nbdkit 20
  upload -U - cafile="$CAFILE" "${with_key[@]}" url="$(blob two)" claim=lease --run true
  expect 'an upload to this disk is complete: process .*claim-steal=true uploads to it again' err
  curl -sSI --max-time 30 --cacert "$CAFILE" "$(blob two)?$(sas r two)" >fields
  expect '^x-ms-meta-project: moving' fields
  expect '^x-ms-lease-state: available' fields

  begin 'azurite: a holder that was stopped for longer than its lease can write nothing any more'
  start_nbdkit "${with_key[@]}" url="$(blob two)" claim=lease claim-steal=true claim-lease=15
  kill -STOP "$nbdkit_pid"
  stopped=$nbdkit_pid
  upload -U - cafile="$CAFILE" "${with_key[@]}" url="$(blob two)" claim=lease claim-steal=true claim-wait=60 \
    --run 'qemu-io -f raw -c "write -P 9 0 1M" -c flush "$uri"'
  [ $status = 0 ] || { fail 'the second does not get it'; show err; }
  kill -CONT "$stopped"
  await 30 grep -q 'every request fails from now on: .*the claim ' nbdkit.log || { fail 'it is not lost'; show nbdkit.log; }
  timeout "$LIMIT" qemu-io -f raw -c 'write -P 8 0 1M' "$(uri)" >io.log 2>&1
  end_nbdkit 20
  start_nbdkit "${with_key[@]}" url="$(blob two)"
  timeout "$LIMIT" qemu-io -f raw -r -c 'read -P 9 0 1M' "$(uri)" >io.log 2>&1
  expect_not 'failed' io.log
  end_nbdkit 20

  begin 'a claim by a lease needs a target that has some'
  upload -U - cafile="$CAFILE" target=webdav url="$(blob two)?$(sas rw two)" claim=lease --run true
  expect 'claim=lease: this target has no leases' err
  upload -U - cafile="$CAFILE" "${with_key[@]}" url="$(blob two)" claim=lease claim-lease=90 --run true
  expect 'claim-lease=90: a lease of this target lasts from 15 to 60 seconds' err
  kill $azurite_pid
else
  begin 'azurite'
  echo "skipped: there is no $azurite; scripts/check installs it"
  case_name=''; skipped=1
fi

# --- The strict server ----------------------------------------------------------------

strict() {
  start_server --protocol azure --azure "account=$account,key=$key,pages-per-list=7" "$@"
}

strict --ticket one=memory:$size --ticket disk=memory:$((size + 512))
begin 'strict: the blob is to be made first'
signed DELETE "/$account/images/one" >out
common_cases 'the strict server'

begin 'strict: checksums are sent, and are right'
start_nbdkit "${with_key[@]}" url="$(blob one)" checksum=true -D upload.http=1
copy image || { fail 'the copy fails'; show copy.log; }
same image || fail 'the blob is another one'
end_nbdkit 20

stop_server

begin 'strict: a server that throttles is waited for, without replay='
strict --ticket one=memory:$size --fault op=put,action=server_busy,nth=3,times=4,retry-after=1
start_nbdkit "${with_key[@]}" url="$(blob one)"
copy image || { fail 'the copy fails'; show copy.log; show nbdkit.log; }
same image || fail 'the blob is another one'
expect 'trying again for up to 300 seconds: .*503, ServerBusy: the server wants fewer requests' nbdkit.log
expect 'recovered after .* seconds, nothing is lost' nbdkit.log
end_nbdkit 20
stop_server

begin 'strict: what the server has given up is done again, also without replay='
strict --ticket one=memory:$size --fault op=put,action=operation_timed_out,nth=3,times=4
start_nbdkit "${with_key[@]}" url="$(blob one)" timeout=3
copy image || { fail 'the copy fails'; show copy.log; show nbdkit.log; }
same image || fail 'the blob is another one'
expect '500, OperationTimedOut: the server has given the operation up: The operation could not' nbdkit.log
# It may still be doing it, for as long as timeout= says.
end_nbdkit 20
stop_server

begin 'strict: connections that are lost under requests are no loss, without replay='
strict --ticket one=memory:$size --fault op=put,action=close_after_body,nth=5,times=3
start_nbdkit "${with_key[@]}" url="$(blob one)" timeout=5
copy image || { fail 'the copy fails'; show copy.log; show nbdkit.log; }
same image || fail 'the blob is another one'
end_nbdkit 20
stop_server

begin 'strict: a managed disk that exists can be uploaded to, and nothing else'
start_server --protocol azure --azure "account=$account,key=$key,managed" --ticket disk=memory:$((size + 512))
start_nbdkit user=$account password="$key" target=azure-disk url="$(blob disk)"
copy image || { fail 'the copy fails'; show copy.log; }
same image || fail 'the disk is another one'
end_nbdkit 20
upload -U - cafile="$CAFILE" user=$account password="$key" target=azure-disk url="$(blob disk)" checksum=true --run true
expect 'checksum=true: target=azure-disk takes no checksums' err
upload -U - cafile="$CAFILE" user=$account password="$key" target=azure-disk url="$(blob disk)" claim=lease --run true
expect 'claim=lease: the server gives no lease on the disk: ' err
expect_one_error
stop_server

finish
