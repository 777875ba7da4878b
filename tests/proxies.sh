#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Uploads through real reverse proxies, Debian's nginx, haproxy and Apache, TLS on both
# sides of them. A proxy moves what comes over one connection to many of the server's, so a flush
# that is answered with success may cover nothing: what counts is the server's *stable*
# image, which it saves at its end. The proxies' configurations are made here; whatever
# runs on the machine besides is left alone.

. "$(dirname "$0")/lib.sh"
# Where Debian has them; not in every user's PATH.
PATH=$PATH:/usr/sbin:/sbin

size=$((64 << 20))
image=$TMP/source.raw
warning='nbdkit: upload: warning: .*: there is a reverse proxy in front of the server, .* direct=true or direct=false'

for program in nginx haproxy apache2; do
  command -v $program >/dev/null ||
    { echo "$program is not installed (scripts/install-packages check)" >&2; exit 99; }
done

# Data, a hole, zeroes, and data at the end.
truncate -s $size "$image"
dd if=/dev/urandom of="$image" bs=1M count=24 conv=notrunc status=none
dd if=/dev/urandom of="$image" bs=1M seek=40 count=8 conv=notrunc status=none
dd if=/dev/urandom of="$image" bs=4095 seek=$((size / 4095 - 10)) count=10 conv=notrunc status=none

# A server with an empty disk, whose stable image is in $TMP/stable when it has ended.
start_target() {
  rm -rf "$TMP/stable"; mkdir "$TMP/stable"
  start_server --ticket disk=memory:$size --save-stable "$TMP/stable" --stats
  cat "$TMP/certs/cert.pem" "$TMP/certs/key.pem" >"$TMP/proxy.pem"
}

