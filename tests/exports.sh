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
upload_debug_core
upload_debug_http
upload_debug_journal
upload_debug_keeper
upload_debug_pool
upload_debug_queue
upload_debug_stats
EOF
diff -u "$TMP/expected" "$TMP/symbols" >"$TMP/diff" || { fail 'others are'; show "$TMP/diff"; }

begin 'the plugin is hardened'
if [ "$UPLOAD_SANITIZERS" = no ]; then
  readelf -lWd "$UPLOAD_PLUGIN" >"$TMP/elf"
  expect 'GNU_RELRO' "$TMP/elf"
  expect 'BIND_NOW|FLAGS.* NOW' "$TMP/elf"
  expect 'GNU_STACK .* RW ' "$TMP/elf"
  nm -D --undefined-only "$UPLOAD_PLUGIN" >"$TMP/undefined"
  expect '__stack_chk_fail' "$TMP/undefined"
  expect '_chk(@|$)' "$TMP/undefined"
fi

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

# In /proc the files of a process that can't be looked into are root's (proc(5)); so the
# process is another user's.
begin 'a process that holds secrets is looked into only if that is asked for'
as_user=()
[ "$(id -u)" != 0 ] || as_user=(setpriv --reuid 65534 --clear-groups)
if [ "$UPLOAD_SANITIZERS" = no ]; then
  start_server --ticket disk=memory:1M
  chmod 711 "$TMP"
  mkdir -m 777 "$TMP/shared"
  cp "$UPLOAD_PLUGIN" "$CAFILE" "$TMP/shared"
  chmod 755 "$TMP/shared"/*
  for core in 0 1; do
    "${as_user[@]}" nbdkit -f -U "$TMP/shared/socket.$core" -P "$TMP/shared/pid.$core" \
      -D upload.core=$core "$TMP/shared/${UPLOAD_PLUGIN##*/}" \
      "url=https://localhost:$PORT/images/disk" "cafile=$TMP/shared/${CAFILE##*/}" \
      2>"$TMP/err" &
    pids+=("$!")
    await 20 test -s "$TMP/shared/pid.$core" || { fail 'nbdkit does not start'; show "$TMP/err"; }
    owner=$(stat -c %u "/proc/$!/maps")
    if [ "$owner" = 0 ]; then dumpable=0; else dumpable=1; fi
    [ $dumpable = $core ] || fail "upload.core=$core: /proc/PID/maps belongs to uid $owner"
  done
fi

finish
