#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# The help text, the manual pages and the code say the same.

. "$(dirname "$0")/lib.sh"
pages=$UPLOAD_SRCDIR/man
page=$pages/nbdkit-upload-plugin.pod

begin 'the manual pages are well-formed'
for pod in "$pages"/*.pod; do
  podchecker -warnings "$pod" >"$TMP/pod" 2>&1 || { fail "$pod"; show "$TMP/pod"; }
  grep -q 'WARNING' "$TMP/pod" && { fail "$pod"; show "$TMP/pod"; }
done

begin 'every parameter of --help is in the manual, and no other'
upload --help
sed -n 's/^\([a-z_-]*\)=.*/\1/p' "$TMP/out" | sort -u >"$TMP/help"
sed -n 's/^=item \(\[*B<\)\([a-z_-]*\)=.*/\2/p' "$page" | sort -u >"$TMP/manual"
[ -s "$TMP/help" ] || fail 'no parameters in --help'
diff -u "$TMP/help" "$TMP/manual" >"$TMP/diff" || { fail 'they differ'; show "$TMP/diff"; }

begin 'defaults in --help are those of the manual'
sed -n 's/^\([a-z_-]*\)=.*/\1/p;s/.*(default: \([^)]*\)).*/  \1/p' "$TMP/out" |
  awk '/^ / {print key "=" substr($0, 3)} !/^ / {key = $0}' |
  grep -v 'environment' | while IFS='=' read -r key value; do
  sed -n "/^=item \[*B<$key=/,/^=item /p" "$page" | grep -Fqi "$value" || echo "$key=$value"
done >"$TMP/missing"
[ ! -s "$TMP/missing" ] || { fail 'not in the manual:'; show "$TMP/missing"; }

begin 'every debug flag is in the manual'
nm -D --defined-only "$UPLOAD_PLUGIN" | sed -n 's/.* upload_debug_\([a-z]*\)$/\1/p' >"$TMP/flags"
[ -s "$TMP/flags" ] || fail 'no debug flags'
while read -r flag; do expect "B<-D upload.$flag=1>" "$page"; done <"$TMP/flags"

begin 'every option of nbdupload --help is in its manual'
run "$UPLOAD_NBDUPLOAD" --help
[ $status = 0 ] || fail "exit status $status"
grep -o -- '--[a-z][a-z-]*' "$TMP/out" | sort -u >"$TMP/options"
[ -s "$TMP/options" ] || fail 'no options in --help'
while read -r option; do expect "B<$option" "$pages/nbdupload.pod"; done <"$TMP/options"

finish
