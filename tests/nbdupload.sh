#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# nbdupload end to end: what arrives, what is refused before anything is sent,
# what every failure ends with, and what is left behind (nothing).
#
# All cases share one server; every ticket is one disk, and its faults are its
# own. Formats that only qemu knows are qemu's business: four stand for them.
# What the plugin does with bad parameters is tested elsewhere.

# Some functions here are called by their name only.
# shellcheck disable=SC2317
. "$(dirname "$0")/lib.sh"

unset http_proxy https_proxy all_proxy HTTPS_PROXY ALL_PROXY

real_path=$PATH
size=$((64 << 20))
secret=ticket-to-be-kept-secret
cd "$TMP" || exit 99

# nbdupload makes its directory here: there must be none in the end.
mkdir "$TMP/tmp"

# A sanitised plugin needs its runtime in nbdkit, and only there.
if [ -n "$UPLOAD_PRELOAD" ]; then
  mkdir preload
  # Its shadow memory is more than nbdupload allows.
  printf '#!/bin/sh\nulimit -S -d unlimited\nexec env LD_PRELOAD="%s" %s "$@"\n' \
    "$UPLOAD_PRELOAD" "$(command -v nbdkit)" >preload/nbdkit
  chmod +x preload/nbdkit
  PATH=$TMP/preload:$PATH
fi

# --- The images -------------------------------------------------------------

# Data in a few places, holes between them.
make_images() {
  truncate -s $size disk.raw
  head -c 20M /dev/urandom | dd of=disk.raw conv=notrunc bs=1M seek=1 status=none
  seq 100000 | dd of=disk.raw conv=notrunc bs=1M seek=40 status=none
  printf end | dd of=disk.raw conv=notrunc bs=1 seek=$((size - 3)) status=none
  truncate -s $size empty.raw
  for format in qcow2 vmdk vhdx; do
    qemu-img convert -f raw -O $format disk.raw disk.$format || exit 99
  done
  cp disk.qcow2 'a disk, with: [blanks].qcow2'
  { seq 20000; head -c 1M /dev/zero; } | head -c 1M >small.raw
  cp --sparse=always disk.raw '[ a raw disk'
  qemu-img create -q -f qcow2 -b disk.qcow2 -F qcow2 overlay.qcow2 || exit 99
}

# What a server may say, to be taken for somebody else: lines, a terminal's orders,
# marks that turn the text round, and words that nbdkit and its filter use. (A body can
# have no comma.)
printf -v forged '%b' 'size= is needed: the server does not tell the size\n' \
  'data written does not match expected\n' \
  'nbdkit: upload.1: error: data written does not match expected: size= is needed: x\n' \
  'nbdupload: done; the copy is identical\r\n\e[2J\xc2\x9b31m\xe2\x80\xae'
forged=${forged%$'\n'}

# Every disk at the server.
make_tickets() {
  local name
  for name in raw qcow2 vmdk vhdx sparse blanks brackets overlay disguised nbd larger odd \
    changed changed-hole terminal $secret; do
    tickets+=(--ticket "$name=file:$TMP/at-$name,size=$size,writers=8")
  done
  for name in exchanged named chain; do
    tickets+=(--ticket "$name=file:$TMP/at-$name,size=$((1 << 20)),writers=8")
  done
  for name in good small nosize old midway lost flush slow shown \
    survives-midway survives-lost survives-flush; do
    tickets+=(--ticket "$name=memory:$size")
  done
  for name in forger forger-midway forger-verify; do
    tickets+=(--ticket "$name=memory:$((1 << 20))")
  done
  tickets+=(--fault "op=options,ticket=forger,times=0,action=status,status=403,body=$forged"
            --fault "op=put,ticket=forger-midway,times=0,action=status,status=500,body=$forged"
            --fault "op=get,ticket=forger-verify,times=0,action=status,status=500,body=$forged")
  tickets+=(--ticket "forgets=discard:$size" --ticket "readonly=memory:$size,readonly")
  tickets+=(--fault "op=options,ticket=expired,times=0,action=status,status=403,body=expired"
            --fault "op=get,ticket=nosize,times=0,action=status,status=500"
            --fault "op=extents,ticket=nosize,times=0,action=status,status=500"
            --fault "op=options,ticket=old,times=0,action=status,status=405"
            --fault "op=put,ticket=midway,nth=3,action=status,status=500"
            --fault "op=put,ticket=lost,nth=3,action=close_after_apply"
            --fault "op=flush,ticket=flush,action=status,status=500"
            --fault "op=put,ticket=survives-midway,nth=3,action=status,status=500"
            --fault "op=put,ticket=survives-lost,nth=3,action=close_after_apply"
            --fault "op=flush,ticket=survives-flush,action=status,status=500"
            --fault "op=put,ticket=slow,times=0,action=delay,delay=2000"
            --fault "op=put,ticket=$secret,times=0,action=delay,delay=1000")
}

# --- Helpers ----------------------------------------------------------------

