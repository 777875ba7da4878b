#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Which room may include which, and that curl and nbdkit stay where they
# belong. The rooms and their order are in docs/architecture.md.

. "$(dirname "$0")/lib.sh"
cd "$UPLOAD_SRCDIR/plugin" || exit 99

# ROOM: the rooms that it may include besides itself.
allowed() {
  case $1 in
    base) echo "" ;;
    http) echo "base" ;;
    target) echo "base http" ;;
    login) echo "base http" ;;
    upstream) echo "base http login" ;;
    journal) echo "base" ;;
    claim) echo "base http target" ;;
    volume) echo "base http target upstream journal" ;;
    process) echo "base http claim target login upstream journal volume" ;;
    .) echo "base http claim target login upstream journal volume process ." ;;
  esac
}

# FILE: the includes that break the rule.
offences() {
  local room target may
  room=$(dirname "$1"); room=${room#./}
  may=" $room $(allowed "$room") "
  sed -n 's/^#include "\([^"]*\)"$/\1/p' "$1" | while read -r target; do
    target=$(dirname "$target")
    case $may in *" $target "*) ;; *) echo "$1 includes from $target" ;; esac
  done
}

begin 'every room includes only from the rooms below it'
find . -name '*.cpp' -o -name '*.h' | while read -r file; do offences "$file"; done >"$TMP/offences"
[ ! -s "$TMP/offences" ] || { fail 'there are includes upwards'; show "$TMP/offences"; }

begin 'nbdupload includes from itself and from base/ only'
grep -h '^#include "' "$UPLOAD_SRCDIR"/upload/* | sed 's/#include "\(.*\)"$/\1/' | sort -u |
  while read -r file; do
    [ -e "$UPLOAD_SRCDIR/upload/$file" ] || [[ $file == base/* ]] || echo "upload includes $file"
  done >"$TMP/offences"
[ ! -s "$TMP/offences" ] || { fail 'it includes others'; show "$TMP/offences"; }

begin 'the check sees a wrong include'
mkdir -p "$TMP/base"
echo '#include "upstream/pool.h"' >"$TMP/base/wrong.h"
[ -n "$(cd "$TMP" && offences base/wrong.h)" ] || fail 'an include upwards was not found'

begin 'only http/ includes curl, only the store SQLite, only plugin.cpp nbdkit, only one file prometheus-cpp'
grep -rl 'include <curl/' . | grep -v '^./http/' >"$TMP/curl" && { fail curl; show "$TMP/curl"; }
grep -rl 'include <sqlite3' . | grep -v '^./journal/sqlite_store.cpp$' >"$TMP/sqlite" && { fail sqlite; show "$TMP/sqlite"; }
grep -rl 'include <prometheus/' . | grep -v '^./process/metrics_text.cpp$' >"$TMP/prometheus" && { fail prometheus; show "$TMP/prometheus"; }
grep -rl 'include <nbdkit' . | grep -v '^./plugin.cpp$' >"$TMP/nbdkit" && { fail nbdkit; show "$TMP/nbdkit"; }

# FILE: lacks its license, or a sentence on what it is for.
is_silent() {
  [ "$(sed -n 1p "$1")" != '// SPDX-License-Identifier: BSD-3-Clause' ] ||
    ! sed -n '2,3p' "$1" | tr '\n' '~' | grep -qE '^//~// [[:alpha:]].{15,}~$'
}

begin 'every file begins with its license and says what it is for'
find "$UPLOAD_SRCDIR/plugin" "$UPLOAD_SRCDIR/upload" "$UPLOAD_SRCDIR/tests" \( -name '*.cpp' -o -name '*.h' \) | while read -r file; do
  is_silent "$file" && echo "$file"
done >"$TMP/silent"
[ ! -s "$TMP/silent" ] || { fail 'these do not'; show "$TMP/silent"; }

begin 'the check sees a file that does not say it'
printf '// SPDX-License-Identifier: BSD-3-Clause\n\n#pragma once\n' >"$TMP/silent.h"
is_silent "$TMP/silent.h" || fail 'it was not found'

finish
