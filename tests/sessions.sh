#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Logins, as their users see them: tokens from a real token server (oauth2-mock-server, in
# Node.js) and from commands, in front of an upload server that takes those tokens only.

# Some functions here are called by their name only.
# shellcheck disable=SC2317
. "$(dirname "$0")/lib.sh"

cd "$TMP" || exit 99
modules=$UPLOAD_SRCDIR/build-npm
if [ ! -d "$modules/node_modules/oauth2-mock-server" ]; then
  begin 'logins'
  echo "skipped: $modules has no oauth2-mock-server; scripts/check installs it there"
  case_name=''; skipped=1
  finish
fi

# --- An upload server, and a token server -------------------------------------

: >tokens
start_server --tokens "$TMP/tokens" --ticket disk-0123456789-a=memory:8M --ticket disk-0123456789-b=memory:8M
images=https://localhost:$PORT/images
head -c 8M /dev/urandom >image
(cd "$modules" && exec node "$(realpath "$UPLOAD_SRCDIR/tests/login/token_server.mjs")" \
  "$TMP" "$CERTS/cert.pem" "$CERTS/key.pem") &
pids+=($!)
await 30 test -s token-port || { echo 'the token server does not start' >&2; exit 99; }
token_url=https://localhost:$(cat token-port)/token
printf 'client-secret-0123' >secret
client=(token-url="$token_url" client-id=uploader client-secret=+secret)

# What the token server does from now on.
behave() { echo "$1" >behaviour.new; mv behaviour.new behaviour; }
# From now on there is nobody who has logged in.
forget() { : >logins; : >tokens; }
logins() { grep -c '^200 ' logins; }
copy() { timeout "$LIMIT" nbdcopy --flush image "$(uri)" 2>copy.log; }
copy_calmly() { timeout "$LIMIT" nbdcopy --flush "${one_at_a_time[@]}" image "$(uri)" 2>copy.log; }
same() { timeout "$LIMIT" nbdcopy "$(uri)" - 2>copy.log | cmp - image; }

begin 'a client logs in once, for all connections and all clients'
behave '{}'; forget
start_nbdkit "${client[@]}" scope='read write' url="$images/disk-0123456789-a"
copy || { fail 'the copy fails'; show copy.log; }
before=$(counter replies)
for _ in 1 2 3 4 5; do timeout "$LIMIT" nbdinfo --size "$(uri)" >out; done
[ "$(counter replies)" = "$before" ] || fail 'a client that connects costs a request'
same || fail 'the disk is another one'
end_nbdkit 20
[ "$(cat logins)" = '200 client_credentials uploader  read write' ] || { fail 'other logins'; show logins; }

begin 'a user logs in'
forget
upload -U - cafile="$CAFILE" url="$images/disk-0123456789-a" token-url="$token_url" user=joe@internal password=+secret \
  --run 'nbdcopy --flush image "$uri"'
[ $status = 0 ] || { fail "exit status $status"; show err; }
expect '^200 password  joe@internal $' logins

begin 'two exports of a server share one login'
forget
upload -U - cafile="$CAFILE" "${client[@]}" export=a url="$images/disk-0123456789-a" export=b url="$images/disk-0123456789-b" \
  --run 'nbdcopy --flush image "nbd+unix:///a?socket=$unixsocket" &&
         nbdcopy --flush image "nbd+unix:///b?socket=$unixsocket"'
[ $status = 0 ] || { fail "exit status $status"; show err; }
[ "$(logins)" = 1 ] || { fail "$(logins) logins"; show logins; }

begin 'the keeper renews a token before it expires, and nobody notices'
behave '{"life": 3}'; forget
start_nbdkit "${client[@]}" url="$images/disk-0123456789-a" connections=2
copy || { fail 'the copy fails'; show copy.log; }
refused=$(counter error_replies)
await 30 eval '[ "$(logins)" -ge 4 ]' || fail 'it is not renewed'
same || fail 'the disk is another one'
[ "$(counter error_replies)" = "$refused" ] || fail 'a token that was over has been shown'
end_nbdkit 20

