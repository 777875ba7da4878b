#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# What the plugin's file exports, and what nbdkit reads of it.

. "$(dirname "$0")/lib.sh"

begin 'only plugin_init and the debug flags are exported'
nm -D --defined-only "$UPLOAD_PLUGIN" | awk '$2 ~ /[TDBR]/ {print $3}' |
  grep -v '^__[alut]*san\|^__sanitizer\|^__odr_asan\|^_init$\|^_fini$' | sort >"$TMP/symbols"
cat >"$TMP/expected" <<EOF
plugin_init
upload_debug_http
upload_debug_journal
upload_debug_keeper
upload_debug_pool
upload_debug_queue
upload_debug_stats
EOF
diff -u "$TMP/expected" "$TMP/symbols" >"$TMP/diff" || { fail 'others are'; show "$TMP/diff"; }

begin '--dump-plugin tells versions and features'
upload --dump-plugin
[ $status = 0 ] || fail "exit status $status"
for line in '^name=upload$' '^version=[0-9]+\.[0-9]+\.[0-9]+$' '^api_version=2$' \
    '^max_thread_model=parallel$' '^magic_config_key=url$' '^upload_version=' \
    '^upload_libcurl=libcurl/' '^upload_targets=imageio' '^upload_features=.*keeper'; do
  expect "$line" "$TMP/out"
done

begin 'the keys of --help begin their lines, for completion by the shell'
upload --help
[ $status = 0 ] || fail "exit status $status"
for key in url size cafile connections idle-timeout; do expect "^$key=" "$TMP/out"; done

finish
