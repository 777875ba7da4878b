#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# How nbdkit command lines end: starts that fail under --run, and virt-v2v's
# way to run the plugin.

. "$(dirname "$0")/lib.sh"
start_server --ticket disk=memory:64M --ticket big=file:"$TMP/target",size=64M,writers=8
url=https://localhost:$PORT/images

begin 'an unreachable server ends --run at once, and the command never runs'
upload -U - "url=https://localhost:1/images/disk" --run "touch $TMP/ran"
[ $status = 1 ] || fail "exit status $status"
expect_one_error
expect 'could not connect' "$TMP/err"
[ ! -e "$TMP/ran" ] || fail 'the command ran'

begin 'a certificate of an unknown CA ends --run'
upload -U - "url=$url/disk" --run "touch $TMP/ran"
[ $status = 1 ] || fail "exit status $status"
expect_one_error
expect 'certificate' "$TMP/err"
[ ! -e "$TMP/ran" ] || fail 'the command ran'

begin 'an unknown ticket ends --run'
upload -U - "url=$url/other" "cafile=$CAFILE" --run "touch $TMP/ran"
[ $status = 1 ] || fail "exit status $status"
expect_one_error
expect 'the ticket expired, was cancelled or does not allow this' "$TMP/err"
[ ! -e "$TMP/ran" ] || fail 'the command ran'

begin 'a path that is no ticket ends --run, and does not blame a ticket'
upload -U - "url=https://localhost:$PORT/disks/disk" "cafile=$CAFILE" --run "touch $TMP/ran"
[ $status = 1 ] || fail "exit status $status"
expect_one_error
expect 'HTTP status 404: no such image at this URL' "$TMP/err"
expect_not 'the ticket' "$TMP/err"
[ ! -e "$TMP/ran" ] || fail 'the command ran'

begin "virt-v2v's command line uploads a disk"
dd if=/dev/urandom of="$TMP/source" bs=1M count=20 status=none
truncate -s 64M "$TMP/source"
sock=$TMP/v2v.sock
"$UPLOAD_SRCDIR/tests/run-nbdkit" --exit-with-parent --foreground --newstyle \
  --pidfile "$TMP/pid" --unix "$sock" --threads 8 \
  -D nbdkit.backend.datapath=0 --verbose \
  size=67108864 url="$url/wrong" cafile="$CAFILE" insecure=true is_ovirt_host=true \
  size=67108864 url="$url/big" cafile="$CAFILE" insecure=false is_ovirt_host=false \
  2>"$TMP/nbdkit.log" &
nbdkit_pid=$!
pids+=("$nbdkit_pid")
if await 20 test -s "$TMP/pid"; then
  run nbdcopy --request-size=4194304 --requests=16 --flush \
    "$TMP/source" "nbd+unix:///?socket=$sock"
  [ $status = 0 ] || { fail "nbdcopy: exit status $status"; show "$TMP/err"; }
  kill "$(cat "$TMP/pid")"
  if await 20 eval '! running $nbdkit_pid'; then
    wait "$nbdkit_pid" || fail "nbdkit: exit status $?"
  else
    fail 'nbdkit does not end after SIGTERM'
  fi
  cmp "$TMP/source" "$TMP/target" || fail 'the copy differs'
else
  fail 'nbdkit does not start'; show "$TMP/nbdkit.log"
fi

begin 'a failed flush makes nbdcopy fail'
stop_server
start_server --ticket disk=memory:64M --fault op=flush,nth=1,action=status,status=500
upload -U - "url=https://localhost:$PORT/images/disk" "cafile=$CAFILE" \
  --run "nbdcopy --flush $TMP/source \"\$uri\""
[ $status != 0 ] || fail 'exit status 0'
expect 'could not flush' "$TMP/err"

begin 'a password at the prompt is not needed when it comes from a descriptor'
stop_server
start_server --ticket disk=memory:64M --authorization 'Basic bWU6aHVudGVyMmh1bnRlcjI='
exec 9<<<'hunter2hunter2'
upload -U - "url=https://localhost:$PORT/images/disk" "cafile=$CAFILE" user=me password=-9 \
  --run 'echo ran'
exec 9<&-
[ $status = 0 ] || { fail "exit status $status"; show "$TMP/err"; }

begin 'statistics are printed at exit when asked for'
# nbdkit -v prints the parameters as they were given: a file keeps them out.
echo 'Authorization: Basic bWU6aHVudGVyMmh1bnRlcjI=' >"$TMP/header"
upload -U - -v -D upload.stats=1 -D upload.http=1 \
  "url=https://localhost:$PORT/images/disk" "cafile=$CAFILE" "header=+$TMP/header" \
  --run "nbdcopy --flush $TMP/source \"\$uri\""
[ $status = 0 ] || { fail "exit status $status"; show "$TMP/err"; }
expect 'write: [0-9]+ requests for [0-9]+ of clients' "$TMP/err"
expect 'zero: [0-9]+ requests' "$TMP/err"
expect 'flush: [0-9]+ requests' "$TMP/err"
expect_not bWU6aHVudGVyMmh1bnRlcjI "$TMP/err"

begin 'statistics are printed without nbdkit -v, and nothing else'
upload -U - -D upload.stats=1 "url=https://localhost:$PORT/images/disk" "cafile=$CAFILE" "header=+$TMP/header" \
  --run "nbdcopy --flush $TMP/source \"\$uri\""
[ $status = 0 ] || { fail "exit status $status"; show "$TMP/err"; }
for operation in write zero flush; do
  [ "$(grep -cE "^nbdkit: upload: $operation: [0-9]+ requests for [0-9]+ of clients" "$TMP/err")" = 1 ] ||
    { fail "not one line for $operation"; show "$TMP/err"; }
done
[ "$(grep -vc '^nbdkit: upload: [a-z-]*: [0-9]* requests for ' "$TMP/err")" = 0 ] || { fail 'there is more'; show "$TMP/err"; }

finish
