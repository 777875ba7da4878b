#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# The nbdkit for virt-v2v: the calls of virt-v2v 2.2.0, in their order, with its signals.

. "$(dirname "$0")/lib.sh"
cd "$TMP" || exit 1

preload_nbdkit
real_path=$PATH
PATH=$UPLOAD_BUILDDIR/v2v:$PATH
export NBDKIT_UPLOAD_PLUGIN=$UPLOAD_PLUGIN
size=67108864

# What virt-v2v writes before it asks for the plugin.
script=$TMP/v2v.abcdef/rhv-upload-plugin.py
mkdir -p "${script%/*}"
cat >"$script" <<'SCRIPT'
import nbdkit
API_VERSION = 2
def open(readonly): return 1
def get_size(h): return 512
def pread(h, buf, offset, flags): pass
SCRIPT

# virt-v2v as its nbdkits and nbdcopys see it: their parent, in a process group of its own, that does not ignore SIGINT.
# Reads commands from its standard input: "start NAME WORD..." starts and goes on, "run NAME WORD..." waits. In NAME.pid is
# the process that was forked, in NAME.status how the one that was waited for has ended.
cat >v2v.pl <<'PERL'
use strict; use warnings;
setpgrp;
$SIG{INT} = $SIG{TERM} = 'DEFAULT';
$| = 1;
while (my $line = <STDIN>) {
  chomp $line;
  my ($what, $name, @words) = split / /, $line;
  my $pid = fork // die;
  if ($pid == 0) {
    $ENV{LANG} = 'C';
    open STDERR, '>', "$name.err" or die;
    exec { $words[0] } @words or die "$words[0]: $!";
  }
  open my $file, '>', "$name.pid.new" or die; print $file "$pid\n"; close $file;
  rename "$name.pid.new", "$name.pid" or die;
  next if $what eq 'start';
  waitpid $pid, 0;
  open my $end, '>', "$name.status.new" or die; print $end "$?\n"; close $end;
  rename "$name.status.new", "$name.status" or die;
}
PERL
mkfifo commands

begin_v2v() {
  rm -f ./*.pid ./*.status ./*.pidfile ./*.sock
  perl v2v.pl <commands >v2v.log 2>&1 &
  v2v=$!; pids+=("$v2v")
  exec 8>commands
}
# NAME WORD...: the words that virt-v2v puts before the plugin's, and those.
start_disk() {
  local name=$1; shift
  echo "start $name nbdkit --exit-with-parent --foreground --pidfile $name.pidfile --unix $name.sock --threads 8 -D nbdkit.backend.datapath=0 python script=$script $*" >&8
  # virt-v2v waits for as long.
  await 30 test -s "$name.pidfile" || { fail "$name does not start"; show "$name.err"; return; }
  [ "$(cat "$name.pidfile")" = "$(cat "$name.pid")" ] || fail 'virt-v2v would end another process'
  tr '\0' ' ' <"/proc/$(cat "$name.pid")/cmdline" >"$name.words"
  expect "nbdkit-upload-plugin.so size=$size url=" "$name.words"
  expect_not 'python|script=' "$name.words"
  pids+=("$(cat "$name.pid")")
}
copy_disk() {
  echo "run $1.copy nbdcopy --request-size=4194304 --requests=16 --flush $1.raw nbd+unix:///?socket=$1.sock" >&8
}

dd if=/dev/urandom of=sda.raw bs=1M count=9 status=none; truncate -s $size sda.raw
dd if=/dev/urandom of=sdb.raw bs=1M count=9 status=none; truncate -s $size sdb.raw
truncate -s $size at-sda at-sdb
start_server --ticket sda="file:$TMP/at-sda" --ticket sdb="file:$TMP/at-sdb"
url=https://localhost:$PORT/images

begin 'what is not an upload goes to nbdkit as it is'
for words in --version 'file --version' 'null --filter=cow --version' --dump-config "python $script --dump-plugin" \
  'file --no-such-option' '' "null script=$script" "python script=other.py --dump-plugin"; do
  # shellcheck disable=SC2086
  PATH=$real_path run nbdkit $words; mv out real.out; mv err real.err; real=$status
  # shellcheck disable=SC2086
  run nbdkit $words
  [ "$status" = "$real" ] || fail "nbdkit $words: exit status $status instead of $real"
  cmp -s out real.out || fail "nbdkit $words: other output"
  cmp -s err real.err || { fail "nbdkit $words: other errors"; show err; }
done

begin 'two disks arrive, each by its own nbdkit, and SIGTERM ends them'
begin_v2v
first="size=$size url=$url/sda cafile=$CAFILE is_ovirt_host=true"
start_disk sda "$first"
# virt-v2v 2.2.0 puts what is of the second disk behind what was of the first.
start_disk sdb "$first size=$size url=$url/sdb cafile=$CAFILE is_ovirt_host=true"
copy_disk sda
copy_disk sdb
for name in sda sdb; do
  await 60 test -s $name.copy.status || fail "$name.copy does not end"
  [ "$(cat $name.copy.status)" = 0 ] || { fail "$name.copy: wait status $(cat $name.copy.status)"; show $name.copy.err; show $name.err; }
  kill "$(cat $name.pid)"
done
exec 8>&-
for name in sda sdb; do await 20 eval '! running $(cat '$name'.pid)' || fail "$name goes on"; done
wait "$v2v" || { fail 'virt-v2v fails'; show v2v.log; }
cmp sda.raw at-sda || fail 'the first disk is another one'
cmp sdb.raw at-sdb || fail 'the second disk is another one'

begin 'the script of newer releases is known, and more parameters may be given'
rm "$script"
script=${script%/*}/ovirt-upload-plugin.py
begin_v2v
export NBDKIT_UPLOAD_PARAMETERS='replay=16M  write-back=true'
exec 8>&-; wait "$v2v"
begin_v2v
start_disk sda "size=$size url=$url/sda insecure=true"
expect 'insecure=true replay=16M write-back=true $' sda.words
exec 8>&-
wait "$v2v"
await 20 eval '! running $(cat sda.pid)' || fail 'it goes on when its parent has ended'
unset NBDKIT_UPLOAD_PARAMETERS

begin 'Ctrl-C in mid-copy ends all of them'
stop_server
# Sixteen requests, so four after another on each connection.
start_server --ticket sda="file:$TMP/at-sda" --delay-ms 1000
url=https://localhost:$PORT/images
dd if=/dev/urandom of=sda.raw bs=1M count=64 status=none
begin_v2v
start_disk sda "size=$size url=$url/sda cafile=$CAFILE direct=true"
copy_disk sda
await 20 eval '[ "$(counter put)" -gt 0 ]' || fail 'nothing is copied'
kill -INT -- "-$v2v"
for process in "$v2v" "$(cat sda.pid)" "$(cat sda.copy.pid)"; do
  await 20 eval '! running $process' || { fail "$(tr '\0' ' ' <"/proc/$process/cmdline") goes on"; show sda.err; }
done
exec 8>&-
wait "$v2v" 2>/dev/null
stop_server

begin 'without another nbdkit it says so'
run env PATH="$UPLOAD_BUILDDIR/v2v:/nowhere" "$BASH" "$UPLOAD_BUILDDIR/v2v/nbdkit" --version
[ $status = 127 ] || fail "exit status $status"
expect 'there is no nbdkit in PATH after this one' err
expect_one_error

begin 'two of them in PATH are no circle'
mkdir second; cp "$UPLOAD_BUILDDIR/v2v/nbdkit" second/
PATH=$TMP/second:$PATH run nbdkit --version
[ $status = 0 ] || { fail "exit status $status"; show err; }

finish
