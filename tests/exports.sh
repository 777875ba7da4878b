#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Many disks in one nbdkit, as its users see them: what is listed and opened, what is refused,
# what they share, and that the trouble of one stays its own.

# Some functions here are called by their name only.
# shellcheck disable=SC2317
. "$(dirname "$0")/lib.sh"

cd "$TMP" || exit 99
disks=23
mebibytes=4
many=200

# --- One server for all cases; the faults of a ticket are its own -------------

tickets=()
for ((i = 1; i <= disks; i++)); do
  tickets+=(--ticket "disk-$i=memory:${mebibytes}M")
  head -c ${mebibytes}M /dev/urandom >"image-$i"
done
for ((i = 1; i <= many; i++)); do tickets+=(--ticket "many-$i=memory:64K"); done
tickets+=(--ticket denied=memory:4M --ticket stalled=memory:4M --ticket 'idle=memory:4M,idle-ms=2000'
  --fault 'op=put,ticket=denied,times=0,action=status,status=403'
  --fault 'op=put,ticket=stalled,times=0,action=stall')
start_server "${tickets[@]}"
images=https://localhost:$PORT/images

all_exports() {
  local i
  for ((i = 1; i <= disks; i++)); do echo "export=disk$i" "url=$images/disk-$i"; done
}

begin 'every export is listed, with its own size, and described without a secret'
# shellcheck disable=SC2046
upload -U - "cafile=$CAFILE" $(all_exports) \
  --run 'nbdinfo --list "$uri" && nbdinfo "nbd+unix:///disk2?socket=$unixsocket"'
[ $status = 0 ] || { fail "exit status $status"; show err; }
[ "$(grep -c '^export="disk[0-9]*":$' out)" = $((disks + 1)) ] || { fail 'not all are listed'; show out; }
expect "description: localhost, $((mebibytes << 20)) bytes" out
expect_not 'disk-[0-9]' out

begin 'the first export is the default, and a name that is unknown is refused with those there are'
upload -U - "cafile=$CAFILE" export=one "url=$images/disk-1" export=two "url=$images/disk-2" size=4M \
  --run 'nbdinfo "$uri"; nbdinfo "nbd+unix:///three?socket=$unixsocket"'
expect '^export="one":$' out
expect "error: there is no export 'three'; there are: one, two" err

begin 'without export= any name will do, as ever'
upload -U - "cafile=$CAFILE" "url=$images/disk-1" --run 'nbdinfo --size "nbd+unix:///any?socket=$unixsocket"'
expect "^$((mebibytes << 20))$" out

begin "$disks exports copied at once share four connections, and arrive"
# shellcheck disable=SC2046
start_nbdkit $(all_exports)
jobs=()
for ((i = 1; i <= disks; i++)); do
  timeout "$LIMIT" nbdcopy --flush "image-$i" "$(uri disk$i)" 2>"copy-$i.log" & jobs+=($!)
done
for ((i = 1; i <= disks; i++)); do
  wait "${jobs[i - 1]}" || { fail "disk $i"; show "copy-$i.log"; }
done
for ((i = 1; i <= disks; i++)); do
  timeout "$LIMIT" nbdcopy "$(uri disk$i)" - | cmp - "image-$i" || fail "disk $i is another one"
done
most=$(counter max_active_requests)
# Eight servers are asked at once at the start.
[ "$most" -le 8 ] || fail "$most requests at once"
end_nbdkit 20

begin 'a file names exports'
{ echo '['
  echo "  {\"name\": \"sda\", \"url\": \"$images/disk-1\"},"
  echo "  {\"name\": \"a b\", \"url\": \"+$TMP/secret-url\", \"size\": \"${mebibytes}M\"}"
  echo ']'; } >exports.json
echo "$images/disk-2" >secret-url
upload -U - "cafile=$CAFILE" "exports=$TMP/exports.json" --run 'nbdinfo --list "$uri"'
expect '^export="sda":$' out
expect '^export="a b":$' out

begin "$many exports are listed and opened"
{ echo '['
  for ((i = 1; i <= many; i++)); do
    [ $i = 1 ] || echo ','
    printf '{"name": "many%d", "url": "%s/many-%d"}' $i "$images" $i
  done
  echo ']'; } >many.json
start_nbdkit "exports=$TMP/many.json"
[ "$(nbdinfo --list "$(uri '')" | grep -c '^export=')" = $many ] || fail 'not all are listed'
for i in 1 57 $many; do
  printf x | timeout 20 nbdcopy --flush - "$(uri many$i)" 2>copy.log || { fail "many$i"; show copy.log; }
done
end_nbdkit 20

