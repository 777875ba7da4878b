#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# What a monitoring system reads of an upload: the file of metrics=.

. "$(dirname "$0")/lib.sh"

cd "$TMP" || exit 99
metrics=$TMP/watch/guest.prom
mkdir watch
ticket=0f1e2d3c-4b5a-6978
start_server --ticket "$ticket=memory:64M" --ticket one=memory:8M --ticket two=memory:8M \
  --fault 'op=put,ticket=two,times=0,action=status,status=403'
images=https://localhost:$PORT/images
head -c 8M /dev/urandom >image

# What promtool has to say of a file; nothing, if all is well.
checked() { promtool check metrics <"$1" >promtool.log 2>&1 && [ ! -s promtool.log ]; }

well_formed() { checked "$metrics" || { fail 'promtool finds faults'; show promtool.log; }; }

# NAME LABELS: the value of that metric, where the labels contain that text.
value() { sed -n "s|^nbdkit_upload_$1{[^}]*$2[^}]*} ||p" "$metrics"; }

# NAME LABELS VALUE
expect_value() {
  local found
  found=$(value "$1" "$2")
  [ "$found" = "$3" ] || { fail "$1{$2} is '$found', not $3"; show "$metrics"; }
}

# NAME LABELS VALUE: it will be; what waits does so for the next time the file is written.
await_value() {
  await 60 eval '[ "$(value "'"$1"'" '"'$2'"')" = "'"$3"'" ]' || { fail "$1{$2} does not become $3"; show "$metrics"; }
}

begin 'the check sees faults'
printf '# TYPE nbdkit_upload_ms counter\nnbdkit_upload_ms 1\n' >wrong.prom
! checked wrong.prom || fail 'it does not'

begin 'the metrics of a copy are well-formed, add up, and are there at the end'
upload -U - "url=$images/$ticket" "cafile=$CAFILE" "metrics=$metrics" \
  --run 'nbdcopy --flush image "$uri"'
[ $status = 0 ] || { fail "exit status $status"; show err; }
well_formed
expect_value running 'upload="guest"' 0
expect_value size_bytes '' $((64 << 20))
expect_value request_bytes_total 'operation="write"' $((8 << 20))
expect_value failed '' 0
[ "$(value requests_total 'operation="write"')" = "$(counter put)" ] || fail 'not as many requests as the server counts'
[ "$(value requests_total 'operation="write"')" = "$(value request_duration_seconds_count 'operation="write"')" ] ||
  fail 'the histogram has another number of requests'
expect_value connections 'state="idle"' 0

begin 'a metrics file is for everybody to read, with nothing beside it and no secret in it'
[ "$(stat -c %a "$metrics")" = 644 ] || fail "$(stat -c %a "$metrics")"
[ "$(ls watch)" = guest.prom ] || fail "$(ls watch)"
expect_not "$ticket" "$metrics"
expect 'volume="https://localhost:[0-9]*/images/\.\.\."' "$metrics"

begin 'each export has its own metrics'
start_nbdkit "metrics=$metrics" export=sda "url=$images/one" export=sdb "url=$images/two"
timeout "$LIMIT" nbdcopy --flush image "$(uri sda)" || fail 'the copy fails'
! timeout "$LIMIT" nbdcopy --flush "${one_at_a_time[@]}" image "$(uri sdb)" 2>copy.log || fail 'the copy succeeds'
end_nbdkit 30
well_formed
expect_value request_bytes_total 'volume="sda",operation="write"' $((8 << 20))
expect_value request_bytes_total 'volume="sdb",operation="write"' 0
expect_value request_failures_total 'volume="sdb",operation="write",failure="denied"' 1
expect_value failed 'volume="sda"' 0
expect_value failed 'volume="sdb"' 1
expect_value connections_limit "server=\"https://localhost:$PORT\"" 4

begin 'metrics go on while a client waits for a server that is away'
stop_server
rm -f target; truncate -s 8M target
start_server --ticket "disk=file:$TMP/target"
images=https://localhost:$PORT/images
mkdir -m 700 spool claims
start_nbdkit "metrics=$metrics" "url=$images/disk" replay=16M retry-time=100 timeout=2 connect-timeout=1 \
  "claim=file:$TMP/claims"