begin 'a token that is taken back costs one login, however many requests it concerns'
behave '{}'; forget
start_nbdkit "${client[@]}" url="$images/disk-0123456789-a" replay=64M
for round in 1 2 3; do
  : >tokens
  copy || { fail "copy $round fails"; show copy.log; }
done
same || fail 'the disk is another one'
[ "$(logins)" = 4 ] || { fail "$(logins) logins"; show logins; }
end_nbdkit 20

begin 'without replay too, while nothing is unflushed'
forget
start_nbdkit "${client[@]}" url="$images/disk-0123456789-a"
: >tokens
copy || { fail 'the copy fails'; show copy.log; }
[ "$(logins)" = 2 ] || { fail "$(logins) logins"; show logins; }
end_nbdkit 20

begin 'with reuse-session=false each connection logs in by itself'
forget; before=$(counter connections_accepted)
start_nbdkit "${client[@]}" url="$images/disk-0123456789-a" reuse-session=false
copy || { fail 'the copy fails'; show copy.log; }
same || fail 'the disk is another one'
made=$(($(counter connections_accepted) - before))
[ "$(logins)" = $made ] || { fail "$(logins) logins for $made connections"; show logins; }
end_nbdkit 20

begin 'with replay a login server that fails for a while is waited for'
forget
start_nbdkit "${client[@]}" url="$images/disk-0123456789-a" replay=64M
: >tokens; behave '{"status": 503}'
copy & job=$!
await 30 eval '[ "$(grep -c ^503 logins)" -ge 2 ]' || fail 'nobody tries'
behave '{}'
wait $job || { fail 'the copy fails'; show copy.log; }
same || fail 'the disk is another one'
end_nbdkit 20

begin 'with a spool changes go there while nobody can log in, and then to the server'
forget; mkdir -m 700 spool
head -c 8M /dev/urandom >image
start_nbdkit "${client[@]}" url="$images/disk-0123456789-a" replay=64M spool="$TMP/spool" spool-flush=local
: >tokens; behave '{"status": 503}'
copy || { fail 'the copy fails'; show copy.log; }
[ "$(find spool -name '*.spool' | wc -l)" = 1 ] || fail 'there is no spool'
behave '{}'
end_nbdkit 60
[ -z "$(find spool -name '*.spool')" ] || fail 'something is left in the spool'
start_nbdkit "${client[@]}" url="$images/disk-0123456789-a"
same || fail 'the disk is another one'
end_nbdkit 20

begin 'without replay it fails the requests that need it, and later ones try again'
forget
start_nbdkit "${client[@]}" url="$images/disk-0123456789-a"
: >tokens; behave '{"status": 503}'
! copy_calmly || fail 'the copy succeeds'
expect 'could not log in: https://localhost:[0-9]*: HTTP status 503: server_error' nbdkit.log
behave '{}'
await 30 copy_calmly || { fail 'no copy succeeds any more'; show copy.log; }
same || fail 'the disk is another one'
end_nbdkit 20

begin 'validate-session=true asks when a client connects, and refuses it'
forget
start_nbdkit "${client[@]}" url="$images/disk-0123456789-a" validate-session=true
before=$(counter replies)
timeout "$LIMIT" nbdinfo --size "$(uri)" >out || fail 'a client is refused'
[ "$(counter replies)" = $((before + 1)) ] || fail 'it costs more than one request, or none'
: >tokens; behave '{"valid": false}'
! timeout "$LIMIT" nbdinfo --size "$(uri)" >out 2>&1 || fail 'a client is not refused'
expect 'HTTP status 401' nbdkit.log
end_nbdkit 20

begin 'a login that hangs keeps nbdkit from its end for as long as its time-out'
behave '{}'; forget
start_nbdkit "${client[@]}" url="$images/disk-0123456789-a" timeout=4
: >tokens; behave '{"delay": 100000}'
copy_calmly & job=$!
await 20 eval '[ "$(counter error_replies)" -gt 0 ]'
end_nbdkit 30
! wait $job || fail 'the copy succeeds'
behave '{}'

