#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Files on a WebDAV server: Apache with Debian's limits for connections, servers that do not take
# parts of files, and the project's own, which can be told to misbehave.

# Some functions here are called by their name only.
# shellcheck disable=SC2317
. "$(dirname "$0")/lib.sh"

cd "$TMP" || exit 99
export PATH=$PATH:/usr/sbin
size=$((24 << 20))

# With holes of all sizes, and 4 KiB in every 8 for a while.
head -c $((6 << 20)) /dev/urandom >image
truncate -s $size image
for i in $(seq 0 63); do
  dd if=image of=image bs=4k skip="$i" seek=$((4000 + 2 * i)) count=1 conv=notrunc 2>dd.log
done

start_server --protocol webdav --ticket unused=memory:1M
stop_server
# It was free a moment ago.
dav_port=$PORT
dav=https://localhost:$dav_port
mkdir -p files
chmod 755 "$TMP"; chmod 777 files

# KEEP-ALIVE REQUESTS
apache_configuration() {
  local modules=/usr/lib/apache2/modules module
  # Apache does not serve with root's rights.
  [ "$(id -u)" != 0 ] || { echo 'User nobody'; echo 'Group nogroup'; }
  for module in mpm_event authz_core ssl dav dav_fs reqtimeout; do
    echo "LoadModule ${module}_module $modules/mod_$module.so"
  done
  echo 'ServerName localhost'
  echo "DefaultRuntimeDir $TMP"
  echo "PidFile $TMP/apache.pid"
  echo 'Mutex pthread'
  echo 'ErrorLog /dev/stderr'
  echo 'StartServers 1'
  echo 'ServerLimit 1'
  echo 'ThreadsPerChild 32'
  echo 'MaxRequestWorkers 32'
  echo "Listen 127.0.0.1:$dav_port"
  echo 'SSLEngine on'
  echo "SSLCertificateFile $CERTS/cert.pem"
  echo "SSLCertificateKeyFile $CERTS/key.pem"
  echo 'KeepAliveTimeout 5'
  echo "MaxKeepAliveRequests $1"
  echo 'RequestReadTimeout header=20-40,minrate=500 body=10,minrate=500'
  echo "DavLockDB $TMP/files/.locks"
  echo "DocumentRoot $TMP/files"
  echo "<Directory $TMP/files>"
  echo 'Dav On'
  echo 'Require all granted'
  echo '</Directory>'
}

nginx_configuration() {
  echo 'daemon off; error_log stderr; pid nginx.pid; events { }'
  echo 'http { access_log off; client_body_temp_path body; server {'
  echo "listen 127.0.0.1:$dav_port ssl; root $TMP/files;"
  echo "ssl_certificate $CERTS/cert.pem; ssl_certificate_key $CERTS/key.pem;"
  echo 'location / { dav_methods PUT DELETE; } } }'
}

# CONFIGURATION COMMAND...
start_dav() {
  echo "$1" >dav.conf; shift
  timeout 600 "$@" "$TMP/dav.conf" >dav.log 2>&1 &
  dav_pid=$!
  pids+=("$dav_pid")
  await 15 curl -sS --max-time 2 --cacert "$CAFILE" -o /dev/null "$dav/" 2>curl.log ||
    { fail 'it does not start'; show dav.log; }
}
stop_dav() { kill $dav_pid; wait $dav_pid 2>/dev/null; }
start_apache() { start_dav "$(apache_configuration "$1")" apache2 -DFOREGROUND -f; }

copy() { timeout "$LIMIT" nbdcopy --flush "$1" "$(uri)" 2>copy.log || { fail 'the copy fails'; show copy.log; show nbdkit.log; }; }

begin 'Apache: a file is made, and has all that was copied'
start_apache 100
start_nbdkit target=webdav url="$dav/one.img" create=true size=$size
copy image
timeout "$LIMIT" qemu-img compare -f raw -F raw image "$(uri)" >compare.log 2>&1 || { fail 'it reads otherwise'; show compare.log; }
timeout "$LIMIT" nbdinfo "$(uri)" >info
expect 'can_flush: true' info
end_nbdkit 20
cmp image files/one.img || fail 'the file is another one'
[ "$(find files -name '*.probe-*' | wc -l)" = 0 ] || fail 'the file that probes is left'

begin 'Apache: connections that end after ten requests are no trouble'
stop_dav
start_apache 10
start_nbdkit target=webdav url="$dav/one.img" max-request=64k -v -D upload.pool=1
tr '\0' '\1' <image >other
copy other
cmp other files/one.img || fail 'the file is another one'
end_nbdkit 20
expect_not 'every request fails|trying again' nbdkit.log
[ "$(grep -c "connection [0-9]*: open$" nbdkit.log)" -gt 5 ] || fail 'no connection ended'