await_value running '' 1
stop_server
timeout "$LIMIT" nbdcopy --flush image "$(uri)" 2>copy.log & copy_pid=$!
pids+=("$copy_pid")
await_value outage '' 1
running $copy_pid || fail 'the client does not wait'
well_formed
expect_value running '' 1
expect_value outages_total '' 1
expect_value claim_held '' 1
expect_value replay_log_limit_bytes '' $((16 << 20))
[ "$(value request_failures_total 'failure="connect"' | head -n 1)" -ge 1 ] || fail 'no failures'
start_server --listen "127.0.0.1:$PORT" --ticket "disk=file:$TMP/target"
wait $copy_pid || { fail 'the copy fails'; show copy.log; }
end_nbdkit 30
cmp image target || fail 'the copy differs'
well_formed
expect_value outage '' 0
expect_value claim_held '' 0
expect_value running '' 0
[ "$(value retries_total '')" -ge 1 ] || fail 'no retries'

begin 'the fill of the spool is shown'
start_nbdkit "metrics=$metrics" "url=$images/disk" replay=8M "spool=$TMP/spool" spool-flush=local \
  spool-size=64M retry-time=100 timeout=2 connect-timeout=1
stop_server
timeout "$LIMIT" nbdcopy --flush image "$(uri)" 2>copy.log || { fail 'the copy fails'; show copy.log; }
await_value spool_state 'state="spooling"' 1
expect_value spool_limit_bytes '' $((64 << 20))
await 60 eval '[ "$(value spool_used_bytes "")" -ge $((8 << 20)) ]' || fail 'the spool is empty'
expect_value unsent_bytes '' $((8 << 20))
well_formed
start_server --listen "127.0.0.1:$PORT" --ticket "disk=file:$TMP/target"
await_value spool_state 'state="direct"' 1
end_nbdkit 60
expect_value spool_changes '' 0
expect_value unsent_bytes '' 0

begin 'an nbdkit in the background writes metrics'
rm -f "$metrics" daemon.pid "$sock"
run "$UPLOAD_SRCDIR/tests/run-nbdkit" --unix "$sock" --pidfile "$TMP/daemon.pid" \
  "url=$images/disk" "cafile=$CAFILE" "metrics=$metrics"
[ $status = 0 ] || { fail "exit status $status"; show err; }
await 20 test -s daemon.pid || fail 'nbdkit does not start'
daemon_pid=$(cat daemon.pid)
pids+=("$daemon_pid")
await 20 test -s "$metrics" || fail 'no metrics'
timeout "$LIMIT" nbdcopy --flush image "$(uri)" || fail 'the copy fails'
kill "$daemon_pid"
await 60 eval '! running $daemon_pid' || { fail 'nbdkit does not end'; kill -9 "$daemon_pid"; }
well_formed
expect_value request_bytes_total 'operation="write"' $((8 << 20))
expect_value running '' 0

# VALUE REGEX: is refused with that.
refused() {
  upload -U - "url=$images/disk" "cafile=$CAFILE" "metrics=$1" --run "touch $TMP/ran"
  [ $status = 1 ] || fail "exit status $status"
  expect_one_error
  expect "$2" err
  [ ! -e ran ] || fail 'the command ran'
}

begin 'a metrics file that can not be written ends the start, by its name'
refused guest.prom 'metrics=guest.prom: must be an absolute path'
refused "$TMP/nowhere/guest.prom" "metrics=$TMP/nowhere/guest.prom: can't be written: No such file or directory"
refused /dev/null 'metrics=/dev/null: must be a regular file'
[ -c /dev/null ] || fail '/dev/null is gone'

begin 'metrics that can not be written later are told of once, and the upload goes on'
start_nbdkit "metrics=$metrics" "url=$images/disk"
await_value running '' 1
rm -r watch
await 60 grep -q 'warning: metrics=' nbdkit.log || fail 'no warning'
timeout "$LIMIT" nbdcopy --flush image "$(uri)" || fail 'the copy fails'
end_nbdkit 30
# The last attempt has failed, too.
[ "$(grep -c "nbdkit: upload: warning: metrics=$metrics: can't be written: No such file or directory; the upload goes on" nbdkit.log)" = 1 ] ||
  { fail 'not one warning'; show nbdkit.log; }

finish