begin 'a ticket that is denied ends its own disk, and no other'
start_nbdkit replay=8M export=denied "url=$images/denied" export=good "url=$images/disk-3"
timeout "$LIMIT" nbdcopy --flush image-3 "$(uri good)" 2>good.log & good=$!
timeout "$LIMIT" nbdcopy --flush "${one_at_a_time[@]}" image-1 "$(uri denied)" 2>denied.log && fail 'the denied one succeeds'
wait $good || { fail 'the other fails'; show good.log; }
timeout "$LIMIT" nbdcopy "$(uri good)" - | cmp - image-3 || fail 'the other is wrong'
expect 'every request fails from now on: export denied, .*403' nbdkit.log
expect_not 'every request fails from now on: export good' nbdkit.log
end_nbdkit 20

begin 'a disk that its server never answers for leaves the others their connections'
start_nbdkit max-request=64K export=stalled "url=$images/stalled" export=good "url=$images/disk-4" timeout=600
timeout "$LIMIT" nbdcopy --flush image-1 "$(uri stalled)" 2>stalled.log & stalled=$!
pids+=("$stalled")
await 20 eval '[ "$(counter stalled)" -ge 3 ]' || fail 'nothing stalls'
timeout "$LIMIT" nbdcopy --flush image-4 "$(uri good)" 2>good.log || { fail 'the other fails'; show good.log; }
timeout "$LIMIT" nbdcopy "$(uri good)" - | cmp - image-4 || fail 'the other is wrong'
running "$stalled" || fail 'the stalled one has ended'
[ "$(counter stalled)" = 3 ] || fail "it has $(counter stalled) of four connections"
kill "$stalled"
# Without replay a request ends when the server, or the time-out, ends it.
kill -9 "$nbdkit_pid"
wait "$nbdkit_pid" 2>/dev/null

begin 'a disk whose turn is late finds its connection and its ticket alive'
start_nbdkit idle-timeout=0.5 export=busy "url=$images/disk-5" export=late "url=$images/idle"
printf x | timeout 20 nbdcopy - "$(uri late)" 2>late.log || { fail 'the first write'; show late.log; }
before=$(counter flush)
await 20 eval '[ "$(counter flush)" -ge '$((before + 6))' ]' || fail 'nothing is kept alive'
printf y | timeout 20 nbdcopy --flush - "$(uri late)" 2>late.log || { fail 'the second write'; show late.log; }
end_nbdkit 20

begin 'five copies that run do not keep nbdkit from its end'
start_nbdkit export=a "url=$images/disk-6" export=b "url=$images/disk-7" export=c "url=$images/disk-8" \
  export=d "url=$images/disk-9" export=e "url=$images/disk-10" --filter=rate rate=2M
jobs=()
for name in a b c d e; do
  timeout "$LIMIT" nbdcopy image-1 "$(uri $name)" 2>/dev/null & jobs+=($!)
done
before=$(counter put)
await 20 eval '[ "$(counter put)" -gt '"$before"' ]' || fail 'nothing is copied'
end_nbdkit 20
for job in "${jobs[@]}"; do wait "$job"; done

# --- The start -----------------------------------------------------------------

closed=https://localhost:1/images/gone
begin 'by default all exports must be reachable'
upload -U - "cafile=$CAFILE" export=one "url=$images/disk-1" export=gone "url=$closed" --run true
[ $status != 0 ] || fail 'it starts'
expect '^nbdkit: error: export gone, https://localhost:1' err
expect_one_error

begin 'with start=any one is enough, and the others are tried again when they are opened'
printf '%s' "$closed" >url
start_nbdkit start=any export=gone "url=$closed" export=one "url=$images/disk-1"
expect 'warning: not started, and tried again when a client opens it .start=any.: export gone' nbdkit.log
nbdinfo "$(uri gone)" >out 2>&1 && fail 'what is not there is opened'
nbdinfo "$(uri one)" >out 2>&1 || { fail 'the other is not opened'; show out; }
expect 'error: export gone, https://localhost:1' nbdkit.log
end_nbdkit 20
port=$PORT pid=$SERVER_PID
start_server --ticket later=memory:4M
later=$PORT
stop_server
start_nbdkit start=any connect-timeout=2 insecure=true export=one "url=https://localhost:$port/images/disk-1" \
  export=later "url=https://localhost:$later/images/later"
nbdinfo "$(uri later)" >out 2>&1 && fail 'what is not there is opened'
start_server --listen "127.0.0.1:$later" --ticket later=memory:4M
timeout 60 nbdcopy --flush image-1 "$(uri later)" 2>copy.log || { fail 'it is not tried again'; show copy.log; show nbdkit.log; }
timeout 60 nbdcopy "$(uri later)" - | cmp - image-1 || fail 'it is wrong'
end_nbdkit 20
stop_server
SERVER_PID=$pid

begin 'with start=any at least one must be reachable'
upload -U - "cafile=$CAFILE" start=any export=one "url=$closed" export=two "url=$closed-2" --run true
[ $status != 0 ] || fail 'it starts'
expect_one_error

finish