begin 'Apache: connections that it closes after five idle seconds are no trouble'
stop_dav
start_apache 100
start_nbdkit target=webdav url="$dav/one.img"
timeout "$LIMIT" qemu-io -f raw -c 'write -P 1 0 64k' "$(uri)" >io.log 2>&1
# Until there is no connection left.
await 30 eval '! grep -q " 0100007F:[0-9A-F]* 0100007F:$(printf %04X $dav_port) 01 " /proc/net/tcp'
timeout "$LIMIT" qemu-io -f raw -c 'write -P 2 64k 64k' -c flush -c 'read -P 1 0 64k' -c 'read -P 2 64k 64k' "$(uri)" >io.log 2>&1 ||
  { fail 'a request fails'; show io.log; }
expect_not 'failed' io.log
end_nbdkit 20

begin 'Apache: nbdupload says once that nobody is told when data are on disk'
run "$UPLOAD_NBDUPLOAD" --plugin="$UPLOAD_PLUGIN" --verify image "$dav/three.img" --format=raw target=webdav create=true cafile="$CAFILE"
[ $status = 0 ] || { fail 'it fails'; show err; }
[ "$(grep -c 'this server tells nobody when data are on its disk' err)" = 1 ] || { fail 'it is not said once'; show err; }
cmp image files/three.img || fail 'the file is another one'

begin 'Apache: a file that is not there, or of another size, is told'
upload -U - cafile="$CAFILE" target=webdav url="$dav/none.img" --run true
expect 'HTTP status 404: there is no such file; create=true makes one' err
expect_one_error
upload -U - cafile="$CAFILE" target=webdav url="$dav/one.img" size=1G --run true
expect "size=1073741824 is not the size of the disk at the server, which is $size" err
expect_one_error

begin 'Apache: a file that vanishes is noticed'
start_nbdkit target=webdav url="$dav/one.img"
rm files/one.img
timeout "$LIMIT" qemu-io -f raw -c 'write -P 1 0 64k' "$(uri)" >io.log 2>&1
expect 'HTTP status 201: the file was gone, with all that was in it' nbdkit.log
end_nbdkit 20
stop_dav

begin 'nginx takes no parts, and keeps the disk as it is'
cp image files/two.img; chmod 666 files/two.img
mkdir -p nginx
start_dav "$(nginx_configuration)" nginx -e stderr -p "$TMP/nginx" -c
upload -U - cafile="$CAFILE" target=webdav url="$dav/two.img" --run 'nbdcopy --flush image "$uri"'
[ $status != 0 ] || fail 'it starts'
expect '(does not take parts of a file|could not write a small file beside the disk)' err
expect_one_error
cmp image files/two.img || fail 'the disk was changed'
stop_dav

for mode in ignored refused; do
  begin "a server by which Content-Range is $mode keeps the disk as it is"
  start_server --protocol webdav --content-range $mode --ticket disk=memory:$size
  upload -U - cafile="$CAFILE" target=webdav url="https://localhost:$PORT/dav/disk" --run 'nbdcopy --flush image "$uri"'
  [ $status != 0 ] || fail 'it starts'
  expect '(does not take parts of a file|takes a part of a file for the whole)' err
  expect_one_error
  stop_server
done

begin 'what is lost with its connection is written again, without replay='
start_server --protocol webdav --ticket disk=memory:$size --fault op=put,action=reset_after_apply,nth=7,times=2 --fault op=put,action=close_after_body,nth=20,times=2
start_nbdkit target=webdav url="https://localhost:$PORT/dav/disk" timeout=3
copy image
timeout "$LIMIT" qemu-img compare -f raw -F raw image "$(uri)" >compare.log 2>&1 || { fail 'it reads otherwise'; show compare.log; }
end_nbdkit 20
stop_server

begin 'no disk is made ready unless each has its claim'
mkdir -m 700 claims
start_server --protocol webdav --ticket a=memory:1M --ticket b=memory:1M --ticket c=memory:1M
url=https://localhost:$PORT/dav
for taken in a b c; do
  start_nbdkit target=webdav url="$url/$taken" claim="file:$TMP/claims"
  before=$(counter replies)
  upload -U - cafile="$CAFILE" target=webdav claim="file:$TMP/claims" export=a url="$url/a" export=b url="$url/b" export=c url="$url/c" --run true
  expect 'another uploads to this disk' err
  # A question for each disk, and nothing else.
  [ "$(counter replies)" = $((before + 3)) ] || fail "while $taken is taken, $(($(counter replies) - before)) requests are made"
  end_nbdkit 20
done
stop_server

finish
