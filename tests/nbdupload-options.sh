#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# nbdupload's options beyond the plain copy: sizes that differ, rates and filters, what is
# printed and kept in a log, and that an archive is not taken for a disk.

. "$(dirname "$0")/lib.sh"
cd "$TMP" || exit 99
preload_nbdkit
mkdir tmp
size=$((8 << 20))
secret=ticket-to-be-kept-secret

{ seq 300000; head -c 1M /dev/zero; seq 100000; } | head -c 4M >disk.raw
truncate -s $size disk.raw
qemu-img convert -f raw -O qcow2 disk.raw disk.qcow2 || exit 99
yes filled | head -c $((size + (1 << 20))) >filled

# Every target is full of something else at first.
tickets=()
for name in plain gz larger larger-qcow2 vpc vpc-data filtered $secret; do
  cp filled "at-$name"
  truncate -s $size "at-$name"
  tickets+=(--ticket "$name=file:$TMP/at-$name,size=$size,writers=8")
done
for name in larger larger-qcow2; do cp filled "at-$name"; done
tickets=("${tickets[@]//at-larger,size=$size/at-larger,size=$((size + (1 << 20)))}")
tickets=("${tickets[@]//at-larger-qcow2,size=$size/at-larger-qcow2,size=$((size + (1 << 20)))}")
tickets+=(--ticket "again=memory:$size" --fault "op=put,ticket=again,nth=1,action=status,status=503")
tickets+=(--ticket "zero=memory:$size" --ticket "away=memory:$size"
          --fault "op=put,ticket=away,times=0,action=status,status=503")
start_server "${tickets[@]}"
url=https://localhost:$PORT/images

# nbdupload [OPTION...] IMAGE TICKET, with the parameters in $more
more=()
try() {
  run env TMPDIR="$TMP/tmp" "$UPLOAD_NBDUPLOAD" --plugin "$UPLOAD_PLUGIN" "${@:1:$#-1}" \
    "$url/${*: -1}" "cafile=$CAFILE" ${more[@]+"${more[@]}"}
}
expect_status() {
  [ "$status" = "$1" ] || { fail "exit status $status instead of $1"; show "$TMP/err"; }
  [ -z "$(ls "$TMP/tmp")" ] || fail "left behind: $(ls "$TMP/tmp")"
}
expect_same() { cmp "$1" "$2" >"$TMP/cmp" 2>&1 || fail "$(cat "$TMP/cmp")"; }

begin 'an archive that can not be unpacked is refused, unless it is to be uploaded as it is'
gzip -k disk.raw
printf 'PK\3\4' >disk.zip
printf 'BZh9' >disk.bz2
printf '\050\265\057\375' >disk.zst
for archive in zip bz2 zst; do
  try disk.$archive gz
  expect_status 3
  expect "^nbdupload: 'disk.$archive' is a .*: unpack it, or say --format=raw" err
done
expect_same <(yes filled | head -c $size) at-gz
cp disk.raw.gz odd.gz
truncate -s %4096 odd.gz
try --format=raw --allow-larger odd.gz gz
expect_status 0
expect_same odd.gz <(head -c "$(stat -c %s odd.gz)" at-gz)

begin 'the rest of a larger target is made zero if that is wanted, and compared too'
cp disk.raw longer.raw
truncate -s +1M longer.raw
for name in larger:raw larger-qcow2:qcow2; do
  try --zero-rest --verify "disk.${name#*:}" "${name%:*}"
  expect_status 0
  expect "^nbdupload: the last $((1 << 20)) of $((size + (1 << 20))) bytes of .* are made zero" err
  expect_same longer.raw "at-${name%:*}"
done

begin 'what the vpc format has rounded up is left out if it is zero'
qemu-img convert -f raw -O vpc disk.raw disk.vpc
virtual=$(qemu-img info --output=json disk.vpc | sed -n 's/.*"virtual-size": \([0-9]*\).*/\1/p')
[ "$virtual" -gt $size ] || fail "it is not rounded up: $virtual"
try --format=vpc --verify disk.vpc vpc
expect_status 0
expect "^nbdupload: the last [0-9]+ bytes of 'disk.vpc', which are zero, are left out" err
expect_same disk.raw at-vpc

begin 'an end of a vpc image that is not zero is not left out'
qemu-io -f vpc -c "write -P 7 $size 512" disk.vpc >/dev/null || fail 'qemu-io fails'
try --format=vpc disk.vpc vpc-data
expect_status 3
expect "^nbdupload: 'disk.vpc' has [0-9]+ bytes, more than the $size" err
expect_same <(yes filled | head -c $size) at-vpc-data