nbdupload=("$UPLOAD_NBDUPLOAD" --plugin "$UPLOAD_PLUGIN")

# nbdupload [OPTION...] IMAGE TICKET, with the parameters in $more
more=()
try() {
  run env TMPDIR="$TMP/tmp" "${nbdupload[@]}" "${@:1:$#-1}" "$url/${*: -1}" "cafile=$CAFILE" \
    ${more[@]+"${more[@]}"}
}

expect_status() {
  [ "$status" = "$1" ] || { fail "exit status $status instead of $1"; show "$TMP/err"; }
}

expect_silence() {
  [ ! -s "$TMP/err" ] || { fail "messages:"; show "$TMP/err"; }
}

# One line, and nothing was done to any disk.
expect_refusal() {
  expect_status "$1"
  [ "$(wc -l <"$TMP/err")" = 1 ] || { fail "not one line:"; show "$TMP/err"; }
  expect "^nbdupload: .*$2" "$TMP/err"
}

# Nothing that a terminal would obey. What the tests name has nothing else in it.
expect_printable() {
  ! grep -q '[^ -~]' "$1" || { fail "not printable:"; sed -n l "$1" >&2; }
}

expect_same() {
  cmp "$1" "$2" >"$TMP/cmp" 2>&1 || { fail "$(cat "$TMP/cmp")"; }
}