begin 'spaces, slashes and more in what is sent to the token server'
printf 'a&b=c+d%%e/f' >odd
behave '{"secret": "a&b=c+d%e/f"}'; forget
upload -U - cafile="$CAFILE" url="$images/disk-0123456789-a" token-url="$token_url" user='joe doe' password=+odd \
  --run 'nbdinfo --size "$uri"'
[ $status = 0 ] || { fail "exit status $status"; show err; }

# --- What may be wrong at the start -------------------------------------------

# TEXT PARAMETERS...: nbdkit does not start, and says so.
refuses() {
  local text=$1; shift
  upload -U - cafile="$CAFILE" url="$images/disk-0123456789-a" connect-timeout=2 timeout=2 "$@" --run true
  [ $status != 0 ] || fail 'nbdkit starts'
  expect "$text" err
  expect_one_error
  expect_not 'client-secret-0123' err
}

begin 'a login server that refuses, fails or answers nonsense is named, with the reason'
behave '{"secret": "another"}'
refuses 'could not log in: https://localhost:[0-9]*: HTTP status 401: invalid_client \(no such client, or secret\)' "${client[@]}"
behave '{"status": 503}'
refuses 'HTTP status 503: server_error' "${client[@]}"
behave '{"body": "client-secret-0123"}'
refuses 'the reply is not a JSON object' "${client[@]}"
behave '{"life": 0}'
refuses "the life time '0' is over when it begins" "${client[@]}"
behave "{\"body\": {\"access_token\": \"$(printf '%0100000d' 0)\"}}"
refuses 'the token has 100000 bytes, more than the 65536' "${client[@]}"
behave '{"delay": 60000}'
refuses 'could not log in: https://localhost:[0-9]*: ' "${client[@]}"
behave '{"valid": false}'
refuses 'HTTP status 401: the server wants other credentials' "${client[@]}"
behave '{}'
refuses 'could not log in: https://localhost:1: could not connect' token-url=https://localhost:1/token \
  client-id=uploader client-secret=+secret

begin 'a life time of ten years is as good as any'
behave '{"life": 315360000}'; forget
upload -U - cafile="$CAFILE" url="$images/disk-0123456789-a" "${client[@]}" --run 'nbdcopy --flush image "$uri"'
[ $status = 0 ] || { fail "exit status $status"; show err; }

# --- Commands -----------------------------------------------------------------

begin 'a command gives tokens, and is run again before they expire'
behave '{}'; forget
cat >token <<'END'
token=token-$(date +%s%N)
echo "$token $(($(date +%s) + 3600))" >>tokens
echo ran >>logins
echo "$token"
echo 2
END
start_nbdkit token-script='sh ./token' url="$images/disk-0123456789-a"
copy || { fail 'the copy fails'; show copy.log; }
await 30 eval '[ "$(grep -c ran logins)" -ge 4 ]' || fail 'it is not run again'
same || fail 'the disk is another one'
end_nbdkit 20

begin 'a client that waits for a login does not keep nbdkit from its end'
forget
cat >token <<'END'
if [ -e hang ]; then echo >>hanging; exec sleep 1000; fi
token=token-$(date +%s%N)
echo "$token $(($(date +%s) + 3600))" >>tokens
echo "$token"
echo 1
END
start_nbdkit token-script='sh ./token' start=any export=here url="$images/disk-0123456789-a" \
  export=away url=https://localhost:1/images/disk-0123456789-c
: >hanging; touch hang
# It is refused until the token that its server was to be shown is over.
while [ -e hang ]; do timeout "$LIMIT" nbdinfo --size "$(uri away)" >out 2>&1; done & job=$!
# The keeper, for the other export, and the client.
await 60 eval '[ "$(wc -l <hanging)" -ge 2 ]' || fail 'nobody logs in'
rm hang
end_nbdkit 30
wait $job

begin 'a command that hangs, floods or gives nothing is named, with the reason'
refuses 'token-script: it has not ended within 2 seconds \(timeout=\)' token-script='sleep 1000'
refuses 'token-script: it has printed more than [0-9]* bytes' token-script='exec yes'
refuses 'token-script: it has printed no token' token-script=true
refuses 'token-script: it has ended with status 4: no key' token-script='echo no key >&2; exit 4'

finish
