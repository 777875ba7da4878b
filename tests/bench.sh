#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# That the suite of benchmarks runs, with small images and one round. No time is looked at.

. "$(dirname "$0")/lib.sh"

if [ -n "$UPLOAD_PRELOAD" ]; then
  begin 'the benchmarks'
  echo 'skipped: they do not load what a sanitised plugin needs'
  case_name=''; skipped=1
  finish
fi

bench() {
  run "$UPLOAD_SRCDIR/scripts/bench" --build "$UPLOAD_BUILDDIR" --directory "$TMP/place" "$@"
}
mkdir "$TMP/place"
unset PYTHON_PLUGIN IMAGEIO_URL IMAGEIO_CA
number='[0-9]+\.[0-9]+'

# What the first arguments, names of programs, are needed for can't be tried: says so.
missing() {
  local program
  for program in "$@"; do
    PATH=$PATH:/usr/sbin:/sbin command -v "$program" >/dev/null && continue
    echo "skipped: $program is not installed (scripts/install-packages check)"
    case_name=''; skipped=$((skipped + 1))
    return 0
  done
  return 1
}

succeeded() {
  [ $status = 0 ] || { fail "exit status $status"; show "$TMP/err"; }
  [ -z "$(ls -A "$TMP/place")" ] || fail "left behind: $(ls -A "$TMP/place")"
}

# SETUP...: each has a row of figures, and so was run.
rows() {
  local name
  for name in "$@"; do expect "^\\| $name \\| $number \\|" "$TMP/out"; done
}

# EXPRESSION: of Python, about `file`, the JSON that was written.
json_has() {
  /usr/bin/env python3 -c "import json; file = json.load(open('$TMP/figures.json')); assert $1" ||
    { fail "not so: $1"; show "$TMP/figures.json"; }
}

begin 'the cases are listed'
bench --list
succeeded
expect '^ext4-nginx .*\(targets: [0-9]+\)$' "$TMP/out"

begin 'a case is a table, its targets, and JSON'
bench --quick fragments-4k --pairs 2 --json "$TMP/figures.json"
succeeded
rows upload 'upload replay'
expect '^\| fragments-4k \| requests per extent of .* at most 0.05 \| .* \| (met|missed by [0-9.]+%) \|$' "$TMP/out"
json_has '[case["name"] for case in file["cases"]] == ["fragments-4k"]'
json_has 'file["machine"]["pairs"] == 2 and file["machine"]["quick"]'
json_has 'all(len(s["runs"]) == 2 for s in file["cases"][0]["setups"])'
json_has 'all(s["medians"]["wall"] > 0 and s["medians"]["nbdkit_cpu"] > 0 for s in file["cases"][0]["setups"])'
json_has 'all(s["medians"]["requests"] > 2 and s["medians"]["peak"] > 1e6 for s in file["cases"][0]["setups"])'

begin 'the python plugin is a rival'
if nbdkit python --dump-plugin >/dev/null 2>&1; then
  rows python
  expect "^\\| upload / python \\| $number \\($number\\.\\.$number\\) \\|" "$TMP/out"
  json_has '{r["rival"] for r in file["cases"][0]["ratios"]} == {"python"}'
  json_has 'any(t["met"] is not None for t in file["cases"][0]["targets"])'
else
  expect '^Not measured: python: nbdkit has no python plugin' "$TMP/out"
  echo 'skipped: nbdkit has no python plugin (scripts/install-packages check)'
  case_name=''; skipped=$((skipped + 1))
fi

# EXPRESSION of `case`, the one case of the JSON, `of`, what a setup has by its name, and `median`.
case_has() {
  json_has "(lambda case, of, median: $1)(file['cases'][0], {s['setup']['name']: s for s in \
    file['cases'][0]['setups']}, __import__('statistics').median)"
}

begin 'medians, ratios and verdicts are of the figures'
case_has 'all(s["medians"]["wall"] == median(r["wall"] for r in s["runs"]) for s in of.values())'
case_has 'all(abs(r["value"] * of[r["rival"]]["medians"][r["metric"]] -
  of[r["mine"]]["medians"][r["metric"]]) < 1e-6 for r in case["ratios"])'
case_has 'all(r["least"] == min(a[r["metric"]] / b[r["metric"]] for a, b in
  zip(of[r["mine"]]["runs"], of[r["rival"]]["runs"])) for r in case["ratios"])'
case_has 'all(t["met"] is None or t["met"] == (t["value"] <= t["limit"]) for t in case["targets"])'

