#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# A host with several addresses, of which the first are dead: nobody answers there, not
# even with a refusal. They are listening sockets on loopback whose backlog is full. The
# host's name is in an /etc/hosts of the test's own, for which it needs a mount namespace.

if [ -z "${UPLOAD_TEST_NAMESPACE:-}" ]; then
  export UPLOAD_TEST_NAMESPACE=1
  for how in -m -rm; do
    unshare $how true 2>/dev/null && exec unshare $how "$0" "$@"
  done
  echo 'no mount namespace can be made: 0 passed, 0 failed, 1 skipped'
  exit 77
fi

. "$(dirname "$0")/lib.sh"

# getaddrinfo(3) has them in this order.
for i in 1 2 3 4; do echo "127.0.0.$i many.test"; done >"$TMP/hosts"
mount --bind "$TMP/hosts" /etc/hosts || exit 77

# ADDRESS...: dead at $PORT
black_holes() {
  : >"$TMP/holes"
  perl -e '
    use strict; use warnings; use Socket qw(:DEFAULT SOCK_NONBLOCK);
    my ($port, @addresses) = @ARGV; my @keep;
    for (@addresses) {
      my $to = pack_sockaddr_in($port, inet_aton($_));
      socket(my $server, PF_INET, SOCK_STREAM, 0); setsockopt($server, SOL_SOCKET, SO_REUSEADDR, 1);
      bind($server, $to) or die "$_: $!"; listen($server, 0);
      push @keep, $server;
      for (1 .. 3) {
        socket(my $client, PF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0); connect($client, $to);
        push @keep, $client;
      }
    }
    $| = 1; print "ready\n"; sleep 600' "$PORT" "$@" >"$TMP/holes" &
  pids+=("$!")
  await 20 grep -q ready "$TMP/holes" || fail 'there are no black holes'
}

start_server --plain --listen 127.0.0.4:0 --ticket disk=memory:16M
black_holes 127.0.0.1 127.0.0.2 127.0.0.3
truncate -s 16M "$TMP/image"

begin 'three dead addresses keep neither the start nor the copy from the fourth'
upload -U - -v -D upload.http=1 "url=http://many.test:$PORT/images/disk" connect-timeout=8 \
  --run "nbdcopy --flush --connections=4 '$TMP/image' \"\$uri\""
[ $status = 0 ] || { fail "exit status $status"; show "$TMP/err"; }

# Only the first connection of all has to find out.
begin 'the address that worked is tried first from then on'
slow=$(grep -Ec 'connection [0-9]+: .* in [0-9]{7,} us' "$TMP/err")
[ "$slow" = 1 ] || { fail "$slow requests took a second and more"; grep -E 'connection [0-9]+:' "$TMP/err" >&2; }

begin 'when all addresses are dead the start fails after connect-timeout'
stop_server
black_holes 127.0.0.4
upload -U - "url=http://many.test:$PORT/images/disk" connect-timeout=2 --run true
[ $status = 1 ] || fail "exit status $status"
expect 'could not connect within 2 seconds \(connect-timeout=\)' "$TMP/err"

finish
