#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# The spool as its users see it: a server that goes away, and an nbdkit that is
# killed, restarted or ended meanwhile.

. "$(dirname "$0")/lib.sh"

size=$((48 << 20))
sock=$TMP/nbd.sock
uri="nbd+unix:///?socket=$sock"
spool=$TMP/spool
mkdir -m 700 "$spool"
truncate -s $size "$TMP/source.raw" "$TMP/target.raw" "$TMP/other.raw"
dd if=/dev/urandom of="$TMP/source.raw" bs=1M seek=3 count=24 conv=notrunc status=none
dd if=/dev/urandom of="$TMP/source.raw" bs=4k seek=9999 count=3 conv=notrunc status=none
start_server --ticket "disk=file:$TMP/target.raw" --ticket "other=file:$TMP/other.raw"
keys=("url=https://localhost:$PORT/images/disk" "cafile=$CAFILE" replay=8M "spool=$spool"
  spool-flush=local timeout=2 connect-timeout=2 retry-time=60)

kill_server() {
  kill -9 "$SERVER_PID"
  wait "$SERVER_PID" 2>/dev/null
}

restart_server() {
  start_server --listen "127.0.0.1:$PORT" --ticket "disk=file:$TMP/target.raw" \
    --ticket "other=file:$TMP/other.raw"
}

# In KiB, of every file that nbdkit writes.
file_limit=unlimited

# nbdkit in the background; NAME of its log, then more keys.
start_nbdkit() {
  local name=$1; shift
  rm -f "$TMP/nbdkit.pid" "$sock"
  log=$TMP/$name.log
  { ulimit -S -f "$file_limit"
    exec "$UPLOAD_SRCDIR/tests/run-nbdkit" --foreground --unix "$sock" \
      --pidfile "$TMP/nbdkit.pid" "${keys[@]}" "$@" 2>"$log"; } &
  nbdkit_pid=$!
  pids+=("$nbdkit_pid")
  await 30 test -s "$TMP/nbdkit.pid" || { fail 'nbdkit does not start'; show "$log"; }
}

# Tells nbdkit to end, and waits for it.
end_nbdkit() {
  kill "$nbdkit_pid"
  if await 60 eval '! running $nbdkit_pid'; then
    status=0; wait "$nbdkit_pid" || status=$?
    [ $status = 0 ] || { fail "nbdkit: exit status $status"; show "$log"; }
  else
    fail 'nbdkit does not end'; show "$log"
  fi
}

upload_source() {
  run nbdcopy --flush "$TMP/source.raw" "$uri"
  [ $status = 0 ] || { fail "nbdcopy: exit status $status"; show "$TMP/err"; show "$log"; }
}

arrived() { cmp "$TMP/source.raw" "$TMP/target.raw" || fail 'the copy differs'; }

