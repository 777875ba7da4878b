#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# The end of nbdkit while the server does not answer: it does not wait for
# retry-time, says once what is not on the server, and keeps a spool.

. "$(dirname "$0")/lib.sh"

size=$((64 << 20))
sock=$TMP/nbd.sock
uri="nbd+unix:///?socket=$sock"
truncate -s $size "$TMP/source.raw"
dd if=/dev/urandom of="$TMP/source.raw" bs=1M count=60 conv=notrunc status=none

# More keys: nbdkit with replay= and a client whose server dies under it.
copy_until_the_server_dies() {
  start_server --ticket "disk=memory:64M" --delay-ms 100
  rm -f "$TMP/nbdkit.pid" "$sock"
  log=$TMP/nbdkit.log
  "$UPLOAD_SRCDIR/tests/run-nbdkit" --foreground --unix "$sock" --pidfile "$TMP/nbdkit.pid" \
    "url=https://localhost:$PORT/images/disk" "cafile=$CAFILE" replay=128M retry-time=300 "$@" \
    2>"$log" &
  nbdkit_pid=$!
  pids+=("$nbdkit_pid")
  await 30 test -s "$TMP/nbdkit.pid" || { fail 'nbdkit does not start'; show "$log"; }
  nbdcopy --flush --connections=1 --requests=1 "$TMP/source.raw" "$uri" 2>"$TMP/nbdcopy.err" &
  client_pid=$!
  pids+=("$client_pid")
  await 30 eval "[ \$(stat -c %s \"\$log\") -ge 0 ] && kill -0 $client_pid"
  sleep 0.5  # some of it is on its way; how much does not matter
  kill -9 "$SERVER_PID"; wait "$SERVER_PID" 2>/dev/null
  await 30 grep -q 'trying again' "$log" || { fail 'no outage is seen'; show "$log"; }
}

# With retry-time=300 it must not take as long as that.
ends_soon() {
  kill "$nbdkit_pid"
  await 60 eval '! running $nbdkit_pid' || { fail 'nbdkit does not end'; show "$log"; }
  wait "$nbdkit_pid" 2>/dev/null
  lines=$(wc -l <"$log")
  [ "$lines" -le 8 ] || { fail "$lines lines"; show "$log"; }
}

# The client stays, and has one request under way: nbdkit 1.32 itself may abort when
# one vanishes with others under way.
begin 'SIGTERM in an outage: nbdkit ends, says once what is lost, and the client gets an error'
copy_until_the_server_dies
ends_soon
expect 'nbdkit is to end and the server does not answer: requests that wait for it fail' "$log"
await 30 eval '! running $client_pid' || fail 'nbdcopy does not end'
wait "$client_pid" && fail 'nbdcopy succeeds'

begin 'SIGTERM in an outage with a spool: it is kept'
mkdir -m 700 "$TMP/spool"
copy_until_the_server_dies "spool=$TMP/spool"
await 30 grep -q 'changes go to the spool' "$log" || fail 'the spool is not used'
ends_soon
expect 'changes of together [0-9]+ bytes are in the spool .*; they are kept' "$log"
[ "$(grep -c 'are in the spool' "$log")" = 1 ] || { fail 'it is said more than once'; show "$log"; }
ls "$TMP"/spool/*.spool >/dev/null 2>&1 || fail 'there is no spool'

finish
