#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Claims, as their users see them: two nbdkits and one disk, with lock files and with a real
# etcd cluster of three members, which are killed, stopped and started again.

# Some functions here are called by their name only.
# shellcheck disable=SC2317
. "$(dirname "$0")/lib.sh"

cd "$TMP" || exit 99
start_server --ticket disk-0123456789-a=memory:2M --ticket disk-0123456789-b=memory:2M
url=https://localhost:$PORT/images/disk-0123456789-a
other=https://localhost:$PORT/images/disk-0123456789-b
mkdir claims
image() { printf '%2097152s' '' | tr ' ' "$1" >"image.$1"; }
image A; image B; image C

# The first uploader, with a client that does what is asked, and a second one.
first() { start_nbdkit url="$url" "${claim[@]}" "$@"; }
second() { upload -U - cafile="$CAFILE" url="$url" "${claim[@]}" "$@"; }
# Whether a client of the first can write A, B or C to all of the disk, and flush that.
write() { timeout "$LIMIT" nbdcopy --flush "${one_at_a_time[@]}" "image.$1" "$(uri)" 2>copy.log; }
# The server's disk has that.
has() {
  timeout "$LIMIT" "$UPLOAD_SRCDIR/tests/run-nbdkit" -U - cafile="$CAFILE" url="$url" \
    --run 'nbdcopy "$uri" -' 2>has.log | cmp - "image.$1" || { fail "the disk is not all $1"; show has.log; }
}
succeeds() { [ "$status" = 0 ] || { fail "exit status $status"; show err; }; }
refused() { [ "$status" = 1 ] || fail "exit status $status"; expect_one_error; expect "$1" err; }
# The first is killed, and nobody is there to tell.
kill_first() { kill -9 "$nbdkit_pid"; wait "$nbdkit_pid" 2>/dev/null; }
state() { grep -o '"state":"[a-z]*"' claims/*.claim | cut -d'"' -f4; }

# --- Lock files -----------------------------------------------------------------

claim=(claim=file:"$TMP/claims")

begin 'a second uploader of this host is refused, and told who has the disk'
first
pid=$(cat nbdkit.pid)
second --run 'touch ran'
refused "https://localhost:$PORT/images/\.\.\.: claim=file:$TMP/claims: another uploads to this disk: process $pid on host $(uname -n), since 20..-..-.. ..:..:.. UTC\$"
[ ! -e ran ] || fail 'its command has run'
write A || { fail 'the first can not write'; show copy.log; }
has A

begin 'an upload that was flushed is complete, and is not begun again by mistake'
end_nbdkit 20
[ "$(state)" = complete ] || fail "the state is $(state)"
second --run true
refused 'an upload to this disk is complete: process .*; claim-steal=true uploads to it again$'
second claim-steal=true --run 'nbdcopy --flush image.B "$uri"'
succeeds
has B
[ "$(state)" = complete ] || fail "the state is $(state)"

begin 'who has changed nothing leaves the state as it was'
second claim-steal=true --run 'nbdinfo "$uri"'
succeeds
[ "$(state)" = complete ] || fail "the state is $(state)"
rm claims/*.claim
second --run 'nbdinfo "$uri"'
succeeds
[ "$(state)" = available ] || fail "the state is $(state)"

begin 'an upload that was not flushed has failed'
second --run 'nbdcopy image.A "$uri"'
succeeds
[ "$(state)" = failed ] || fail "the state is $(state)"
second --run true
refused 'an upload to this disk has failed: process .*; claim-steal=true takes it over$'

begin 'so has one whose client was still connected at the end'
first claim-steal=true -v
mkfifo commands
qemu-io -t writeback -f raw "$(uri)" <commands >io.log 2>&1 &
client=$!; pids+=("$client")
exec 7>commands
echo 'write -P 65 0 2M' >&7
await 20 grep -q 'wrote 2097152/2097152' io.log || { fail 'it does not write'; show io.log; }
echo flush >&7
await 20 grep -q 'upload: flush' nbdkit.log || { fail 'it does not flush'; show nbdkit.log; }
kill "$nbdkit_pid"
await 20 signal_was_taken "$nbdkit_pid" TERM || fail 'nbdkit does not take the signal'
exec 7>&-
await 20 eval '! running $nbdkit_pid' || { fail 'nbdkit does not end'; show nbdkit.log; }
[ "$(state)" = failed ] || fail "the state is $(state)"

begin 'the lock of a killed process is free at once, and its upload has to be stolen'
rm claims/*.claim
first
write A || fail 'the first can not write'
pid=$(cat nbdkit.pid)
kill_first
second --run true
refused "an upload to this disk was begun and has not ended, and its process does not have the claim any more: process $pid on host .*; claim-steal=true takes it over\$"
second claim-steal=true --run 'nbdcopy --flush image.B "$uri"'
succeeds
has B

begin 'a live claim is never stolen'
first claim-steal=true
second claim-steal=true --run true
refused 'another uploads to this disk'

begin 'claim-wait waits for it to end'
second claim-steal=true claim-wait=1 --run true
refused 'another uploads to this disk'
expect 'warning: waiting for up to . seconds \(claim-wait=\)' err
timeout "$LIMIT" "$UPLOAD_SRCDIR/tests/run-nbdkit" -U - cafile="$CAFILE" url="$url" "${claim[@]}" claim-steal=true claim-wait=60 \
  --run 'nbdcopy --flush image.C "$uri"' 2>waits.log &
waits=$!
await 20 grep -q 'waiting for up to' waits.log || { fail 'it does not wait'; show waits.log; }
end_nbdkit 20
wait $waits || { fail 'it does not get it'; show waits.log; }
has C

begin 'a claim survives that nbdkit goes to the background'
rm claims/*.claim
"$UPLOAD_SRCDIR/tests/run-nbdkit" --unix "$TMP/background.sock" --pidfile "$TMP/background.pid" \
  cafile="$CAFILE" url="$url" "${claim[@]}"
background=$(cat background.pid); pids+=("$background")
second --run true
refused "another uploads to this disk: process $background "
kill "$background"
await 20 eval '! running $background' || fail 'nbdkit does not end'
second --run true
succeeds

begin 'a start that fails after its claim leaves nothing to be stolen'
upload --foreground -P /nowhere/pid --unix "$TMP/x.sock" cafile="$CAFILE" url="$url" "${claim[@]}"
[ $status != 0 ] || fail 'it starts'
second --run true
succeeds

begin 'who removes the file takes the claim away, which is noticed'
first
rm claims/*.claim
await 20 grep -q 'every request fails from now on' nbdkit.log || fail 'it is not noticed'
expect 'the claim was lost: .* has been removed or replaced' nbdkit.log
write A && fail 'it can still write'
has C
end_nbdkit 20
[ "$(ls claims)" = '' ] || fail 'it has written a state after all'

begin 'the name of the disk counts, not its URL'
first claim-name=disk-1
upload -U - cafile="$CAFILE" url="$other" "${claim[@]}" claim-name=disk-1 --run true
refused 'another uploads to this disk'
second claim-name=disk-2 --run true
succeeds
end_nbdkit 20
rm claims/*.claim

begin 'each export has a claim of its own, and start=any goes on without one that is taken'
first claim-name=disk-a
echo "[{\"name\": \"a\", \"url\": \"$other\", \"claim\": \"disk-a\"}, {\"name\": \"b\", \"url\": \"$url\"}]" >list
upload -U - cafile="$CAFILE" exports=list "${claim[@]}" --run true
refused 'export a, .*: another uploads to this disk'
upload -U - cafile="$CAFILE" exports=list "${claim[@]}" start=any --run \
  'nbdcopy --flush image.A "nbd+unix:///b?socket=$unixsocket"; nbdinfo "nbd+unix:///a?socket=$unixsocket" || echo no'
succeeds
expect '^no$' out
expect 'not started, and tried again when a client opens it' err
end_nbdkit 20
[ "$(state | sort | tr '\n' ' ')" = 'available complete ' ] || fail "the states are $(state)"
rm claims/*.claim

begin 'what can not be used as a claim is one line'
for bad in file file: file:claims file:/nowhere file:"$CAFILE" etcd: etcd:host etcd:https://host:2379/v3 nonsense; do
  upload -U - cafile="$CAFILE" url="$url" claim="$bad" --run true
  refused "^nbdkit: error: claim=$bad: [a-z]"
done
upload -U - cafile="$CAFILE" url="$url" claim=file:/proc --run true
refused '(claim=file:/proc: /proc/[0-9a-f]{64}.claim can.t be opened or made|files can.t be made there): '
second --run true
file=$(ls claims)
: >"claims/$file"; second --run true; succeeds
for content in nonsense '{}' '{"version":2}' "$(cat image.A)"; do
  echo "$content" >"claims/$file"
  second claim-steal=true --run true
  refused "claims/$file is damaged: it "
done
rm "claims/$file"; ln -s "$TMP/nowhere" "claims/$file"; second --run true
refused 'is a symbolic link, which is not followed$'
[ ! -e nowhere ] || fail 'the link was followed'
rm "claims/$file"; : >x; ln x "claims/$file"; second --run true
refused 'has 2 names \(hard links\), and must have one$'
rm "claims/$file"; mkfifo "claims/$file"; second --run true
refused 'is not a file$'
rm "claims/$file"
for server in "https://localhost:$PORT" "http://localhost:$PORT"; do
  upload -U - cafile="$CAFILE" url="$url" claim=etcd:"$server" --run true
  refused "claim=etcd:$server: "
done

# --- etcd -----------------------------------------------------------------------

if ! command -v etcd >/dev/null; then
  begin 'claims in etcd'
  echo 'skipped: there is no etcd; scripts/install-packages check installs it'
  case_name=''; skipped=1
  finish
fi

unset "${!ETCD_@}"
# Members 1 to 3, with clients at $base + 1 to 3 and each other at $base + 11 to 13.
start_member() {
  etcd --name "n$1" --data-dir "$TMP/etcd.$1" --logger zap \
    --listen-client-urls "http://127.0.0.1:$((base + $1))" --advertise-client-urls "http://127.0.0.1:$((base + $1))" \
    --listen-peer-urls "http://127.0.0.1:$((base + 10 + $1))" --initial-advertise-peer-urls "http://127.0.0.1:$((base + 10 + $1))" \
    --initial-cluster "n1=http://127.0.0.1:$((base + 11)),n2=http://127.0.0.1:$((base + 12)),n3=http://127.0.0.1:$((base + 13))" \
    >>"etcd.$1.log" 2>&1 &
  member[$1]=$!
  pids+=("$!")
}
# It takes a change, which only a cluster with a leader does.
works() {
  curl -sf -m 2 -o /dev/null -d '{"key": "eA==", "value": "eA=="}' "http://127.0.0.1:$((base + $1))/v3/kv/put"
}
start_cluster() {
  for i in 1 2 3; do start_member $i; done
  await 30 works 1 && await 30 works 2 && await 30 works 3
}
member=()
base=$((20000 + 20 * ($$ % 500)))
start_cluster || { echo 'etcd does not start' >&2; tail -n 5 etcd.1.log >&2; exit 99; }
url_of() { echo "http://127.0.0.1:$((base + $1))"; }
claim=(claim="etcd:$(url_of 1),$(url_of 2),$(url_of 3)" claim-lease=10)

begin 'with etcd a second uploader is refused as well'
first
pid=$(cat nbdkit.pid)
second claim-steal=true --run true
refused "another uploads to this disk: process $pid on host $(uname -n), since "
write A || { fail 'the first can not write'; show copy.log; }
end_nbdkit 20
has A

begin 'and finds the state that the first has left'
second --run true
refused 'an upload to this disk is complete: process '
second claim-steal=true --run 'nbdcopy image.B "$uri"'
succeeds
second --run true
refused 'an upload to this disk has failed: process '
second claim-steal=true --run true
succeeds
second --run true
refused 'an upload to this disk has failed: process '

begin 'the claim of a killed process stays for its lease, and then has to be stolen'
first claim-steal=true
write C || fail 'the first can not write'
kill_first
second claim-steal=true --run true
refused 'another uploads to this disk'
second claim-wait=30 --run true
refused 'was begun and has not ended'
second claim-steal=true --run 'nbdcopy --flush image.A "$uri"'
succeeds
has A

begin 'a process that was stopped for longer than its lease sends nothing when it goes on'
first claim-steal=true -D upload.claim=1
write B || fail 'the first can not write'
kill -STOP "$nbdkit_pid"
second claim-steal=true claim-wait=60 --run 'nbdcopy --flush image.C "$uri"'
succeeds
before=$(counter requests)
kill -CONT "$nbdkit_pid"
write A && fail 'it writes although another has the claim'
expect 'claim was lost to process|claim ran out' nbdkit.log
await 20 grep -q 'every request fails from now on' nbdkit.log || fail 'nothing is said'
[ "$(counter requests)" = "$before" ] || fail "it has sent $(($(counter requests) - before)) requests"
has C
end_nbdkit 20
second --run true
refused 'an upload to this disk is complete'

begin 'one of three members may be killed'
first claim-steal=true -v -D upload.claim=1
kill -9 "${member[1]}"
renewed=$(grep -c 'renewed' nbdkit.log)
second claim-steal=true --run true
refused 'another uploads to this disk'
await 60 eval '[ "$(grep -c "renewed" nbdkit.log)" -ge $((renewed + 4)) ]' || fail 'it is not renewed'
write B || { fail 'the first can not write any more'; show nbdkit.log; }
second claim-steal=true --run true
refused 'another uploads to this disk'

begin 'all may be killed and started again, and there are never two'
for i in 2 3; do kill -9 "${member[$i]}"; done
wait "${member[@]}" 2>/dev/null
start_cluster || fail 'they do not start again'
second claim-steal=true --run 'nbdcopy --flush image.C "$uri"'
if [ $status = 0 ]; then
  write A && fail 'two have written'
else
  refused 'another uploads to this disk'
  write A || { fail 'nobody can write'; show nbdkit.log; }
fi
end_nbdkit 20

begin 'who can not reach etcd stops before the lease ends'
first claim-steal=true
write B || fail 'the first can not write'
for i in 1 2 3; do kill -STOP "${member[$i]}"; done
await 20 grep -q 'every request fails from now on' nbdkit.log || fail 'it goes on'
expect 'the claim ran out before it was renewed' nbdkit.log
write A && fail 'it can still write'
for i in 1 2 3; do kill -CONT "${member[$i]}"; done
has B
end_nbdkit 20

begin 'the end of nbdkit does not wait for an etcd that does not answer'
second claim-steal=true claim-wait=30 --run true
first claim-steal=true
for i in 1 2 3; do kill -STOP "${member[$i]}"; done
end_nbdkit 20
for i in 1 2 3; do kill -CONT "${member[$i]}"; done
expect 'the claim could not be given back' nbdkit.log

finish