# Empty spools stay where requests have failed: they are for the next start.
nothing_left() {
  local file
  for file in "$spool"/*.spool; do
    [ -e "$file" ] || continue
    grep -qE 'the spool .* stays, empty' "$log" "$TMP/err" || fail "left in the spool: $file"
    rm -f "$file" "$file-journal"
  done
  [ -z "$(ls -A "$spool")" ] || fail "left in the spool: $(ls -A "$spool")"
}

fresh_target() {
  rm -f "$TMP/target.raw"
  truncate -s $size "$TMP/target.raw"
}

begin 'a server that is away is no pause, and has all when nbdkit ends'
start_nbdkit away
kill_server
upload_source
cmp -s "$TMP/source.raw" "$TMP/target.raw" && fail 'there is no server to have it'
restart_server
end_nbdkit
arrived
nothing_left
expect 'the server does not answer, changes go to the spool' "$log"
expect 'the server answers again, [0-9]* bytes in the spool are sent to it' "$log"
expect 'the spool is empty, changes go to the server again' "$log"
expect 'recovered after .* seconds, nothing is lost' "$log"
[ "$(grep -c 'trying again for up to' "$log")" = 1 ] || { fail 'not one line'; show "$log"; }

begin 'without an outage there is nothing in the log, and no file is left'
stop_server; fresh_target; restart_server
start_nbdkit quiet
upload_source
end_nbdkit
arrived
nothing_left
expect_not 'warning' "$log"

begin 'a limit on the size of files is a full disk, and not the end of nbdkit'
stop_server; fresh_target; restart_server
file_limit=4096
start_nbdkit limited
kill_server
run nbdcopy --flush "${one_at_a_time[@]}" "$TMP/source.raw" "$uri"
[ $status != 0 ] || fail 'nbdcopy: 24 MiB fit into 4 MiB'
expect 'No space left' "$TMP/err"
expect 'could not be (written|changed|synced): .*File too large' "$log"
running "$nbdkit_pid" || fail 'nbdkit has ended'
restart_server
# Until it is empty a write may still find it full.
await 60 grep -q 'the spool is empty, changes go to the server again' "$log" ||
  { fail 'the spool is not emptied'; show "$log"; }
upload_source
end_nbdkit
arrived
file_limit=unlimited

begin 'nbdkit killed with a full spool: the next one sends it before it serves anybody'
stop_server; fresh_target; restart_server
start_nbdkit killed
kill_server
upload_source
kill -9 "$nbdkit_pid"; wait "$nbdkit_pid" 2>/dev/null
[ "$(stat -c %a "$spool"/*.spool)" = 600 ] || fail 'others may read the spool'
restart_server
start_nbdkit again
run nbdinfo --size "$uri"
[ $status = 0 ] || { fail "nbdinfo: exit status $status"; show "$TMP/err"; show "$log"; }
arrived
expect 'changes that an earlier run has left in the spool .* are sent first' "$log"
end_nbdkit
nothing_left

begin 'what is left at the end is told, kept, and sent by the next start'
stop_server; fresh_target; restart_server
start_nbdkit ended retry-time=1
kill_server
upload_source
end_nbdkit
file=$(echo "$spool"/*.spool)
expect "[0-9]+ changes of together [0-9]+ bytes are in the spool $file and not on the server yet; they are kept" "$log"
cp "$file" "$TMP/kept.spool"

begin 'with something left, a server that is away is waited for at the start'
upload -U - "${keys[@]}" retry-time=1 --run "touch $TMP/ran"
[ $status = 1 ] || fail "exit status $status"
expect_one_error
expect "$file has changes that are not on the server yet; trying again for up to 1 seconds" "$TMP/err"
expect 'error: .*could not connect' "$TMP/err"
[ ! -e "$TMP/ran" ] || fail 'the command ran'
cmp "$file" "$TMP/kept.spool" || fail 'the spool has changed'

begin 'a spool of another size of disk is refused'
truncate -s 1M "$TMP/target.raw"
restart_server
upload -U - "${keys[@]}" --run "touch $TMP/ran"
[ $status = 1 ] || fail "exit status $status"
expect 'is of a disk of 50331648 bytes, but this one has 1048576' "$TMP/err"
[ ! -e "$TMP/ran" ] || fail 'the command ran'

begin 'a damaged spool is refused and left as it is'
stop_server; fresh_target; restart_server
printf 'x' | dd of="$file" bs=1 seek=$((1 << 20)) conv=notrunc status=none
cp "$file" "$TMP/damaged.spool"
upload -U - "${keys[@]}" --run "touch $TMP/ran"
[ $status = 1 ] || fail "exit status $status"
expect_one_error
expect "the spool $file is damaged: .*; it is left as it is, to be looked into" "$TMP/err"
[ ! -e "$TMP/ran" ] || fail 'the command ran'
cmp "$file" "$TMP/damaged.spool" || fail 'the spool has changed'

begin 'the spool of another disk is left alone, and does not disturb'
sum=$(sha256sum <"$file")
keys[0]="url=https://localhost:$PORT/images/other"
upload -U - "${keys[@]}" --run "nbdcopy --flush '$TMP/source.raw' \"\$uri\""
[ $status = 0 ] || { fail "exit status $status"; show "$TMP/err"; }
cmp "$TMP/source.raw" "$TMP/other.raw" || fail 'the copy differs'
[ "$(sha256sum <"$file")" = "$sum" ] || fail 'the spool has changed'
keys[0]="url=https://localhost:$PORT/images/disk"

begin 'a copy of the spool of another disk is refused and kept'
rm -f "$spool"/*
keys[0]="url=https://localhost:$PORT/images/disk"
start_nbdkit copied retry-time=1
kill_server
upload_source
end_nbdkit
restart_server
file=$(echo "$spool"/*.spool)
keys[0]="url=https://localhost:$PORT/images/other"
start_nbdkit named
name=$(basename "$spool"/*.lock .lock)  # of the one that runs
end_nbdkit
mv "$file" "$spool/$name"
file=$spool/$name
cp "$file" "$TMP/kept.spool"
cp "$TMP/other.raw" "$TMP/other.before"
upload -U - "${keys[@]}" --run "touch $TMP/ran"
[ $status = 1 ] || fail "exit status $status"
expect_one_error
expect "the spool $file is of another disk, [0-9a-f]{32}, than its name says, [0-9a-f]{32}" "$TMP/err"
[ ! -e "$TMP/ran" ] || fail 'the command ran'
cmp "$file" "$TMP/kept.spool" || fail 'the spool has changed'
cmp "$TMP/other.raw" "$TMP/other.before" || fail 'it was sent'
keys[0]="url=https://localhost:$PORT/images/disk"

begin 'a spool that others may have written is refused and kept'
rm -f "$spool"/*
start_nbdkit planted retry-time=1
kill_server
upload_source
end_nbdkit
restart_server
file=$(echo "$spool"/*.spool)
sum=$(sha256sum <"$file")
chmod 666 "$file"
upload -U - "${keys[@]}" --run "touch $TMP/ran"
[ $status = 1 ] || fail "exit status $status"
expect_one_error
expect "the spool $file has mode 0666, with which others may write to it: it is not used" "$TMP/err"
chmod 600 "$file"
chmod 1777 "$spool"
upload -U - "${keys[@]}" --run "touch $TMP/ran"
[ $status = 1 ] || fail "exit status $status"
expect_one_error
expect "spool=$spool: has mode 1777, with which others may make files there: say chmod go-w" "$TMP/err"
chmod 700 "$spool"
[ ! -e "$TMP/ran" ] || fail 'the command ran'
[ "$(sha256sum <"$file")" = "$sum" ] || fail 'the spool has changed'

begin 'a spool that is removed while in use: writes and flushes fail, and nothing of others goes'
rm -f "$spool"/*
start_nbdkit removed retry-time=20
kill_server
upload_source
mv "$spool" "$spool.moved"
mkdir -m 700 "$spool"
file=$(cd "$spool.moved" && echo *.spool)
echo another >"$spool/$file"
echo another >"$spool/$file.lock"
run qemu-io -f raw -c flush "$uri"
[ $status != 0 ] || fail 'the flush succeeds'
expect "the spool $spool/$file has been replaced while in use" "$log"
run qemu-io -f raw -c 'write 0 4k' "$uri"
[ $status != 0 ] || fail 'the write succeeds'
kill "$nbdkit_pid"
await 60 eval '! running $nbdkit_pid' || { fail 'nbdkit does not end'; kill -9 "$nbdkit_pid"; }
[ "$(cat "$spool/$file" "$spool/$file.lock")" = "$(printf 'another\nanother')" ] ||
  fail "in the spool's directory: $(ls -A "$spool")"
rm -r "$spool.moved"
rm -f "$spool"/*
restart_server

# What an upload under `localhost` leaves, and the next ones under 127.0.0.1 find.
leave_something() {
  rm -f "$spool"/*
  fresh_target
  restart_server
  keys[0]="url=https://localhost:$PORT/images/disk"
  start_nbdkit "left-$1" retry-time=1
  kill_server
  upload_source
  end_nbdkit
  file=$(echo "$spool"/*.spool)
  restart_server
  keys[0]="url=https://127.0.0.1:$PORT/images/disk"
}

left="the spool $spool/[0-9a-f-]*.spool of https://localhost:[0-9]+/images/\.\.\., with [0-9]+ \
changes of together [0-9]+ bytes, the last of 20[0-9-]+ [0-9:]+ UTC, for a disk of $size bytes"

begin 'what is left under another spelling of the host must be decided'
stop_server
leave_something fail
sum=$(sha256sum <"$file")
upload -U - "${keys[@]}" --run "touch $TMP/ran"
[ $status = 1 ] || fail "exit status $status"
expect_one_error
expect "same path, which may be of this disk and older than what is on it: $left; say \
spool-leftovers=send to send them first, or spool-leftovers=discard to drop them" "$TMP/err"
expect_not 'images/disk|warning' "$TMP/err"
[ ! -e "$TMP/ran" ] || fail 'the command ran'
[ "$(sha256sum <"$file")" = "$sum" ] || fail 'the spool has changed'
compgen -G "$spool/*.lock" >/dev/null && fail 'a lock is left'

begin 'the same URL is not asked: what it has left is sent, and the time is told'
keys[0]="url=https://localhost:$PORT/images/disk"
start_nbdkit same-url
run nbdinfo --size "$uri"
arrived
expect 'has left in the spool .*, the last at 20[0-9-]+ [0-9:]+ UTC, are sent first' "$log"
end_nbdkit
nothing_left

begin 'a disk of another size under the same path of another host is another disk'
stop_server
leave_something size
stop_server
rm "$TMP/target.raw"
truncate -s $((2 * size)) "$TMP/target.raw"
restart_server
sum=$(sha256sum <"$file")
for decision in fail send discard; do
  upload -U - "${keys[@]}" "spool-leftovers=$decision" --run 'nbdinfo --size "$uri"'
  [ $status = 0 ] || { fail "$decision: exit status $status"; show "$TMP/err"; }
  expect "$left, is left alone: this disk has $((2 * size)) bytes" "$TMP/err"
  [ "$(sha256sum <"$file")" = "$sum" ] || fail "$decision: the spool has changed"
done

begin 'spool-leftovers=send sends what is left under another spelling of the host'
stop_server
leave_something send
start_nbdkit sent spool-leftovers=send
run nbdinfo --size "$uri"
[ $status = 0 ] || { fail "nbdinfo: exit status $status"; show "$TMP/err"; show "$log"; }
arrived
expect "$left, is now $spool/.* \(spool-leftovers=send\)" "$log"
expect 'changes that an earlier run has left in the spool .* are sent first' "$log"
end_nbdkit
nothing_left

begin 'spool-leftovers=send waits for a server that is away, and loses nothing'
stop_server
leave_something away
stop_server
cp "$file" "$TMP/kept.spool"
upload -U - "${keys[@]}" spool-leftovers=send retry-time=1 --run "touch $TMP/ran"
[ $status = 1 ] || fail "exit status $status"
expect_one_error
expect "$file has changes that are not on the server yet; trying again for up to 1 seconds" "$TMP/err"
cmp "$file" "$TMP/kept.spool" || fail 'the spool has changed'
restart_server

begin 'nobody can tell the order of what is left under two hosts'
cp "$file" "${file%-*}-0123456789abcdef0123456789abcdef.spool"
upload -U - "${keys[@]}" spool-leftovers=send --run "touch $TMP/ran"
[ $status = 1 ] || fail "exit status $status"
expect_one_error
expect "spool-leftovers=send: more than one spool has changes for this path: $left, and $left; \
move those away that are not to be sent" "$TMP/err"
[ "$(find "$spool" -type f -name '*spool' | wc -l)" = 2 ] || fail "in the spool's directory: $(ls -A "$spool")"

begin 'spool-leftovers=discard drops what is left under other hosts'
upload -U - "${keys[@]}" spool-leftovers=discard --run 'nbdinfo --size "$uri"'
[ $status = 0 ] || { fail "exit status $status"; show "$TMP/err"; }
[ "$(grep -Ec "$left, is discarded \(spool-leftovers=discard\)" "$TMP/err")" = 2 ] ||
  { fail 'not two lines'; show "$TMP/err"; }
expect_not 'are sent first' "$TMP/err"
cmp -s "$TMP/source.raw" "$TMP/target.raw" && fail 'it was sent'
nothing_left

begin 'spool-leftovers=discard drops what is left of the same URL'
stop_server
leave_something discard
keys[0]="url=https://localhost:$PORT/images/disk"
upload -U - "${keys[@]}" spool-leftovers=discard --run 'nbdinfo --size "$uri"'
[ $status = 0 ] || { fail "exit status $status"; show "$TMP/err"; }
expect "$left, is discarded \(spool-leftovers=discard\)" "$TMP/err"
cmp -s "$TMP/source.raw" "$TMP/target.raw" && fail 'it was sent'
nothing_left

begin 'a live nbdkit with the same path under another host is left alone'
stop_server; fresh_target; restart_server
start_nbdkit live
kill_server
upload_source  # so that it has a file
restart_server
keys[0]="url=https://127.0.0.1:$PORT/images/disk"
upload -U - "${keys[@]}" spool-leftovers=discard --run 'nbdinfo --size "$uri"'
[ $status = 0 ] || { fail "exit status $status"; show "$TMP/err"; }
expect_not 'warning' "$TMP/err"
keys[0]="url=https://localhost:$PORT/images/disk"
end_nbdkit
arrived
nothing_left

begin 'two nbdkits with one spool: the second does not start'
rm -f "$spool"/*
start_nbdkit first
upload -U - "${keys[@]}" --run "touch $TMP/ran"
[ $status = 1 ] || fail "exit status $status"
expect_one_error
expect "spool=$spool: another nbdkit uses $spool/.*, the spool of this disk" "$TMP/err"
[ ! -e "$TMP/ran" ] || fail 'the command ran'
upload_source
end_nbdkit
arrived
nothing_left

begin 'in the background nbdkit has the spool too'
stop_server; fresh_target; restart_server
upload --pidfile "$TMP/daemon.pid" --unix "$sock.daemon" "${keys[@]}"
[ $status = 0 ] || { fail "exit status $status"; show "$TMP/err"; }
await 20 test -s "$TMP/daemon.pid" || fail 'nbdkit does not start'
kill_server
run nbdcopy --flush "$TMP/source.raw" "nbd+unix:///?socket=$sock.daemon"
[ $status = 0 ] || { fail "nbdcopy: exit status $status"; show "$TMP/err"; }
restart_server
daemon_pid=$(cat "$TMP/daemon.pid")
kill "$daemon_pid"
await 60 eval '! running $daemon_pid' || { fail 'nbdkit does not end'; kill -9 "$daemon_pid"; }
arrived
nothing_left

begin 'a flush that waits for the server ends after the retry time, and loses nothing'
stop_server; fresh_target; restart_server
start_nbdkit remote spool-flush=remote retry-time=2
kill_server
run nbdcopy --flush "${one_at_a_time[@]}" "$TMP/source.raw" "$uri"
[ $status != 0 ] || fail 'nbdcopy: exit status 0'
expect 'could not flush: .* are in the spool .*, which has taken nothing for 2 seconds' "$log"
restart_server
end_nbdkit
arrived
nothing_left

finish
