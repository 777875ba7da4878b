# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
#
# What the shell tests share: counted cases, a server, nbdkit with the plugin,
# and an end that leaves no process behind. Source it first, call `finish` last.
#
#   begin 'a sentence'     opens a case; it passes unless something fails it
#   fail 'why'             fails the open case and goes on
#   expect 'regex' FILE    fails it unless a line of FILE matches
#   expect_not 'regex' FILE
#   run CMD...             runs CMD with a time limit; $status, $TMP/out, $TMP/err
#   start_server ARGS...   upload-server; sets $PORT, $CAFILE, $SERVER_PID
#   upload ARGS...         nbdkit with the plugin, as `run`
#   start_nbdkit ARGS...   the same in the background; its errors are in nbdkit.log
#   end_nbdkit SECONDS     ends it; it may take so long
#   uri EXPORT             that of its export; without a name of the only one
#   preload_nbdkit         what a sanitised plugin needs, for an nbdkit that others start
#   counter NAME           of the server that start_server has started

set -u
# Loopback only.
unset http_proxy https_proxy HTTPS_PROXY all_proxy ALL_PROXY no_proxy NO_PROXY

: "${UPLOAD_PLUGIN:?run make check, or source tests/environment of the build first}"

TMP=$(mktemp -d "${TMPDIR:-/tmp}/upload-test-XXXXXX")
case_name='' case_failed=0
passed=0 failed=0 skipped=0
pids=()
LIMIT=${LIMIT:-120}
# For an nbdcopy that is to fail while nbdkit goes on.  The manual ("FILTERS AND RELEASES THAT LOSE DATA") says what
# happens to nbdkit when a client vanishes with more than one request under way.
one_at_a_time=(--connections=1 --requests=1)

close_case() {
  [ -n "$case_name" ] || return 0
  if [ "$case_failed" = 0 ]; then
    passed=$((passed + 1)); echo "ok: $case_name"
  else
    failed=$((failed + 1)); echo "FAILED: $case_name"
  fi
  case_name=''
}

begin() { close_case; case_name=$1 case_failed=0; }

fail() {
  echo "  $case_name: $*" >&2
  case_failed=1
}

show() { sed "s/^/    /" "$1" >&2; }

expect() {
  grep -Eq -- "$1" "$2" && return 0
  fail "no line of $2 matches: $1"; show "$2"; return 1
}

expect_not() {
  grep -Eq -- "$1" "$2" || return 0
  fail "a line of $2 matches: $1"; show "$2"; return 1
}

# Exactly one line on standard error that nbdkit calls an error.
expect_one_error() {
  local n
  n=$(grep -c 'error:' "$TMP/err")
  [ "$n" = 1 ] || { fail "$n lines of error instead of 1"; show "$TMP/err"; }
}

run() {
  status=0
  timeout -k 5 "$LIMIT" "$@" >"$TMP/out" 2>"$TMP/err" </dev/null || status=$?
  [ $status != 124 ] || fail "hangs: $*"
  # A crash looks like any other error; here it must not.
  ! grep -Eq 'Sanitizer|runtime error:|Assertion' "$TMP/err" || { fail "crashed: $*"; show "$TMP/err"; }
}

# nbdkit with the plugin.
upload() { run "$UPLOAD_SRCDIR/tests/run-nbdkit" "$@"; }

# nbdkit in PATH becomes one that loads what a sanitised plugin needs, and has the memory for it:
# shadow memory is more than nbdupload allows.
preload_nbdkit() {
  [ -n "$UPLOAD_PRELOAD" ] || return 0
  mkdir -p "$TMP/preload"
  printf '#!/bin/sh\nulimit -S -d unlimited\nexec env LD_PRELOAD="%s" %s "$@"\n' \
    "$UPLOAD_PRELOAD" "$(command -v nbdkit)" >"$TMP/preload/nbdkit"
  chmod +x "$TMP/preload/nbdkit"
  PATH=$TMP/preload:$PATH
}

