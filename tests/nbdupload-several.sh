#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# nbdupload with several disks: what arrives, that one which fails keeps no other from
# arriving, and how the progress is shown to whom.

. "$(dirname "$0")/lib.sh"
cd "$TMP" || exit 99
preload_nbdkit
mkdir tmp
size=$((8 << 20))
secret=ticket-to-be-kept-secret

head -c 3M /dev/urandom >one.raw
truncate -s $size one.raw
seq 300000 >two
truncate -s $size two
qemu-img convert -f raw -O qcow2 two two=2.qcow2 || exit 99
cp one.raw three.raw
printf three | dd of=three.raw conv=notrunc bs=1 seek=4000000 status=none

tickets=()
for name in one two three $secret; do
  tickets+=(--ticket "$name=file:$TMP/at-$name,size=$size,writers=8")
done
tickets+=(--ticket "larger=memory:$((size * 2))" --ticket "fails=memory:$size"
          --ticket "forgets=discard:$size" --ticket "slow=memory:$size" --ticket "slow2=memory:$size"
          --ticket "nosize=memory:$size" --ticket "nosize2=memory:$size"
          --fault "op=options,ticket=expired,times=0,action=status,status=403"
          --fault "op=put,ticket=fails,times=0,action=status,status=403"
          --fault "op=put,ticket=slow,times=0,action=delay,delay=500"
          --fault "op=put,ticket=slow2,times=0,action=delay,delay=500")
for name in nosize nosize2; do
  tickets+=(--fault "op=get,ticket=$name,times=0,action=status,status=500"
            --fault "op=extents,ticket=$name,times=0,action=status,status=500")
done
start_server "${tickets[@]}"
url=https://localhost:$PORT/images

try() {
  run env TMPDIR="$TMP/tmp" "$UPLOAD_NBDUPLOAD" --plugin "$UPLOAD_PLUGIN" "$@" "cafile=$CAFILE"
}
expect_status() {
  [ "$status" = "$1" ] || { fail "exit status $status instead of $1"; show err; }
  [ -z "$(ls "$TMP/tmp")" ] || fail "left behind: $(ls "$TMP/tmp")"
}
expect_same() { cmp "$1" "$2" >"$TMP/cmp" 2>&1 || fail "$(cat "$TMP/cmp")"; }
expect_arrived() {
  expect_same one.raw at-one
  expect_same two at-two
  expect_same three.raw at-three
  for name in one two three; do truncate -s 0 at-$name; truncate -s $size at-$name; done
}

begin 'each image arrives at its own disk, whatever its name and format'
try --verify --map "one.raw=$url/one" --map "two=2.qcow2=$url/two" --map "three.raw=$url/three"
expect_status 0
expect_arrived
for name in one.raw two=2.qcow2 three.raw; do
  expect "^nbdupload: '$name': 8.0 MiB in 0:0[0-9], .* of data and .* of zeroes in [0-9]+ requests, 0 retries, verified$" err
done
expect '^nbdupload: done; the copies are identical' err

begin 'one after the other arrive too'
echo "$url/three" >url-file
try --jobs=1 --quiet --map "one.raw=$url/one" --map "two=2.qcow2=$url/two" --map three.raw=+url-file
expect_status 0
expect_arrived
[ ! -s err ] || { fail 'it says'; show err; }

begin 'a list says what goes where, in JSON or in lines'
cat >list.json <<END
[{"image": "one.raw", "url": "$url/one", "format": "raw"},
 {"image": "two=2.qcow2", "url": "$url/two"}, {"image": "three.raw", "url": "+url-file"}]
END
printf "# what goes where\none.raw\t$url/one\traw\n\ntwo=2.qcow2\t%s\nthree.raw\t+url-file\r\n" \
  "$url/two" >list.tsv
for list in list.json list.tsv; do
  try --list=$list
  expect_status 0
  expect_arrived
done

begin 'a list that is none is refused, with the place and without what is in it'
printf '[{"image": "one.raw", "link": "%s"}]' "$secret" >bad1
printf '[{"image": "one.raw"}]' >bad2
printf 'one.raw\t%s/one\none.raw %s\n' "$url" "$secret" >bad3
printf '# nothing\n' >bad4
printf '[{"image": 1, "url": "%s"}]' "$secret" >bad5
printf '["%s"' "$secret" >bad6
for bad in "bad1', entry 1: unknown key 'link'" "bad2', entry 1: image and url" \
  "bad3', line 2: " "bad4' names no image" "bad5', entry 1: image is not" "bad6' is not a JSON"; do
  try --list="${bad%%\'*}"
  expect_status 2
  expect "^nbdupload: --list: '$bad" err
  expect_not "$secret" err
done
try --map "one.raw $secret"
expect_status 2
expect_not "$secret" err
try --list=missing
expect_status 3
try --jobs=0 --list=list.json
expect_status 2
try --list=list.json stray
expect_status 2

begin 'nothing is sent if one of them can not be'
before=$(counter changes)
try --map "one.raw=$url/one" --map "missing.raw=$url/two"
expect_status 3
expect "^nbdupload: 'missing.raw': no such file" err
try --map "one.raw=$url/one" --map "two=2.qcow2=$url/expired"
expect_status 3
expect "^nbdupload: 'two=2.qcow2', .*403.*nothing was sent" err
try --map "one.raw=$url/one" --map "two=2.qcow2=$url/larger"
expect_status 3
expect "^nbdupload: 'two=2.qcow2' has $size bytes, less than the $((size * 2))" err
try --map "one.raw=$url/one" --map "two=2.qcow2=$url/one"
expect_status 3
expect "^nbdupload: 'one.raw' and 'two=2.qcow2' have the same url=" err
[ "$(counter changes)" = "$before" ] || fail 'there were changes'