listens() { (: <>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# CONFIGURE COMMAND...: has CONFIGURE print a configuration for port $proxy_port, and
# runs COMMAND with the file's name. Another port if it is taken.
start_proxy() {
  local configure=$1 i; shift
  for i in 1 2 3 4 5 6 7 8 9 10; do
    proxy_port=$((20000 + RANDOM % 12000))
    ! listens $proxy_port || continue
    $configure >"$TMP/proxy.conf"
    "$@" "$TMP/proxy.conf" >"$TMP/proxy.log" 2>&1 &
    proxy_pid=$!
    await 20 eval "listens $proxy_port || ! running $proxy_pid"
    if running $proxy_pid; then pids+=("$proxy_pid"); return; fi
    wait $proxy_pid
  done
  echo "$configure: the proxy does not start" >&2; cat "$TMP/proxy.log" >&2; exit 99
}

nginx_configuration() {
  local directory
  mkdir -p "$TMP/nginx"
  # For root: workers with another user's rights could not look into $TMP.
  [ "$(id -u)" != 0 ] || echo 'user root;'
  echo "daemon off; worker_processes 1; pid $TMP/nginx/pid; error_log stderr;"
  echo 'events { worker_connections 512; }'
  echo "http { access_log $TMP/nginx/access.log; client_max_body_size 0;"
  for directory in client_body proxy fastcgi uwsgi scgi; do
    echo "  ${directory}_temp_path $TMP/nginx/$directory;"
  done
  echo "  upstream server { server 127.0.0.1:$PORT; $1 }"
  echo "  server { listen 127.0.0.1:$proxy_port ssl;"
  echo "    ssl_certificate $TMP/certs/cert.pem; ssl_certificate_key $TMP/certs/key.pem;"
  echo "    location / { proxy_pass https://server; $2 } } }"
}
nginx_default() { nginx_configuration '' ''; }
# What nginx's manual gives for keepalive.
nginx_keepalive() {
  nginx_configuration 'keepalive 16;' 'proxy_http_version 1.1; proxy_set_header Connection "";'
}
nginx_closing() {
  nginx_configuration '' 'keepalive_timeout 0;'
}

haproxy_configuration() {
  echo 'defaults'
  echo '  timeout connect 10s'
  echo '  timeout client 60s'
  echo '  timeout server 60s'
  echo "listen proxy"
  echo "  mode $1"
  echo "  bind 127.0.0.1:$proxy_port $2"
  echo "  server server 127.0.0.1:$PORT $3"
  echo "  $4"
}
haproxy_default() { haproxy_configuration http "ssl crt $TMP/proxy.pem" 'ssl verify none' ''; }
haproxy_never() {
  haproxy_configuration http "ssl crt $TMP/proxy.pem" 'ssl verify none' 'http-reuse never'
}
haproxy_tcp() { haproxy_configuration tcp '' '' ''; }

# PARAMETERS: of ProxyPass.
apache_configuration() {
  local modules=/usr/lib/apache2/modules module
  mkdir -p "$TMP/apache"
  # Apache does not serve with root's rights; what it needs of $TMP it reads before.
  [ "$(id -u)" != 0 ] || { echo 'User nobody'; echo 'Group nogroup'; }
  for module in mpm_event authz_core ssl proxy proxy_http; do
    echo "LoadModule ${module}_module $modules/mod_$module.so"
  done
  echo "ServerName localhost"
  echo "DefaultRuntimeDir $TMP/apache"
  echo "PidFile $TMP/apache/pid"
  echo 'Mutex pthread'
  echo 'ErrorLog /dev/stderr'
  echo 'StartServers 1'
  echo 'ServerLimit 1'
  echo 'ThreadsPerChild 32'
  echo 'MaxRequestWorkers 32'
  echo "Listen 127.0.0.1:$proxy_port"
  echo 'SSLEngine on'
  echo "SSLCertificateFile $TMP/certs/cert.pem"
  echo "SSLCertificateKeyFile $TMP/certs/key.pem"
  echo 'SSLProxyEngine on'
  echo 'SSLProxyVerify none'
  echo 'SSLProxyCheckPeerName off'
  # An address: a machine without /etc/hosts would ask a name server for "localhost".
  echo "ProxyPass / https://127.0.0.1:$PORT/ $1"
}
apache_default() { apache_configuration ''; }
# A connection to the server for each request.
apache_without_reuse() { apache_configuration 'disablereuse=on'; }

start_nginx() { start_proxy "$1" nginx -e stderr -p "$TMP/nginx" -c; }
start_haproxy() { start_proxy "$1" haproxy -db -f; }
start_apache() { start_proxy "$1" apache2 -DFOREGROUND -f; }

stop_proxy() {
  kill $proxy_pid 2>/dev/null
  wait $proxy_pid 2>/dev/null
}

# START CONFIGURATION [KEYS...]: copies the image through a proxy; $status, $TMP/err.
copy_through() {
  local start=$1 configuration=$2; shift 2
  start_target
  $start "$configuration"
  upload -U - "url=https://localhost:$proxy_port/images/disk" "cafile=$CAFILE" "$@" \
    --run "nbdcopy --flush '$image' \"\$uri\""
  # The server goes first: a proxy that ends might close its connections in order.
  stop_server
  stop_proxy
}

is_complete() { cmp -s "$image" "$TMP/stable/disk"; }

# NAME START CONFIGURATION [KEYS...]: the proxy is found, and nothing is lost.
found_and_complete() {
  begin "$1: the proxy is found, and what was flushed is stable"; shift
  copy_through "$@"
  [ $status = 0 ] || { fail "exit status $status"; show "$TMP/err"; }
  expect "$warning" "$TMP/err"
  [ "$(grep -c 'warning:' "$TMP/err")" = 1 ] || { fail 'not one line'; show "$TMP/err"; }
  is_complete || fail "the stable image differs: $(cmp "$image" "$TMP/stable/disk")"
  # What the server allows is used: zeroes as such, several connections.
  expect '"zero":[1-9]' "$TMP/server.log"
}

found_and_complete 'nginx, defaults' start_nginx nginx_default
found_and_complete 'nginx, defaults, with replay' start_nginx nginx_default replay=64M
found_and_complete 'nginx, keepalive' start_nginx nginx_keepalive
found_and_complete 'haproxy, defaults' start_haproxy haproxy_default
found_and_complete 'haproxy, defaults, with replay' start_haproxy haproxy_default replay=64M
found_and_complete 'haproxy, http-reuse never' start_haproxy haproxy_never
found_and_complete 'Apache, defaults' start_apache apache_default
found_and_complete 'Apache, defaults, with replay' start_apache apache_default replay=64M

begin 'haproxy, mode tcp: is found to be direct'
copy_through start_haproxy haproxy_tcp -v -D upload.pool=1
[ $status = 0 ] || { fail "exit status $status"; show "$TMP/err"; }
expect_not 'direct=' "$TMP/err"
expect 'stable on flush' "$TMP/err"
is_complete || fail 'the stable image differs'

begin 'Apache, direct=false: each change is stable'
copy_through start_apache apache_default direct=false
[ $status = 0 ] || { fail "exit status $status"; show "$TMP/err"; }
is_complete || fail 'the stable image differs'

begin 'a proxy that closes after each reply is no proof of a direct connection'
copy_through start_nginx nginx_closing
[ $status = 0 ] || { fail "exit status $status"; show "$TMP/err"; }
expect 'it is not known whether there is a reverse proxy .*closes after every reply' "$TMP/err"
is_complete || fail 'the stable image differs'

begin 'direct=false: each change is stable, and nothing is asked or said'
copy_through start_nginx nginx_default direct=false
[ $status = 0 ] || { fail "exit status $status"; show "$TMP/err"; }
expect_not 'warning' "$TMP/err"
expect '"other":0' "$TMP/server.log"
is_complete || fail 'the stable image differs'

# NAME START CONFIGURATION: what all of this is about; and if it were not so these
# tests could not fail.
told_that_it_is_direct() {
  begin "direct=true behind $1: nbdcopy ends with success, and the disk is not stable"; shift
  copy_through "$@" direct=true
  [ $status = 0 ] || { fail "exit status $status"; show "$TMP/err"; }
  expect_not 'warning' "$TMP/err"
  [ "$(stat -c %s "$TMP/stable/disk")" = $size ] || fail 'there is no stable image'
  ! is_complete || fail 'the stable image is complete'
  expect '"bytes_lost":[1-9]' "$TMP/server.log"
}

# By default Apache keeps a pool: the flushes, which go side by side, may happen to be one for each of its
# connections.
told_that_it_is_direct nginx start_nginx nginx_default
told_that_it_is_direct 'Apache without reuse' start_apache apache_without_reuse

finish
