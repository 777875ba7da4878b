#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# The simulation's own promises: the same seeds make the same run, a few schedules
# of each mode are clean, and what it is not to understand it refuses in one line.
# scripts/check runs many schedules, and compares two compilers.

. "$(dirname "$0")/lib.sh"
simulate=$UPLOAD_BUILDDIR/simulate

hash_of() { sed -n 's/.*trace hash \([0-9a-f]\{16\}\).*/\1/p' "$1"; }

# PATTERN ARGUMENTS...: refused with one line like PATTERN.
refused() {
  local pattern=$1; shift
  begin "simulate refuses: $*"
  run "$simulate" "$@"
  [ $status = 2 ] || fail "exit status $status"
  [ ! -s "$TMP/out" ] || { fail 'something is printed'; show "$TMP/out"; }
  [ "$(wc -l <"$TMP/err")" = 1 ] || { fail 'not one line'; show "$TMP/err"; }
  expect "^simulate: $pattern" "$TMP/err"
}

begin 'help names every option'
run "$simulate" --help
[ $status = 0 ] || fail "exit status $status"
for option in seed schedules minutes mode first jobs trace; do
  expect "^  --$option( |$)" "$TMP/out"
done

# Fibers change stacks in a way that the sanitizers' runtimes don't know.
if [ "$UPLOAD_SANITIZERS" = no ]; then
  for mode in off replay spool local; do
    begin "mode $mode is clean, and the same seeds give the same trace"
    run "$simulate" --schedules 100 --first 1 --mode "$mode"
    [ $status = 0 ] || { fail "exit status $status"; show "$TMP/out"; show "$TMP/err"; }
    first=$(hash_of "$TMP/out")
    run "$simulate" --schedules 100 --first 1 --mode "$mode" --jobs 1
    [ -n "$first" ] && [ "$(hash_of "$TMP/out")" = "$first" ] ||
      { fail "the hash was $first"; show "$TMP/out"; }
  done

  begin 'other seeds give another trace'
  run "$simulate" --schedules 100 --first 2 --mode local
  [ "$(hash_of "$TMP/out")" != "$first" ] || fail 'it is the same'

  begin 'a seed as it is printed is run again, and traced'
  run "$simulate" --schedules 1 --first 7 --mode spool
  version=$(sed -n 's/.*version \([0-9]*\), from seed 7$/\1/p' "$TMP/out")
  [ -n "$version" ] || { fail 'no version is printed'; show "$TMP/out"; }
  first=$(hash_of "$TMP/out")
  run "$simulate" --seed "$version-spool-7"
  [ "$(hash_of "$TMP/out")" = "$first" ] || { fail "the hash was $first"; show "$TMP/out"; }
  run "$simulate" --seed "$version-spool-7" --trace
  [ "$(hash_of "$TMP/out")" = "$first" ] || fail 'the trace changes the run'
  expect ' main#1 ' "$TMP/out"
else
  skipped=$((skipped + 1))
  version=$(sed -n 's/.*"\(.*\)"$/\1/p' "$UPLOAD_BUILDDIR/sim_version.h")
fi

refused '--seed 1-off-5: is of version 1, and this is [0-9]+: it would be another schedule' \
  --seed 1-off-5
refused "--seed $version-on-5: its mode must be off, replay, spool or local" \
  --seed "$version-on-5"
refused "--seed $version-off: must be as a failure has printed it" --seed "$version-off"
refused "--seed x: must be a whole number" --seed "$version-off-x"
refused '--mode spool: the seed is of another mode' --seed "$version-off-5" --mode spool
for value in '' x 1x 1.5 -1 18446744073709551616; do
  refused "--seed $value: must be a whole number" --seed "$value"
  refused "--first $value: must be a whole number" --first "$value"
  refused "--schedules $value: must be a whole number" --schedules "$value"
  refused "--jobs $value: must be a whole number" --jobs "$value"
done
for value in '' 0 -1 x 1m nan inf 1e9; do
  refused "--minutes $value: must be a number, more than 0" --minutes "$value"
done
refused '--schedules 0: must be at least 1' --schedules 0
refused '--jobs 0: must be 1 to 64' --jobs 0
refused '--jobs 65: must be 1 to 64' --jobs 65
refused '--mode on: must be off, replay, spool or local' --mode on
refused '--minutes: cannot be given together with --schedules' --schedules 1 --minutes 1
refused '--schedules: cannot be given together with --seed' --seed 1 --schedules 1
refused '--what: is unknown' --what
refused '--what: is unknown' --what 1
refused 'x: is unknown' x
refused '--mode: is unknown, or lacks a value' --mode
finish
