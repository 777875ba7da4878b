#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Wrong parameters in a real nbdkit: one line that names key and value, a
# status that is not zero, and nothing sent. (What each value's mistake is
# called is tested in unit/config_test.cpp.)

. "$(dirname "$0")/lib.sh"
start_server --ticket disk=memory:64M --stats
good="url=https://localhost:$PORT/images/disk"

# KEY=VALUE PATTERN [MORE KEYS...]: refused with one line like PATTERN.
refused() {
  local what=$1 pattern=$2; shift 2
  begin "refused: $what $*"
  upload -U - "$what" "$@" --run 'echo ran'
  [ $status = 1 ] || fail "exit status $status"
  expect_one_error
  expect "$pattern" "$TMP/err"
  expect_not 'ran' "$TMP/out"
}

for value in '' 0 -1 1x 1.5G 9999999999999999999999; do
  refused "size=$value" "size=$value: must be a size" "$good"
done
for value in '' 0 -1 65 4x; do
  refused "connections=$value" "connections=$value: must be a number from 1 to 64" "$good"
done
for key in connect-timeout timeout idle-timeout; do
  for value in '' 0 -1 nan 10s 999999; do
    refused "$key=$value" "$key=$value: must be a number of seconds" "$good"
  done
done
refused max-request=1 'max-request=1: must be a size from 4K to 1G' "$good"
refused target=ftp 'target=ftp: must be auto or one of: imageio' "$good"
refused insecure=perhaps 'insecure=perhaps: must be true or false' "$good"
refused direct=maybe 'direct=maybe: must be auto, true or false' "$good"
refused direct= 'direct=: must be auto, true or false' "$good"
refused is_ovirt_host=perhaps 'is_ovirt_host=perhaps: must be true or false' "$good"
refused cafile=/nonexistent 'cafile=/nonexistent: cannot be read: No such file' "$good"
long=/$(printf 'x%.0s' {1..300})
refused "cafile=$long" "cafile=$long: cannot be read: File name too long" "$good"
ln -s loop "$TMP/loop"
refused "cafile=$TMP/loop" "cafile=$TMP/loop: cannot be read: Too many levels" "$good"
refused "cafile=$TMP" "cafile=$TMP: must be a file, not a directory" "$good"
refused cert=/nonexistent 'cert=/nonexistent: cannot be read' "$good"
refused key=/nonexistent 'key=/nonexistent: cannot be read' "$good"
refused unix-socket=somewhere 'unix-socket=somewhere: must be auto, none' "$good"
refused spool=relative 'spool=relative: must be an absolute path' "$good" replay=8M
refused spool=/nonexistent "spool=/nonexistent: can't be used: No such file" "$good" replay=8M
refused spool=/etc/passwd 'spool=/etc/passwd: must be a directory' "$good" replay=8M
refused spool=/proc "spool=/proc: files can't be made there" "$good" replay=8M
mkdir "$TMP/shared" && chmod 1777 "$TMP/shared"
refused "spool=$TMP/shared" "spool=$TMP/shared: has mode 1777, with which others may make files \
there: say chmod go-w $TMP/shared, or use a directory of your own" "$good" replay=8M
refused "spool=$TMP" "spool=$TMP needs replay=SIZE" "$good"
refused spool-size=1G 'spool-size=1073741824 needs spool=DIR' "$good" replay=8M
refused spool-flush=local 'spool-flush=local needs spool=DIR' "$good" replay=8M
refused spool-flush=never 'spool-flush=never: must be remote or local' "$good" replay=8M
refused denied-wait=-1 'denied-wait=-1: must be a number of seconds' "$good" replay=8M
refused write-back=true 'write-back=true needs replay=SIZE' "$good"
refused write-back=maybe "write-back=maybe: must be" "$good" replay=8M
refused denied-wait=20 'denied-wait=20 needs replay=SIZE' "$good"
refused denied-wait=20 'denied-wait=20 is more than retry-time=10' "$good" replay=8M retry-time=10
refused spool-leftovers=send 'spool-leftovers=send needs spool=DIR' "$good" replay=8M
begin 'what is shown of a parameter is one line that a terminal only shows'
for value in $'a\nnbdkit: error: forged' $'\e[2J' $'\u202e' $'\x9b'; do
  for key in size spool "x$value"; do
    upload -U - "$key=$value" "$good" --run 'echo ran'
    [ $status = 1 ] || fail "exit status $status"
    expect_one_error
    if LC_ALL=C grep -q $'\e\|\x9b\|\xe2\x80\xae' "$TMP/err"; then fail "$key is printed raw"; fi
    expect_not '^nbdkit: error: forged' "$TMP/err"
  done
done
for value in '' keep SEND; do
  refused "spool-leftovers=$value" "spool-leftovers=$value: must be send, discard or fail" \
    "$good" replay=8M "spool=$TMP"
done
refused spool-size=1M 'spool-size=1048576 is too small for what is in memory, replay=8388608' \
  "$good" replay=8M "spool=$TMP"
refused replay=1M 'replay=1048576 is too small for one request, max-request=4194304' "$good"
refused password=secret 'password= needs user=' "$good"
refused user=me 'user=me needs password=' "$good"
refused password=+/nonexistent 'password=\+/nonexistent: cannot be read' "$good"
refused url=+/nonexistent 'url=\+/nonexistent: cannot be read'
refused header=nonsense 'header=\.\.\.: must be of the form NAME: VALUE' "$good"
refused 'header=Content-Length: 1' 'header=\.\.\.: must not be the content-length field' "$good"
refused nonsense=1 "unknown parameter 'nonsense'" "$good"
refused size=1G 'url= is required'
refused url= 'url=: the URL is empty'
refused url=host/images/x 'is not an absolute URL'
refused url=ftp://host/images/x "has the scheme 'ftp'"
refused url=https:///images/x 'has no host'
refused url=https://host 'has no path'
refused url=https://host:port/x 'is malformed'
refused url=https://me:hunter2@host/x 'has credentials in it'

begin 'the URL may come without its key, and nothing else may'
upload -U - "https://localhost:$PORT/images/disk" "cafile=$CAFILE" --run 'echo ran'
[ $status = 0 ] || { fail "exit status $status"; show "$TMP/err"; }
expect '^ran$' "$TMP/out"

refused size=1G 'size=1073741824 is not the size of the disk at the server, which is 67108864' \
  "$good" "cafile=$CAFILE"

begin 'a secret that was refused is in no line'
upload -U - "$good" 'url=https://me:hunter2@host/x' --run 'echo ran'
expect_not hunter2 "$TMP/err"
upload -U - "$good" "token=hunter2 hunter2" --run 'echo ran'
expect_not hunter2 "$TMP/err"

begin 'nothing was sent to the server but the questions of good starts'
stop_server
expect '"options":2,.*"put":0,"zero":0,"flush":0' "$TMP/server.log"

finish