begin 'no zeroes are written to a target that is known to have nothing else'
before=$(counter bytes_zeroed)
try --target-is-zero --verify disk.raw zero
expect_status 0
[ "$(counter bytes_zeroed)" = "$before" ] || fail 'zeroes were written'

begin 'a rate and filters are nbdkit'\''s'
more=("logfile=$TMP/filter.log")
try --rate=800M --filter=log --verify disk.raw filtered
expect_status 0
expect_same disk.raw at-filtered
expect ' Read ' filter.log
more=()
try --dry-run --rate=100M disk.raw plain
expect '^nbdkit .*--filter=rate .* rate=100M' out
try --rate=fast disk.raw plain
expect_status 3
expect '^nbdupload: .*fast.*nothing was sent' err

begin 'a verbose run shows commands and what nbdkit says, and no secret'
more=("header=X-Key: $secret-header")
try --verbose disk.qcow2 $secret
expect_status 0
expect_same disk.raw at-$secret
expect '^nbdupload: starting qemu-nbd ' err
expect '^nbdupload: starting nbdkit .* url=https://localhost:[0-9]+/images/\.\.\.( |$)' err
expect '^nbdupload: starting nbdcopy ' err
expect '^nbdkit: debug: ' err
expect_not "$secret" err
more=()

begin 'a log has all that is printed, and remarks that are not, with times'
time='^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}Z '
try --quiet --log=log --zero-rest disk.raw larger
expect_status 0
[ ! -s err ] || { fail 'it says'; show err; }
expect "${time}nbdupload: the last .* are made zero" log
try --quiet --log=log missing.raw plain
expect_status 3
expect "${time}nbdupload: 'missing.raw': no such file" log
expect 'are made zero' log
! grep -vE "$time" log || fail 'a line has no time'
try --log=/nonexistent/log disk.raw plain
expect_status 3
expect "^nbdupload: --log: '/nonexistent/log' can't be opened" err

begin 'secrets of logins are in no command line'
more=(token-url=https://localhost:1/token client-id=me "client-secret=$secret")
try --dry-run disk.raw plain
expect_status 0
expect 'client-secret=\.\.\.' out
expect_not "$secret" out
more=()

begin 'the end of a disk is told with what was sent, and with all that the plugin has counted if wanted'
before=$(counter bytes_put)
try --progress=lines --stats disk.raw plain
expect_status 0
sent=$(($(counter bytes_put) - before))
expect "^nbdupload: 'disk.raw': 8.0 MiB in 0:0[0-9], .*/s, .* of data and .* of zeroes in [0-9]+ requests, 0 retries$" err
expect "^nbdupload: write: [0-9]+ requests for [0-9]+ of clients .*, $sent bytes, 0 failed" err
expect '^nbdupload: flush: ' err
expect_not 'debug' err
try --stats disk.raw again
expect_status 0
expect '^nbdupload: write: .* 1 failed' err
expect_not "'disk.raw': 8.0 MiB" err
more=("claim=file:$TMP/claims")
mkdir -m 700 claims
try --quiet --log=claim.log disk.raw plain
expect_status 0
expect 'retries, claimed$' claim.log
[ ! -s err ] || { fail 'it says'; show err; }
more=()

begin 'a file whose first line is not just a URL is named'
for ending in '\r\n' ' \n' '\t\n'; do
  # shellcheck disable=SC2059 # the ending is a format
  printf "$url/$secret$ending" >url-file
  run env TMPDIR="$TMP/tmp" "$UPLOAD_NBDUPLOAD" --plugin "$UPLOAD_PLUGIN" disk.raw +url-file
  expect_status 3
  expect '^nbdupload: URL=\+url-file: ' err
  expect_not "$secret" err
done

begin 'an outage is told while it lasts, and a signal ends it'
env --default-signal=INT TMPDIR="$TMP/tmp" "$UPLOAD_NBDUPLOAD" --plugin "$UPLOAD_PLUGIN" \
  disk.raw "$url/away" "cafile=$CAFILE" >out 2>err </dev/null &
uploader=$!
pids+=("$uploader")
await 20 grep -q '^nbdkit: .*trying again' err || { fail 'it is not told'; show err; }
running $uploader || fail 'it has ended'
kill -s INT $uploader
status=0
wait $uploader || status=$?
expect_status 130
expect '^nbdupload: stopped by SIGINT; the disk at .* is incomplete' err

stop_server
finish