expect_nothing_left() {
  [ -z "$(ls "$TMP/tmp")" ] || { fail "left behind: $(ls "$TMP/tmp")"; rm -rf "$TMP"/tmp/*; }
}

# What the server has counted under a name.
counter() {
  local lines
  lines=$(wc -l <"$TMP/server.log")
  kill -USR1 "$SERVER_PID"
  await 10 more_lines "$lines" || { echo "the server does not count" >&2; exit 99; }
  tail -n 1 "$TMP/server.log" | sed "s/.*\"$1\":\\([0-9]*\\).*/\\1/"
}
more_lines() { [ "$(wc -l <"$TMP/server.log")" -gt "$1" ]; }

# The process and all that it has started, by the parents in /proc.
family() {
  local stat line fields pid
  local -A parents=()
  local -a found=("$1") next=("$1")
  for stat in /proc/[0-9]*/stat; do
    { read -r line <"$stat"; } 2>/dev/null || continue
    pid=${stat#/proc/}
    # After the name, which may have anything in it: state and parent.
    read -ra fields <<<"${line##*) }"
    parents[${pid%/stat}]=${fields[1]}
  done
  while [ ${#next[@]} -gt 0 ]; do
    local -a children=()
    for pid in "${!parents[@]}"; do
      [[ " ${next[*]} " != *" ${parents[$pid]} "* ]] || children+=("$pid")
    done
    found+=(${children[@]+"${children[@]}"})
    next=(${children[@]+"${children[@]}"})
  done
  printf '%s\n' "${found[@]}"
}

# The process id of a program among them.
member() {
  local pid
  for pid in $(family "$1"); do
    [ "$(cat "/proc/$pid/comm" 2>/dev/null)" != "$2" ] || { echo "$pid"; return 0; }
  done
  return 1
}
has_member() { member "$@" >/dev/null; }

# nbdupload in the background, until it copies; sets $uploader and $members.
# SIGINT is ignored in a script's background jobs, unless told otherwise.
start_uploader() {
  env --default-signal=INT TMPDIR="$TMP/tmp" "${nbdupload[@]}" "$@" "cafile=$CAFILE" \
    >"$TMP/out" 2>"$TMP/err" </dev/null &
  uploader=$!
  pids+=("$uploader")
  await 20 has_member $uploader nbdcopy || fail "does not start to copy"
  members=$(family $uploader)
}

await_uploader() {
  status=0
  wait "$uploader" 2>/dev/null || status=$?
}

gone() {
  local pid
  for pid in $members; do ! running "$pid" || return 1; done
}

expect_gone() {
  await "$1" gone || { fail "still running:"; echo "$members" >&2; }
}

# --- What arrives -----------------------------------------------------------

make_images
tickets=()
make_tickets
start_server "${tickets[@]}" >"$TMP/urls"
url=https://localhost:$PORT/images

# --- What is waited for in vain, while the rest goes on ----------------------

# A vmdk whose data is a pipe, and a qemu-nbd that does not start to serve.
mkfifo never
qemu-img create -q -f vmdk -o subformat=monolithicFlat pipe.vmdk 1M
sed -i "s|pipe-flat.vmdk|$TMP/never|" pipe.vmdk
mkdir stuck
printf '#!/bin/sh\nexec sleep 1000\n' >stuck/qemu-nbd
chmod +x stuck/qemu-nbd
start_waiting() {
  mkdir "$TMP/$1-tmp"
  PATH=$3:$PATH TMPDIR=$TMP/$1-tmp timeout -k 5 "$LIMIT" "${nbdupload[@]}" "$2" "$url/small" \
    "cafile=$CAFILE" >"$TMP/$1.out" 2>"$TMP/$1.err" </dev/null &
  waiting[$1]=$!
  pids+=($!)
}
declare -A waiting
start_waiting look pipe.vmdk "$TMP"
start_waiting open disk.vhdx "$TMP/stuck"
# Sets $status and $TMP/err as run does.
await_waiting() {
  status=0
  wait "${waiting[$1]}" || status=$?
  cp "$TMP/$1.err" "$TMP/err"
  [ -z "$(ls "$TMP/$1-tmp")" ] || fail "left behind: $(ls "$TMP/$1-tmp")"
}

for format in raw qcow2 vmdk vhdx; do
  begin "a $format image arrives as it is"
  try "disk.$format" "$format"
  expect_status 0
  expect_silence
  expect_same disk.raw "at-$format"
  [ $format = raw ] || qemu-img compare -q disk.$format -F raw "at-$format" ||
    fail "qemu-img finds a difference"
  expect_nothing_left
done

begin "holes are not sent as data"
before=$(counter bytes_put)
try disk.raw sparse
expect_status 0
sent=$(($(counter bytes_put) - before))
[ $sent -lt $((24 << 20)) ] || fail "$sent bytes were sent"
try empty.raw sparse
expect_status 0
expect_same empty.raw at-sparse

begin "names of files may have blanks and brackets in them"
try 'a disk, with: [blanks].qcow2' blanks
expect_status 0
expect_same disk.raw at-blanks
try -- '[ a raw disk' brackets
expect_status 0
expect_same disk.raw at-brackets

begin "a name is a name, whatever it means to others"
qemu-img convert -f raw -O qcow2 small.raw small.qcow2
for name in -rf a:b 'json:{"driver": "raw"}' '[x]' "\$(touch injected)" 'fd:0' 'nbd:localhost:1' \
  "--help" '%s%n' 'a,b=c' "it's" $'lines\nof\e[31mit' $'\xe2\x80\xaetxet' $'\xc2\x9b31m' $'\xff\xfe'; do
  truncate -s 0 at-named; truncate -s 1M at-named
  for suffix in '' .raw; do
    if [ -n "$suffix" ]; then cp small.raw "./$name$suffix"; else cp small.qcow2 "./$name"; fi
    try -- "$name$suffix" named
    expect_status 0
    expect_silence
    expect_same small.raw at-named
    rm -- "./$name$suffix"
  done
  try -- "$name" named
  expect_refusal 3 "no such file"
  expect_printable "$TMP/err"
  [ ! -e injected ] || fail "it was run"
done
expect_nothing_left

begin "a name in UTF-8 is shown as it is"
try 'grün.qcow2' named
expect_refusal 3 "'grün.qcow2': no such file"

begin "an NBD server can be the source"
nbdkit -f -U "$TMP/source" -P "$TMP/source.pid" file disk.raw &
pids+=($!)
await 10 test -s "$TMP/source.pid" || fail "nbdkit does not start"
try "nbd+unix:///?socket=$TMP/source" nbd
expect_status 0
expect_same disk.raw at-nbd

begin "the URL can come from a file"
echo "$url/good" >url-file
run env TMPDIR="$TMP/tmp" "${nbdupload[@]}" disk.raw +url-file "cafile=$CAFILE"
expect_status 0

begin "a server that has neither flush nor zero is good enough"
try --verify disk.raw old
expect_status 0
expect_silence

begin "the size is the image's if the server does not tell it"
try disk.raw nosize
expect_status 0
expect "^nbdupload: warning: .* does not tell the size .*$size" "$TMP/err"

# --- Images that refer to other files ---------------------------------------

begin "an image with a backing file is refused without its format"
try overlay.qcow2 overlay
expect_refusal 3 "'overlay.qcow2' \(qcow2\) refers to '.*disk.qcow2'.*--format=qcow2"

begin "an image with a backing file arrives if its format is given"
try --format=qcow2 overlay.qcow2 overlay
expect_status 0
expect_same disk.raw at-overlay
expect "read together with '.*disk.qcow2'" "$TMP/err"

begin "a raw disk that a guest made look like an overlay is not taken for one"
qemu-img create -q -f qcow2 -b /etc/passwd -F raw disguised.raw
truncate -s $size disguised.raw
try disguised.raw disguised
expect_refusal 3 "refers to '/etc/passwd'"
try --format=raw disguised.raw disguised
expect_status 0
expect_same disguised.raw at-disguised

begin "a chain of files arrives if the format is given, whatever their names and places"
mkdir -p chain/below
cp small.raw 'chain/below/gr"ün \ 😀.raw'
(cd chain/below && qemu-img create -q -f qcow2 -b 'gr"ün \ 😀.raw' -F raw middle.qcow2) || exit 99
(cd chain && qemu-img create -q -f qcow2 -b below/middle.qcow2 -F qcow2 top.qcow2) || exit 99
try --format=qcow2 chain/top.qcow2 chain
expect_status 0
expect_same small.raw at-chain
expect "read together with '.*below/middle.qcow2'" "$TMP/err"
expect_printable "$TMP/err"

begin "a vmdk or qcow2 whose data is in another file is refused without its format, else it arrives"
qemu-img convert -f raw -O vmdk -o subformat=monolithicFlat small.raw chain/flat.vmdk
cp small.raw data-file
qemu-img create -q -f qcow2 -o data_file="$TMP/data-file",data_file_raw=on chain/data.qcow2 1M
cp small.raw data-file
for format in vmdk qcow2; do
  [ $format = vmdk ] && name=flat.vmdk other=flat-flat.vmdk || name=data.qcow2 other=data-file
  try "chain/$name" chain
  expect_refusal 3 "'chain/$name' \($format\) refers to '.*$other'; .*--format=$format"
  expect_not /dev/fd "$TMP/err"
  truncate -s 0 at-chain; truncate -s 1M at-chain
  try --format=$format "chain/$name" chain
  expect_status 0
  expect_same small.raw at-chain
done

# --- Images that others may exchange or change ------------------------------

# What must never arrive, and images that would bring it: in a backing file or as data.
yes TOPSECRET | head -c 1M >topsecret
make_hostile() {
  local format
  for format in qcow2 qcow qed vmdk; do
    if [ $format = vmdk ]; then qemu-img convert -f raw -O vmdk topsecret topsecret.vmdk
    else cp topsecret topsecret.$format
    fi
    qemu-img create -q -f $format -b "$TMP/topsecret.$format" \
      -F "$([ $format = vmdk ] && echo vmdk || echo raw)" hostile-backing.$format || exit 99
  done
  cp topsecret topsecret-data
  qemu-img create -q -f qcow2 -o data_file="$TMP/topsecret-data",data_file_raw=on \
    hostile-data.qcow2 1M || exit 99
  cp topsecret topsecret-data
  qemu-img create -q -f vmdk -o subformat=monolithicFlat hostile-data.vmdk 1M || exit 99
  sed -i "s|hostile-data-flat.vmdk|$TMP/topsecret|" hostile-data.vmdk
  rm hostile-data-flat.vmdk
  for format in raw vhdx vpc vdi parallels; do
    # shellcheck disable=SC2046 # words are wanted
    qemu-img convert -f raw -O "$format" $(small_options "$format") topsecret \
      "hostile-other.$format" ||
      exit 99
  done
}
small_options() { [ "$1" != vpc ] || echo "-o force_size=on"; }
make_hostile

# A qemu-img that, after each look at the image, does what somebody else may do.
mkdir exchange
cat >exchange/qemu-img <<EXCHANGE
#!/bin/bash
"$(command -v qemu-img)" "\$@"
status=\$?
[ "\$1" != info ] || [ ! -e "\$HOSTILE" ] || eval "\$EXCHANGE"
exit \$status
EXCHANGE
chmod +x exchange/qemu-img
# shellcheck disable=SC2016 # they are expanded later
exchange_name='mv -f "$HOSTILE" victim' change_content='cat "$HOSTILE" >victim; rm "$HOSTILE"'

# try_exchanged WHAT IMAGE HOSTILE [OPTION...]
try_exchanged() {
  cp "$2" victim
  cp "$3" hostile
  truncate -s 0 at-exchanged; truncate -s 1M at-exchanged
  PATH=$TMP/exchange:$PATH HOSTILE=$TMP/hostile EXCHANGE=$1 try "${@:4}" victim exchanged
  [ ! -e hostile ] || fail "$3 was not exchanged"
  ! grep -aq TOPSECRET at-exchanged || fail "$3 brought foreign data"
  expect_nothing_left
}

for hostile in hostile-*; do
  format=${hostile##*.}
  begin "an image exchanged for $hostile after the look at it arrives as it was"
  # shellcheck disable=SC2046 # words are wanted
  qemu-img convert -f raw -O "$format" $(small_options "$format") small.raw small.img || exit 99
  try_exchanged "$exchange_name" small.img "$hostile"
  expect_status 0
  expect_same small.raw at-exchanged
  [ "$format" != raw ] || continue
  try_exchanged "$exchange_name" small.img "$hostile" --format="$format"
  expect_status 0
  expect_same small.raw at-exchanged
done

for hostile in hostile-backing.* hostile-data.*; do
  begin "an image that becomes $hostile after the look at it brings no foreign data"
  qemu-img convert -f raw -O "${hostile##*.}" small.raw small.img || exit 99
  try_exchanged "$change_content" small.img "$hostile"
  [[ $hostile != hostile-data* ]] ||
    expect_refusal 3 "'victim' refers to '.*topsecret.*', which it did not when it was looked at"
done

begin "a trusted overlay is not exchanged either"
qemu-img create -q -f qcow2 -b "$TMP/small.raw" -F raw small-overlay.qcow2
# shellcheck disable=SC2016 # they are expanded later
for what in "$exchange_name" '[[ " $* " != *" --backing-chain "* ]] || mv -f "$HOSTILE" victim'; do
  try_exchanged "$what" small-overlay.qcow2 hostile-backing.qcow2 --format=qcow2
  expect_status 3
  expect "^nbdupload: 'victim' (refers to|has been exchanged)" "$TMP/err"
done

# --- Verification -----------------------------------------------------------

begin "verification of a good copy succeeds"
try --verify disk.qcow2 good
expect_status 0
expect_silence
try --verify disk.raw good
expect_status 0

begin "verification finds that the server kept nothing"
try --verify disk.raw forgets
expect_status 4
expect '^nbdupload: verification failed: .* differs' "$TMP/err"
expect_nothing_left
try disk.raw forgets
expect_status 0

# An nbdcopy that changes a byte at the server when the upload is over.
mkdir meddle
cat >meddle/nbdcopy <<MEDDLE
#!/bin/bash
PATH=$PATH
nbdcopy "\$@" || exit
[[ " \$* " != *" --flush "* ]] || printf X | dd of="\$TARGET" bs=1 seek=\$AT conv=notrunc status=none
MEDDLE
chmod +x meddle/nbdcopy

begin "verification finds a changed byte of data"
PATH=$TMP/meddle:$PATH TARGET=$TMP/at-changed AT=20000000 try --verify disk.raw changed
expect_status 4
expect '^nbdupload: verification failed: .* differs' "$TMP/err"

begin "verification finds a changed byte in a hole"
PATH=$TMP/meddle:$PATH TARGET=$TMP/at-changed-hole AT=60000001 \
  try --verify disk.qcow2 changed-hole
expect_status 4
expect '^nbdupload: verification failed: .* differs' "$TMP/err"

# --- What is shown ----------------------------------------------------------

begin "a dry run connects to nothing and shows no secret"
run env TMPDIR="$TMP/tmp" "${nbdupload[@]}" --dry-run --verify disk.qcow2 \
  "https://localhost:1/images/$secret?x=$secret" user=me password=$secret client-secret=$secret \
  "header=X: $secret" "proxy=http://me:$secret@proxy"
expect_status 0
expect '^qemu-nbd .*disk.qcow2' "$TMP/out"
expect '^nbdkit .* url=.*https://localhost:1/images/\.\.\.' "$TMP/out"
expect '^nbdcopy .*--flush' "$TMP/out"
expect '^nbdkit .*checkwrite' "$TMP/out"
expect_not "$secret" "$TMP/out"
expect_silence
expect_nothing_left

begin "a dry run shows no ticket, wherever it is in the URL"
for rest in "/images/$secret/" "/images/$secret//" "/images/$secret/extents" "/images/$secret/x?y" \
  "//images/$secret" "/$secret" "/$secret/x" "/images/x/$secret/y" "\\images\\$secret" \
  "?images/$secret" "#/$secret" ":$secret@host/images/x" $'\n/images/'"$secret/"; do
  run env TMPDIR="$TMP/tmp" "${nbdupload[@]}" --dry-run disk.raw "https://localhost:1$rest"
  expect_status 0
  expect_not "$secret" "$TMP/out"
  expect_not "$secret" "$TMP/err"
  # Where the image should be, and a parameter.
  run env TMPDIR="$TMP/tmp" "${nbdupload[@]}" "https://localhost:1$rest" disk.raw
  expect_refusal 2 "the image comes first"
  expect_not "$secret" "$TMP/err"
  run env TMPDIR="$TMP/tmp" "${nbdupload[@]}" disk.raw "$url/small" "https://localhost:1$rest"
  expect_refusal 2 "KEY=VALUE is expected"
  expect_not "$secret" "$TMP/err"
done

begin "a dry run is printable, and a shell would take it"
name=$'a\nb\e[31m\xe2\x80\xae\'c'
cp small.raw "./$name"
run env TMPDIR="$TMP/tmp" "${nbdupload[@]}" --dry-run --format=raw "$name" "$url/small"
expect_status 0
expect_printable "$TMP/out"
words=$(sed -n '/^nbdcopy/s/.*<//p' "$TMP/out")
eval "words=$words"
[ "$words" = "$PWD/$name" ] || fail "it is $words"

begin "nothing that a server says passes for nbdupload's or nbdkit's own words"
try small.raw forger
expect_refusal 3 "403: .*nothing was sent"
expect_printable "$TMP/err"
expect_not '^nbdupload: (done|warning)' "$TMP/err"
more=(replay=0)
try small.raw forger-midway
expect_status 1
expect_printable "$TMP/err"
! grep -Ev '^(nbdkit|nbdcopy|nbdupload): ' "$TMP/err" >&2 || fail "there are other lines"
expect_not '^nbdupload: (done|warning|verif)' "$TMP/err"
expect '^nbdupload: the upload failed; .* incomplete' "$TMP/err"
try --verify small.raw forger-verify
expect_status 4
expect_printable "$TMP/err"
expect_not '^nbdupload: done|^nbdupload: .*differs' "$TMP/err"
expect '^nbdupload: verification failed: .* could not be read back' "$TMP/err"
more=()

begin "progress can be read by a program"
run env TMPDIR="$TMP/tmp" bash -c 'exec 7>progress; exec "$@"' - "${nbdupload[@]}" \
  --progress-fd=7 disk.raw "$url/shown" "cafile=$CAFILE"
expect_status 0
expect '^100/100$' progress
! grep -vE '^[0-9]+/100$' progress >&2 || fail "there are other lines"
try --progress-fd=77 disk.raw shown
expect_refusal 2 "'77' is not a file descriptor"

begin "there is a progress bar on a terminal, and none if it is not wanted"
command="$(printf '%q ' env TMPDIR="$TMP/tmp" "${nbdupload[@]}" disk.raw "$url/terminal" "cafile=$CAFILE")"
run script -qec "$command" /dev/null
expect_status 0
expect '100% \[\*+\]' "$TMP/out"
run script -qec "$command --quiet" /dev/null
expect_status 0
[ ! -s "$TMP/out" ] || fail "it says $(cat "$TMP/out")"

begin "help and version are told"
run "${nbdupload[@]}" --help
expect_status 0
expect '^usage: nbdupload' "$TMP/out"
run env TMPDIR="$TMP/tmp" "${nbdupload[@]}" --version
expect_status 0
nbdkit "$UPLOAD_PLUGIN" --dump-plugin >"$TMP/dump"
expect "^nbdupload $(sed -n 's/^upload_version=//p' "$TMP/dump")\$" "$TMP/out"
expect_nothing_left

# --- What is refused, before anything is sent -------------------------------

before=$(counter changes)

begin "an image that is larger than the target is refused"
cp --sparse=always disk.raw larger.raw
truncate -s +1 larger.raw
try --format=raw larger.raw small
expect_refusal 3 "'larger.raw' has $((size + 1)) bytes, more than the $size"
expect_nothing_left

begin "a target that is larger than the image is refused unless allowed"
truncate -s $((size - 4096)) smaller.raw
try --format=raw smaller.raw larger
expect_refusal 3 "'smaller.raw' has $((size - 4096)) bytes, less than the $size .*--allow-larger"

begin "a file that is missing, unreadable, empty or none is refused"
try missing.raw small
expect_refusal 3 "'missing.raw': no such file"
try . small
expect_refusal 3 "'.' is a directory"
try /dev/null small
expect_refusal 3 "'/dev/null' is neither a file nor a block device"
try - small
expect_refusal 2 "'-': standard input"
: >nothing.raw
try --format=raw nothing.raw small
expect_refusal 3 "'nothing.raw' is empty"
cp disk.qcow2 forbidden; chmod 0 forbidden
if [ "$(id -u)" = 0 ]; then
  # root may read it, so somebody else has to try, who may not get to where it was built.
  chmod 711 "$TMP"
  cp "$UPLOAD_NBDUPLOAD" uploader
  status=0
  setpriv --reuid=65534 --regid=65534 --clear-groups \
    ./uploader forbidden "$url/small" >"$TMP/out" 2>"$TMP/err" || status=$?
else
  try forbidden small
fi
expect_refusal 3 "'forbidden' can't be read"

begin "a pipe is not waited for, by whatever name"
mkfifo pipe
ln -s pipe link-to-pipe
for name in pipe link-to-pipe; do
  try $name small
  expect_refusal 3 "'$name' is neither a file nor a block device"
  try --format=raw $name small
  expect_refusal 3 "'$name' is neither a file nor a block device"
done

begin "an image that makes a program take much memory is refused"
# A vdi with a table of 2 GiB, which is not there.
qemu-img create -q -f vdi greedy.vdi 16M
printf '\0\0\0\370\377\377\1\0' | dd of=greedy.vdi bs=1 seek=368 conv=notrunc status=none
printf '\200\377\377\37' | dd of=greedy.vdi bs=1 seek=384 conv=notrunc status=none
truncate -s 4G greedy.vdi
try greedy.vdi small
expect_refusal 3 "'greedy.vdi' can't be opened: .*([Mm]emory)"
expect_nothing_left

begin "an image that is not what it is said to be is refused"
try --format=qcow2 disk.raw small
expect_refusal 3 "'disk.raw' can't be opened as qcow2: .*not in qcow2 format"
try --format=floppy disk.raw small
expect_refusal 2 "unknown format 'floppy'"
head -c 100000 disk.qcow2 >cut.qcow2
printf 'XXXXXXXX' | dd of=cut.qcow2 bs=1 seek=40 conv=notrunc status=none
try cut.qcow2 small
expect_refusal 3 "'cut.qcow2'"
expect_nothing_left

begin "a bad command line is refused"
for arguments in '' disk.raw "disk.raw ftp://host/images/$secret" "$url/$secret disk.raw" \
  "disk.raw $url/$secret stray" "--unknown disk.raw $url/$secret" "--format" \
  "disk.raw $url/small url=$url/$secret" "disk.raw $secret"; do
  # shellcheck disable=SC2086 # words are wanted
  run "${nbdupload[@]}" $arguments
  expect_refusal 2 ''
  expect_not "$secret" "$TMP/err"
done

begin "a bad URL is refused without telling it"
for bad in "https://" "https://host" "https://me:$secret@host/images/x" \
  "https://host/images/$secret#x" "https://host/images/$secret a"; do
  run env TMPDIR="$TMP/tmp" "${nbdupload[@]}" disk.raw "$bad"
  expect_refusal 3 URL
  expect_not "$secret" "$TMP/err"
done
run env TMPDIR="$TMP/tmp" "${nbdupload[@]}" disk.raw +missing-url
expect_refusal 3 "missing-url"

begin "a secret that is too long, or looks like an option, is refused without telling it"
{ printf %s "$secret"; head -c 70000 /dev/zero | tr '\0' x; echo; } >long
for bad in user=me\ password=+long header=+long token=+long proxy=+long "password=-$secret"; do
  # shellcheck disable=SC2086 # words are wanted
  run env TMPDIR="$TMP/tmp" "${nbdupload[@]}" disk.raw "$url/small" "cafile=$CAFILE" $bad
  expect_refusal 3 "(65535 bytes|not a file descriptor)"
  expect_not "$secret" "$TMP/err"
done
run env TMPDIR="$TMP/tmp" "${nbdupload[@]}" disk.raw +long
expect_refusal 3 "65535 bytes"

begin "a program that is missing is named"
mkdir programs
for program in bash cat env grep mktemp readlink rm sed setpriv setsid sleep sort stat tail timeout \
  nbdkit nbdcopy nbdinfo qemu-img qemu-nbd; do
  ln -s "$(command -v $program)" programs/
done
for program in nbdkit nbdcopy nbdinfo qemu-img qemu-nbd; do
  mv programs/$program .
  PATH=$TMP/programs run "$(type -P env)" TMPDIR="$TMP/tmp" "${nbdupload[@]}" disk.qcow2 "$url/small"
  expect_refusal 3 "$program is not in PATH"
  mv $program programs/
done
expect_nothing_left

begin "a plugin that is missing, or another one, is refused"
run "$UPLOAD_NBDUPLOAD" --plugin ./none.so disk.raw "$url/small"
expect_refusal 3 "no file './none.so'"
run "$UPLOAD_NBDUPLOAD" --plugin null disk.raw "$url/small"
expect_refusal 3 "'null' is not the upload plugin"

begin "an expired ticket is refused"
try disk.raw expired
expect_refusal 3 "403: the ticket expired.*nothing was sent"
expect_nothing_left

begin "a read-only target is refused"
try disk.raw readonly
expect_refusal 3 "read-only"

begin "a certificate that is not trusted is refused"
run env TMPDIR="$TMP/tmp" "${nbdupload[@]}" disk.raw "$url/small"
expect_refusal 3 "certificate"

begin "an image whose data is a pipe, or which is never opened, is given up in the end"
await_waiting look
expect_refusal 3 "'pipe.vmdk' can't be opened: qemu-img has not answered in [0-9]+ seconds"
await_waiting open
expect_refusal 3 "'disk.vhdx' can't be opened as vhdx: qemu-nbd has not answered in [0-9]+ seconds"

begin "what is refused has changed nothing at the server"
[ "$(counter changes)" = "$before" ] || fail "$(counter changes) changes instead of $before"

begin "a larger target keeps what is behind the image, if allowed"
try disk.raw larger
expect_status 0
try --allow-larger --format=raw --verify smaller.raw larger
expect_status 0
expect "warning: the last 4096 of $size bytes" "$TMP/err"
truncate -s $((size - 4096)) expected.raw
tail -c 4096 disk.raw >>expected.raw
expect_same expected.raw at-larger

begin "an image of an odd size fits into the blocks of the target"
head -c $((size - 1023)) disk.raw >odd.raw
try --format=raw --verify odd.raw odd
expect_status 0
expect "warning: the last 1023 of $size bytes" "$TMP/err"
cmp -n $((size - 1023)) odd.raw at-odd >/dev/null || fail "the copy differs"

# --- Failures on the way ----------------------------------------------------

begin "a connection that is lost, an error or a failed flush on the way is survived"
for name in survives-midway survives-lost survives-flush; do
  try --verify disk.raw $name
  expect_status 0
  expect_nothing_left
done

begin "with a spool on disk an outage may be longer; success still means that all is there"
mkdir -m 700 "$TMP/spool"
more=("spool=$TMP/spool")
try --verify disk.raw good
expect_status 0
[ -z "$(ls -A "$TMP/spool")" ] || fail "left in the spool"
more+=(spool-flush=local)
try disk.raw good
expect_refusal 2 'spool-flush=local: nbdupload ends with success when the server has everything'
more=()

begin "the memory for that is as the user says, and enough for the largest request"
try --dry-run disk.raw good
expect ' replay=268435456 ' "$TMP/out"
more=(replay=16M)
try --dry-run disk.raw good
expect ' replay=268435456 .* replay=16M' "$TMP/out"
more=(max-request=512M)
try --dry-run disk.raw good
expect ' replay=536870912 .* max-request=512M' "$TMP/out"
more=("spool=$TMP/spool" spool-size=64M max-request=1M)
try --dry-run disk.raw good
expect ' replay=67108864 ' "$TMP/out"

begin "with write-back there are more connections, if the user does not say how many"
more=()
try --dry-run disk.raw good
expect ' write-back=true connections=8 ' "$TMP/out"
more=(connections=2)
try --dry-run disk.raw good
expect ' connections=8 .* connections=2' "$TMP/out"
more=(write-back=false)
try --dry-run disk.raw good
expect_not ' connections=8 ' "$TMP/out"

more=(replay=0)
begin "an error of the server in the middle fails the upload, without replay"
try disk.raw midway
expect_status 1
expect 'nbdkit: .*500' "$TMP/err"
expect '^nbdupload: the upload failed; .* incomplete' "$TMP/err"
expect_nothing_left

begin "a connection that is lost with unflushed data fails the upload, without replay"
try disk.raw lost
expect_status 1
expect '^nbdupload: the upload failed; .* incomplete' "$TMP/err"

begin "a flush that fails fails the upload, without replay"
try disk.qcow2 flush
expect_status 1
expect 'nbdkit: .*could not flush' "$TMP/err"
expect '^nbdupload: the upload failed' "$TMP/err"
expect_nothing_left

more=()
begin "what copies has limited memory"
start_uploader disk.qcow2 "$url/slow"
for program in nbdkit nbdcopy qemu-nbd; do
  # Sanitisers need more.
  [ $program != nbdkit ] || [ -z "$UPLOAD_PRELOAD" ] || continue
  expect '^Max data size +[0-9]+ ' "/proc/$(member "$uploader" $program)/limits"
done
kill "$uploader"
await_uploader
expect_gone 5
expect_nothing_left

for program in nbdkit nbdcopy qemu-nbd; do
    begin "the death of $program fails the upload"
  # With write-back the image may have been read whole before its reader dies.
  start_uploader disk.qcow2 "$url/slow" write-back=false
  kill -KILL "$(member "$uploader" $program)"
  await_uploader
  expect_status 1
  expect '^nbdupload: the upload failed' "$TMP/err"
  expect_gone 5
  expect_nothing_left
done

# --- Being stopped, and secrets ---------------------------------------------

begin "no secret is in a process list while an image is uploaded"
echo "$url/$secret" >url-file
echo "$secret-password" >password-file
start_uploader disk.qcow2 +url-file user=me password=+password-file "header=X-Key: $secret"
for pid in $members; do
  [ "$pid" != "$uploader" ] || continue
  ! tr '\0' '\n' <"/proc/$pid/cmdline" 2>/dev/null | grep "$secret" >&2 || fail "it is in a command line"
  ! tr '\0' '\n' <"/proc/$pid/environ" 2>/dev/null | grep "$secret" >&2 || fail "it is in an environment"
done
[ "$(echo "$members" | wc -l)" -ge 4 ] || fail "there are too few processes: $members"
! grep -r "$secret" "$TMP/tmp" >&2 || fail "it is in a file"
await_uploader
expect_status 0
expect_same disk.raw "at-$secret"

for signal in INT TERM HUP; do
  begin "SIG$signal in the middle leaves no process and no file behind"
  start_uploader disk.qcow2 "$url/slow"
  kill -s $signal "$uploader"
  await_uploader
  expect_status $((128 + $(kill -l $signal)))
  expect "^nbdupload: stopped by SIG$signal; .* incomplete" "$TMP/err"
  [ "$(wc -l <"$TMP/err")" = 1 ] || { fail "more than one line:"; show "$TMP/err"; }
  expect_gone 1
  expect_nothing_left
done

begin "what nbdupload has started ends with it, even if it is killed"
start_uploader disk.qcow2 "$url/slow"
kill -KILL "$uploader"
await_uploader
expect_status 137
expect_gone 20

begin "a directory that a killed one has left is removed by the next, and no other is"
[ "$(ls "$TMP/tmp" | wc -l)" = 1 ] || fail "there is not one directory: $(ls "$TMP/tmp")"
start_uploader disk.qcow2 "$url/slow"
[ "$(ls "$TMP/tmp" | wc -l)" = 1 ] || fail "it is still there: $(ls "$TMP/tmp")"
try missing.raw small
[ "$(ls "$TMP/tmp" | wc -l)" = 1 ] || fail "one in use was removed: $(ls "$TMP/tmp")"
kill "$uploader"
await_uploader
expect_gone 5
expect_nothing_left

begin "a server that can't be reached is refused at once"
stop_server
try disk.raw small
expect_refusal 3 "could not connect.*nothing was sent"
expect_nothing_left

PATH=$real_path
finish
