# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
#
# What the scripts that build share; they source it in the top directory.

# A command whose output is of interest only if it fails.
quietly() {
  local log
  log=$(mktemp)
  "$@" >"$log" 2>&1 || { tail -n 60 "$log" >&2; rm -f "$log"; return 1; }
  rm -f "$log"
}

# DIRECTORY CONFIGURE-ARGUMENTS...
configure_in() {
  local directory=$1 source_dir=$PWD; shift
  mkdir -p "$directory"
  (cd "$directory" && quietly "$source_dir/configure" -q "$@")
}