begin 'two sets of keys are compared'
bench --quick compare --a max-request=1M --b replay=4M --delay 1 --size 256 --json "$TMP/figures.json"
succeeded
rows A B
expect '^`bench .*compare.*`: medians of 1 rounds, [0-9]+ processors, Linux .*, load ' "$TMP/out"
expect "^\\| B / A \\| $number" "$TMP/out"
json_has '[s["setup"]["keys"] for s in file["cases"][0]["setups"]] == [["max-request=1M"], ["replay=4M"]]'

begin 'a plugin of another commit is a rival'
bench --quick drain connect --plugin "$UPLOAD_PLUGIN" --key timeout=30
succeeded
rows 'upload spool' 'other upload spool'
expect '^\| upload spool / other upload spool \|' "$TMP/out"

begin 'nbdupload, exports, made-up images and reads'
bench --quick delay-100 exports sizes read-file
succeeded
rows nbdupload 'curl x 1' '16 exports' '1 TiB' upload

begin 'nginx, and curl'
if ! missing nginx curl; then
  bench --quick ext4-nginx ext4-unix ext4-http read-nginx
  succeeded
  if [ -e /usr/lib/nginx/modules/ngx_http_echo_module.so ]; then
    rows upload 'upload spool' 'curl x 4' null curl-plugin
    expect_not 'reverse proxy' "$TMP/out"
  else
    expect '^Not measured: .*: nginx has no echo module' "$TMP/out"
  fi
fi

begin 'qemu-nbd'
missing qemu-nbd curl || { bench --quick ext4-qemu-nbd; succeeded; rows upload 'curl x 4'; }

begin 'fio'
missing fio nginx || { bench --quick fio-random-4k-64; succeeded; rows upload 'replay 1G'; }

begin 'a plot'
missing gnuplot || {
  bench --quick compare --plot "$TMP/ratios.svg"
  succeeded
  expect 'compare: B / A' "$TMP/ratios.svg"
}

begin 'system calls'
missing strace || {
  bench --quick compare --syscalls --json "$TMP/figures.json"
  succeeded
  json_has 'all(s["system_calls"]["total"] > 100 for s in file["cases"][0]["setups"])'
}

begin 'what is not there is said, and is no failure'
bench --quick imageio-default
succeeded
expect '^Not measured: .*python.*: no ovirt-imageio: IMAGEIO_URL is not set$' "$TMP/out"
expect '^\| imageio-default \| .* \| not measured \|$' "$TMP/out"

begin 'what does not work is said, and the rest is measured'
bench --quick fragments-4k compare --key no-such-key=1
[ $status = 1 ] || fail "exit status $status"
expect 'bench: fragments-4k: nbdkit does not start; .*no-such-key' "$TMP/err"
expect 'bench: compare: nbdkit does not start; ' "$TMP/err"

# ERROR ARGUMENT...
refused() {
  local error=$1; shift
  bench "$@"
  [ $status = 2 ] || fail "$*: exit status $status"
  expect "$error" "$TMP/err"
}
begin 'bad input'
refused 'nowhere-\*: no such case; --list shows them' 'nowhere-*'
refused '0: a number from 1 on is needed' --pairs 0 compare
refused "argument -n/--pairs: invalid positive value: 'x'" --pairs x compare
refused 'novalue: KEY=VALUE is needed' --key novalue compare
refused '/nowhere.so: there is no such file' --plugin /nowhere.so compare
refused "--build $TMP/nothing: there is no upload-server; " --build "$TMP/nothing" compare
refused "--directory $TMP/nothing: there is no such directory" --directory "$TMP/nothing" compare
export PYTHON_PLUGIN=$TMP/nothing
refused 'PYTHON_PLUGIN=.*/nothing: there is no such file' compare
unset PYTHON_PLUGIN

begin 'a signal ends it, and what it has started'
"$UPLOAD_SRCDIR/scripts/bench" --build "$UPLOAD_BUILDDIR" --directory "$TMP/place" --quick \
  --pairs 1000 compare >/dev/null 2>&1 &
suite=$!
pids+=("$suite")
await 60 eval 'compgen -G "$TMP/place/*/run/nbdkit.pid" >/dev/null' || fail 'it does not begin'
kill $suite
await 60 eval '! running $suite' || fail 'it does not end'
[ -z "$(ls -A "$TMP/place")" ] || fail "left behind: $(ls -A "$TMP/place")"
! grep -lsz -- "$TMP/place" /proc/[0-9]*/cmdline >"$TMP/left" || { fail 'processes are left'; show "$TMP/left"; }

finish