begin 'one that fails is named, and the others arrive'
try --verify --map "one.raw=$url/one" --map "two=2.qcow2=$url/fails" --map "three.raw=$url/three"
expect_status 1
expect "^nbdupload: 'two=2.qcow2': the upload failed; the disk at .* is incomplete" err
expect "^nbdupload: 'one.raw': .*, verified" err
expect '^nbdupload: 1 of 3 disks failed' err
expect_same one.raw at-one
expect_same three.raw at-three

begin 'one that differs is named'
try --verify --map "one.raw=$url/one" --map "two=2.qcow2=$url/forgets" --map "three.raw=$url/three"
expect_status 4
expect "^nbdupload: 'two=2.qcow2': verification failed: the disk at .* differs from 'two=2.qcow2'" err
expect_not "'(one|three).raw': verification failed" err
expect '^nbdupload: 1 of 3 disks failed' err

begin 'of one that is incomplete and one that differs the worse decides the exit status'
try --verify --map "one.raw=$url/forgets" --map "two=2.qcow2=$url/fails" --map "three.raw=$url/three"
expect_status 1
expect "^nbdupload: 'one.raw': verification failed" err
expect "^nbdupload: 'two=2.qcow2': the upload failed; the disk at .* is incomplete" err
expect '^nbdupload: 2 of 3 disks failed' err

begin 'sizes are the images'\'' if the server does not tell them'
try --map "one.raw=$url/nosize" --map "two=2.qcow2=$url/nosize2"
expect_status 0
expect '^nbdupload: warning: the server does not tell the size of each disk' err

begin 'a dry run shows all commands and no ticket'
try --dry-run --verify --map "one.raw=$url/$secret" --map "two=2.qcow2=$url/$secret"
expect_status 0
[ "$(grep -c '^nbdcopy ' out)" = 4 ] || { fail 'not four copies'; show out; }
[ "$(grep -c '^nbdcopy --flush --connections=1 --requests=1 ' out)" = 2 ] ||
  { fail 'one that fails could end the others'; show out; }
[ "$(grep -c '^nbdkit ' out)" = 3 ] || { fail 'not three nbdkits'; show out; }
expect ' export=disk2 url=https://localhost:[0-9]+/images/\.\.\.$' out
expect_not "$secret" out

begin 'programs get one object a line, and nothing else is on standard output'
try --progress=json --verify --map "one.raw=$url/one" --map "two=2.qcow2=$url/forgets"
expect_status 4
"${PYTHON:-python3}" - out <<'END' >objects 2>&1 || { fail 'they are not as they should be'; show objects; show out; }
import json, sys
events = [json.loads(line) for line in open(sys.argv[1])]
assert [e["event"] for e in events[:2]] == ["begin", "begin"], events[:2]
assert {e["image"] for e in events} == {"one.raw", "two=2.qcow2"}
ends = {e["image"]: e for e in events if e["event"] == "end"}
assert ends["one.raw"]["state"] == "done", ends
assert ends["two=2.qcow2"]["state"] == "failed" and "differs" in ends["two=2.qcow2"]["why"], ends
steps = [e for e in events if e["event"] == "progress" and e["image"] == "one.raw"]
assert any(e["state"] == "uploading" and e["percent"] == 100 for e in steps), steps
assert all(0 <= e["done"] <= e["size"] == 8 << 20 for e in steps), steps
END

begin 'the percentage of all is told to a file descriptor'
run env TMPDIR="$TMP/tmp" bash -c 'exec 7>progress; exec "$@"' - "$UPLOAD_NBDUPLOAD" \
  --plugin "$UPLOAD_PLUGIN" --progress-fd=7 --list=list.json "cafile=$CAFILE"
expect_status 0
[ "$(tail -n 1 progress)" = 100/100 ] && [ "$(grep -c '^100/100$' progress)" = 1 ] ||
  { fail 'it does not end with 100'; show progress; }
sort -n -c progress || fail 'it goes back'

begin 'a terminal has a bar for each and one for all'
command="$(printf '%q ' env TERM=xterm TMPDIR="$TMP/tmp" "$UPLOAD_NBDUPLOAD" --plugin "$UPLOAD_PLUGIN" \
  --list=list.json "cafile=$CAFILE")"
run script -qec "$command" /dev/null
expect_status 0
expect 'one.raw +100% \[\*+\]  done' out
expect '3 of 3 disks +100% \[\*+\]' out

begin 'SIGINT with several under way leaves nothing, and names those that are incomplete'
env --default-signal=INT TMPDIR="$TMP/tmp" "$UPLOAD_NBDUPLOAD" --plugin "$UPLOAD_PLUGIN" \
  --jobs=1 --map "one.raw=$url/slow" --map "three.raw=$url/slow2" "cafile=$CAFILE" \
  connections=1 write-back=false >out 2>err </dev/null &
uploader=$!
pids+=("$uploader")
await 20 grep -q "uploading 'one.raw'" err || { fail 'it does not begin'; show err; }
kill -s INT $uploader
status=0
wait $uploader || status=$?
expect_status 130
expect "^nbdupload: stopped by SIGINT; 'one.raw': the disk at .* is incomplete$" err

stop_server
finish