# Is that process running (and not a zombie that nobody has waited for)?
running() {
  local state
  state=$(sed 's/.*) //' "/proc/$1/stat" 2>/dev/null) && [ -n "$state" ] &&
    [ "${state:0:1}" != Z ]
}

# The main thread of process $1 has run its handler of signal $2 (proc_pid_status(5)): the
# signal is not pending any more, and, looked at after that, the thread sleeps again.
signal_was_taken() {
  local bit=$((1 << ($(kill -l "$2") - 1))) pending state
  pending=$(sed -n 's/^ShdPnd:[[:space:]]*//p' "/proc/$1/status") && [ -n "$pending" ] &&
    [ $((16#$pending & bit)) -eq 0 ] || return 1
  state=$(sed -n 's/^State:[[:space:]]*//p' "/proc/$1/status")
  [ "${state:0:1}" = S ]
}

# Waits until CMD succeeds, at most $1 seconds.
await() {
  local limit=$((SECONDS + $1)); shift
  until "$@"; do
    [ $SECONDS -lt $limit ] || return 1
    sleep 0.05
  done
}

start_server() {
  CERTS=$TMP/certs; mkdir -p "$CERTS"
  rm -f "$TMP/port"
  "$UPLOAD_SERVER" --cert-dir "$CERTS" --port-file "$TMP/port" "$@" \
    >"$TMP/server.urls" 2>"$TMP/server.log" &
  SERVER_PID=$!
  pids+=("$SERVER_PID")
  await 20 test -s "$TMP/port" || { echo "the server does not start" >&2; cat "$TMP/server.log" >&2; exit 99; }
  PORT=$(cat "$TMP/port") CAFILE=$CERTS/ca.pem
}

sock=$TMP/nbd.sock
uri() { echo "nbd+unix:///${1:-}?socket=$sock"; }

start_nbdkit() {
  rm -f "$TMP/nbdkit.pid" "$sock"
  "$UPLOAD_SRCDIR/tests/run-nbdkit" --foreground --unix "$sock" --pidfile "$TMP/nbdkit.pid" \
    "cafile=$CAFILE" "$@" 2>"$TMP/nbdkit.log" &
  nbdkit_pid=$!
  pids+=("$nbdkit_pid")
  await 60 eval '[ -s "$TMP/nbdkit.pid" ] || ! running $nbdkit_pid'
  [ -s "$TMP/nbdkit.pid" ] || { fail 'nbdkit does not start'; show "$TMP/nbdkit.log"; }
}

end_nbdkit() {
  kill "$nbdkit_pid"
  await "$1" eval '! running $nbdkit_pid' ||
    { fail 'nbdkit does not end'; show "$TMP/nbdkit.log"; kill -9 "$nbdkit_pid"; }
  wait "$nbdkit_pid" 2>/dev/null
}

counter() {
  local lines
  lines=$(wc -l <"$TMP/server.log")
  kill -USR1 "$SERVER_PID"
  await 20 eval '[ "$(wc -l <"$TMP/server.log")" -gt '"$lines"' ]'
  tail -n 1 "$TMP/server.log" | grep -o "\"$1\":[0-9]*" | cut -d: -f2
}

stop_server() {
  kill "$SERVER_PID" 2>/dev/null
  wait "$SERVER_PID" 2>/dev/null
}

cleanup() {
  local pid
  for pid in ${pids[@]+"${pids[@]}"}; do kill "$pid" 2>/dev/null; done
  for pid in ${pids[@]+"${pids[@]}"}; do wait "$pid" 2>/dev/null; done
  rm -rf "$TMP"
}
trap cleanup EXIT
trap 'exit 143' INT TERM

finish() {
  close_case
  if [ -n "${UPLOAD_TEST_COUNTS:-}" ]; then
    echo "$0 $passed $failed $skipped" >>"$UPLOAD_TEST_COUNTS"
  fi
  echo "$passed passed, $failed failed, $skipped skipped"
  [ "$failed" = 0 ]
  exit
}
