#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# That the test server answers like the real ones whose place it takes: the same requests go, by
# curl, to azurite (Azure's page blobs) and to Debian's Apache (WebDAV), and to the test server.
# Compared are statuses, names of errors, the header fields that clients look at, and bodies.
# Where the test server is meant to differ, the request is named with the reason; a reason for
# what does not differ is a failure, too.

# Some functions here are called by their name only.
# shellcheck disable=SC2317
. "$(dirname "$0")/lib.sh"
# Where Debian has apache2; not in every user's PATH.
PATH=$PATH:/usr/sbin:/sbin

cd "$TMP" || exit 99

listens() { (: <>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# COMMAND...: a real server in the background on $real_port, which the command's arguments may
# name as PORT. Another port if it is taken.
start_real() {
  local i
  for i in 1 2 3 4 5; do
    real_port=$((20000 + RANDOM % 12000))
    ! listens $real_port || continue
    "${@//PORT/$real_port}" >real.log 2>&1 &
    real_pid=$!
    await 60 eval "listens $real_port || ! running $real_pid"
    if running $real_pid; then pids+=("$real_pid"); return; fi
    wait $real_pid
  done
  echo "$1 does not start" >&2; cat real.log >&2; exit 99
}

stop_real() { kill $real_pid 2>/dev/null; wait $real_pid 2>/dev/null; }

# --- One request, and what is compared of its answer ----------------------------

# What counts of a reply's header, one field a line.
kept='x-ms-error-code|x-ms-blob-type|x-ms-lease-(id|state|status|duration|time)|x-ms-blob-(sequence-number|content-length)|x-ms-meta-[a-z]+|content-range|accept-ranges|dav'

# Whether to look for a tag. Apache's, which is weak for a second, is not made here.
tagged=1

# NAME CURL-ARGUMENTS...: appends "NAME: STATUS FIELDS BODY" to the file $answers.
ask() {
  local name=$1 status fields body=''; shift
  rm -f body header
  status=$(timeout "$LIMIT" curl -sS -m 30 --cacert "$CAFILE" -o body -D header -w '%{http_code}' "$@" 2>curl.log)
  # curl's file has the interim replies, too: the last one counts.
  tr -d '\r' <header | awk '/^HTTP/ {text = ""} {text = text $0 "\n"} END {printf "%s", text}' >last
  fields=$(grep -Eio "^($kept): .*" last | tr '[:upper:]' '[:lower:]' | sort | tr '\n' ';')
  grep -iq '^connection: close' last && fields+="closes;"
  [ -z "$tagged" ] || { grep -iq '^etag: ' last && fields+="etag;"; }
  case "$status $*" in
    # A HEAD: what would be sent.
    20[06]' -I '*) fields+=$(grep -io '^content-length: .*' last | tr '[:upper:]' '[:lower:]') ;;
    20[06]*) body=$(cut_body) ;;
  esac
  echo "$name: $status $fields $body" >>"$answers"
}

# XML without what stands before it, and without an empty marker, which azurite does not have; of
# anything else the sum.
cut_body() {
  if grep -aq '<PageList' body; then
    sed 's/.*?>//; s/<NextMarker\/>//; s/<PageList><\/PageList>/<PageList\/>/' body | tr -d '\n'
  else
    md5sum <body | cut -c1-8
  fi
}

# NAME REASON: this request is answered in another way, on purpose.
declare -A reasons
differs() { reasons[$1]=$2; }

# REAL OURS: files of answers.
compare() {
  local name line other
  while IFS= read -r line; do
    name=${line%%:*}
    other=$(grep "^$name: " "$2")
    if [ -n "${reasons[$name]:-}" ]; then
      [ "$line" != "$other" ] || fail "$name does not differ any more: $line"
    elif [ "$line" != "$other" ]; then
      fail "$name differs"; printf '    real: %s\n    ours: %s\n' "$line" "$other" >&2
    fi
  done <"$1"
  for name in "${!reasons[@]}"; do
    grep -q "^$name: " "$1" || fail "there is no request $name"
  done
  [ "$(wc -l <"$1")" = "$(wc -l <"$2")" ] || fail 'not as many answers as requests'
  reasons=()
}

# --- Azure's page blobs -----------------------------------------------------------

account=devstoreaccount1
# azurite's, which everybody knows.
key=Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==
version=2021-12-02

hmac() {
  openssl dgst -sha256 -mac HMAC -macopt "hexkey:$(base64 -d <<<"$key" | od -An -v -tx1 | tr -d ' \n')" -binary | base64 -w0
}

# NAME FIELDS...: the value of a field among those that are given.
field_of() {
  local name=$1 field; shift
  for field; do
    case ${field,,} in "$name: "*) echo "${field#*: }"; return ;; esac
  done
}

# METHOD TARGET LENGTH FIELDS...: what is signed with the account's key.
string_to_sign() {
  local method=$1 target=$2 length=$3 name; shift 3
  printf '%s\n\n\n%s\n' "$method" "${length#0}"
  for name in content-md5 content-type date if-modified-since if-match if-none-match if-unmodified-since range; do
    printf '%s\n' "$(field_of $name "$@")"
  done
  printf '%s\n' "$@" | grep -i '^x-ms-' | sed 's/^\([^:]*\): /\L\1\E:/' | sort
  printf '/%s%s' "$account" "${target%%\?*}"
  case $target in *\?*) tr '&' '\n' <<<"${target#*\?}" | sed 's/=/:/' | sort | while read -r name; do printf '\n%s' "$name"; done ;; esac
}

# NAME METHOD QUERY BYTES FIELDS...: a signed request for $blob, with so many bytes of the file
# `data` as its body.
signed() {
  local name=$1 method=$2 target=/$account/$container/$blob$3 length=$4 signature field arguments=(); shift 4
  set -- "x-ms-date: $(LC_ALL=C TZ=GMT date '+%a, %d %b %Y %T GMT')" "x-ms-version: $version" "$@"
  signature=$(string_to_sign "$method" "$target" "$length" "$@" | hmac)
  for field; do arguments+=(-H "$field"); done
  if [ "$method" = HEAD ]; then arguments=(-I "${arguments[@]}"); else arguments=(-X "$method" "${arguments[@]}"); fi
  if [ "$method" = PUT ]; then
    head -c "$length" data >part
    arguments+=(--data-binary @part)
  fi
  ask "$name" "${arguments[@]}" -H 'Content-Type:' -H 'Expect:' \
    -H "Authorization: SharedKey $account:${wrong_signature:-$signature}" "$base$target"
}

# NAME RANGE BYTES FIELDS...: a Put Page.
put_page() {
  local name=$1 range=$2 length=$3; shift 3
  signed "$name" PUT '?comp=page' "$length" 'x-ms-page-write: update' ${range:+"x-ms-range: bytes=$range"} "$@"
}
clear_pages() { signed "$1" PUT '?comp=page' "$3" 'x-ms-page-write: clear' "x-ms-range: bytes=$2"; }
# NAME ACTION FIELDS...
lease() {
  local name=$1 action=$2; shift 2
  signed "$name" PUT '?comp=lease' 0 "x-ms-lease-action: $action" "$@"
}

size=$((8 << 20))
one=11111111-2222-3333-4444-555555555555 two=99999999-2222-3333-4444-555555555555

page_requests() {
  blob=none; signed head-of-none HEAD '' 0
  signed get-of-none GET '' 0
  put_page put-to-none 0-511 512
  blob=disk
  signed create PUT '' 0 'x-ms-blob-type: PageBlob' "x-ms-blob-content-length: $size" 'x-ms-meta-owner: me'
  signed create-if-none PUT '' 0 'x-ms-blob-type: PageBlob' "x-ms-blob-content-length: $size" 'If-None-Match: *'
  signed create-odd-size PUT '' 0 'x-ms-blob-type: PageBlob' 'x-ms-blob-content-length: 1000'
  signed head-of-new HEAD '' 0
  signed list-of-new GET '?comp=pagelist' 0
  put_page put 0-4095 4096
  put_page put-again 4096-8191 4096
  put_page put-far 1048576-5242879 4194304
  put_page put-unaligned-offset 1-512 512
  put_page put-unaligned-length 0-510 511
  put_page put-beyond-end $size-$((size + 511)) 512
  put_page put-long-body 0-511 1024
  put_page put-short-body 0-1023 512
  put_page put-without-range '' 512
  signed put-without-kind PUT '?comp=page' 512 'x-ms-range: bytes=0-511'
  put_page put-stale 0-511 512 'If-Match: "0x1"'
  clear_pages clear 512-1023 0
  clear_pages clear-much 2097152-4194303 0
  clear_pages clear-unaligned 512-1000 0
  clear_pages clear-with-body 0-511 512
  signed get GET '' 0
  signed get-range GET '' 0 'x-ms-range: bytes=100-1500'
  signed get-open GET '' 0 "x-ms-range: bytes=$((size - 100))-"
  signed get-across-end GET '' 0 "x-ms-range: bytes=$((size - 100))-$((size + 100))"
  signed get-beyond-end GET '' 0 "x-ms-range: bytes=$size-$((size + 100))"
  signed list-range GET '?comp=pagelist' 0 'x-ms-range: bytes=512-4607'
  signed list-part GET '?comp=pagelist&maxresults=2' 0
  signed list GET '?comp=pagelist' 0
  signed metadata PUT '?comp=metadata' 0 'x-ms-meta-owner: you' 'x-ms-meta-more: yes'
  signed head HEAD '' 0
}

lease_requests() {
  lease acquire-short acquire 'x-ms-lease-duration: 10'
  lease acquire-long acquire 'x-ms-lease-duration: 61'
  lease renew-of-none renew "x-ms-lease-id: $one"
  lease break-of-none break
  put_page put-lease-of-none 0-511 512 "x-ms-lease-id: $one"
  lease acquire acquire 'x-ms-lease-duration: 60' "x-ms-proposed-lease-id: $one"
  lease acquire-again acquire 'x-ms-lease-duration: 60' "x-ms-proposed-lease-id: $one"
  lease acquire-other acquire 'x-ms-lease-duration: 60' "x-ms-proposed-lease-id: $two"
  signed head-leased HEAD '' 0
  signed head-wrong-lease HEAD '' 0 "x-ms-lease-id: $two"
  put_page put-no-lease 0-511 512
  put_page put-wrong-lease 0-511 512 "x-ms-lease-id: $two"
  put_page put-lease 0-511 512 "x-ms-lease-id: $one"
  signed metadata-no-lease PUT '?comp=metadata' 0 'x-ms-meta-owner: he'
  signed metadata-lease PUT '?comp=metadata' 0 'x-ms-meta-owner: she' "x-ms-lease-id: $one"
  signed create-no-lease PUT '' 0 'x-ms-blob-type: PageBlob' "x-ms-blob-content-length: $size"
  signed delete-no-lease DELETE '' 0
  lease renew renew "x-ms-lease-id: $one"
  lease renew-wrong renew "x-ms-lease-id: $two"
  lease release-wrong release "x-ms-lease-id: $two"
  lease break break 'x-ms-lease-break-period: 30'
  signed head-breaking HEAD '' 0
  put_page put-breaking 0-511 512 "x-ms-lease-id: $one"
  lease acquire-breaking acquire 'x-ms-lease-duration: 60' "x-ms-proposed-lease-id: $two"
  lease renew-breaking renew "x-ms-lease-id: $one"
  lease break-now break 'x-ms-lease-break-period: 0'
  signed head-broken HEAD '' 0
  put_page put-broken 0-511 512 "x-ms-lease-id: $one"
  put_page put-after-break 0-511 512
  lease acquire-for-ever acquire 'x-ms-lease-duration: -1' "x-ms-proposed-lease-id: $two"
  signed head-for-ever HEAD '' 0
  lease release release "x-ms-lease-id: $two"
  lease release-again release "x-ms-lease-id: $two"
}

# What azurite does although Azure does not, to another blob.
lenient_requests() {
  blob=odd
  signed create-odd PUT '' 0 'x-ms-blob-type: PageBlob' "x-ms-blob-content-length: $size"
  put_page put-across-end $((size - 512))-$((size + 511)) 1024
  put_page put-too-much 0-4194815 4194816
  put_page put-wrong-md5 0-511 512 'Content-MD5: AAAAAAAAAAAAAAAAAAAAAA=='
  signed nonsense GET '?comp=nonsense' 0
  blob=disk
}

credential_requests() {
  local fields=(-H "x-ms-version: $version")
  container=nowhere; signed no-container HEAD '' 0; container=images
  wrong_signature=$(echo -n wrong | hmac)
  signed wrong-key HEAD '' 0
  wrong_signature=''
  ask malformed -I "${fields[@]}" -H "x-ms-date: $(LC_ALL=C TZ=GMT date '+%a, %d %b %Y %T GMT')" \
    -H 'Authorization: SharedKey junk' "$base/$account/$container/$blob"
  ask nobody -I "${fields[@]}" "$base/$account/$container/$blob"
  ask no-version -I "$base/$account/$container/$blob?$sas"
  ask sas-head -I "${fields[@]}" "$base/$account/$container/$blob?$sas"
  head -c 512 data >part
  ask sas-put -X PUT --data-binary @part "${fields[@]}" -H 'Content-Type:' -H 'x-ms-page-write: update' \
    -H 'x-ms-range: bytes=0-511' "$base/$account/$container/$blob?comp=page&$sas"
  ask sas-wrong -I "${fields[@]}" "$base/$account/$container/$blob?${sas%sig=*}sig=AAAA"
  signed delete DELETE '' 0
  signed delete-again DELETE '' 0
}

# What may be written with, and not read.
make_sas() {
  local expiry signature
  expiry=$(date -u -d '+1 day' '+%Y-%m-%dT00:00:00Z')
  signature=$(printf '%s\n' w '' "$expiry" "/blob/$account/$container/disk" '' '' '' 2019-12-12 b '' '' '' '' '' |
    { cat; printf ''; } | hmac)
  sas="sp=w&se=$expiry&sv=2019-12-12&sr=b&sig=$(sed 's/+/%2B/g; s/\//%2F/g; s/=/%3D/g' <<<"$signature")"
}

azure_differences() {
  local name
  for name in put-unaligned-offset put-beyond-end put-long-body put-short-body put-without-range \
    put-unaligned-length clear-unaligned; do
    differs $name 'azurite has the words of the status, or InvalidOperation, for InvalidPageRange'
  done
  for name in create-odd-size clear-with-body; do
    differs $name 'azurite has InvalidOperation for InvalidHeaderValue'
  done
  for name in get get-range get-open get-across-end; do
    differs $name 'azurite tells accept-ranges for HEAD only'
  done
  for name in wrong-key nobody sas-wrong; do
    differs $name 'azurite has AuthorizationFailure for AuthenticationFailed'
  done
  differs malformed 'azurite answers 403 to a malformed SharedKey, Azure 400 InvalidAuthenticationInfo'
  differs no-version 'Azure needs x-ms-version, azurite does not'
  differs put-across-end 'azurite writes beyond the end of a blob'
  differs put-too-much 'azurite takes more than 4 MiB'
  differs put-wrong-md5 'azurite does not look at Content-MD5'
  differs put-without-kind 'azurite tells no code'
  differs get-beyond-end 'azurite answers 206 without a byte'
  differs list-part 'azurite does not know maxresults'
  differs nonsense 'azurite takes an unknown comp for none'
}

begin 'the test server answers like azurite'
azurite=$UPLOAD_SRCDIR/build-npm/node_modules/.bin/azurite-blob
container=images
head -c $((5 << 20)) /dev/urandom >data
make_sas
start_server --protocol azure --azure "account=$account,container=images,key=$key" \
  --azure-sas "$sas" --ticket other=memory:512
if [ -x "$azurite" ] && command -v node >/dev/null; then
  start_real node "$(realpath "$azurite")" --blobHost 127.0.0.1 --blobPort PORT --cert "$CERTS/cert.pem" \
    --key "$CERTS/key.pem" --location "$TMP/azurite" --disableTelemetry --silent
  base=https://localhost:$real_port answers=setup blob=''
  signed container PUT '?restype=container' 0
  for server in real ours; do
    [ $server = real ] || base=https://localhost:$PORT
    answers=azure.$server
    page_requests; lease_requests; lenient_requests; credential_requests
  done
  stop_real
  azure_differences
  compare azure.real azure.ours
else
  echo "skipped: there is no $azurite; scripts/check installs it there"
  case_name=''; skipped=$((skipped + 1))
fi
stop_server

# --- WebDAV -----------------------------------------------------------------------

apache_configuration() {
  local modules=/usr/lib/apache2/modules module
  # Apache does not serve with root's rights.
  [ "$(id -u)" != 0 ] || { echo 'User nobody'; echo 'Group nogroup'; }
  for module in mpm_event authz_core dav dav_fs; do
    echo "LoadModule ${module}_module $modules/mod_$module.so"
  done
  echo "ServerName localhost"
  echo "DefaultRuntimeDir $TMP/apache"
  echo "PidFile $TMP/apache/pid"
  echo 'Mutex pthread'
  echo 'ErrorLog /dev/stderr'
  echo 'StartServers 1'
  echo 'ServerLimit 1'
  echo 'ThreadsPerChild 8'
  echo 'MaxRequestWorkers 8'
  # One more may come than Apache's number says.
  echo 'MaxKeepAliveRequests 2'
  echo "Listen 127.0.0.1:$1"
  echo "DocumentRoot $TMP/files"
  echo "DavLockDB $TMP/apache/locks"
  echo "<Directory $TMP/files>"
  echo 'Dav On'
  echo '</Directory>'
}

serve_files() {
  apache_configuration "$1" >apache.conf
  exec apache2 -DFOREGROUND -f "$TMP/apache.conf"
}

# NAME CURL-ARGUMENTS...: a request for $file.
dav() { local name=$1; shift; ask "$name" "$@" -H 'Expect:' "$base/dav/$file"; }

# NAME CONTENT-RANGE DATA
put_range() {
  printf %s "$3" >part
  dav "$1" -X PUT --data-binary @part -H 'Content-Type:' -H "Content-Range: $2"
  dav "$1-content"
}

file_requests() {
  file=none
  dav get-of-none; dav head-of-none -I; dav delete-of-none -X DELETE; dav options-of-none -X OPTIONS
  file=disk
  printf 0123456789 >part
  dav create -T part; dav create-again -T part
  dav head -I; dav options -X OPTIONS; dav get
  dav get-range -H 'Range: bytes=2-4'; dav head-range -I -H 'Range: bytes=2-4'
  dav get-open -H 'Range: bytes=8-'; dav get-last -H 'Range: bytes=-3'
  dav get-across-end -H 'Range: bytes=8-100'; dav get-beyond-end -H 'Range: bytes=20-'
  dav get-backwards -H 'Range: bytes=5-3'; dav get-junk -H 'Range: junk'
  put_range put 'bytes 2-4/*' abc
  put_range put-long-body 'bytes 2-2/*' ABCD
  put_range put-short-body 'bytes 0-9/10' xy
  put_range put-empty 'bytes 3-4/*' ''
  put_range put-beyond-end 'bytes 20-22/*' end
  for range in 'bytes */10' 'bytes 5-3/10' 'bytes 2-4' 'bytes 2-*/*' 'bytes 2-4/3' junk '2-4/10'; do
    put_range "put-$(tr ' */' _sx <<<"$range")" "$range" abc
  done
  printf chunks >part
  dav put-chunked -X PUT -T - -H 'Content-Range: bytes 1-6/*' <part; dav put-chunked-content
  file=new; put_range put-new 'bytes 2-4/*' abc
  file=empty; : >part
  dav create-empty -T part; dav get-empty -H 'Range: bytes=0-0'
  file=disk
  dav patch -X PATCH -d x; dav delete -X DELETE; dav get-deleted
}

# HOST: what the replies say of the connection, until it is closed.
keep_alive() {
  curl -sS -m 30 -v -H 'Connection: keep-alive' "$1"/dav/{new,new,new} 2>&1 | tr -d '\r' |
    grep -ai '^< *\(connection\|keep-alive\)' | tr '[:upper:]' '[:lower:]'
}

# URL TEXT: what is there, and the status.
is_there() { [ "$(curl -sS -m 30 -w ' %{http_code}' "$1" | tr -d '\0')" = "$2" ]; }

# HOST ID TEXT: a PUT of a range that ends after half of its body leaves this.
cut_off() {
  local port=${1##*:}
  exec 9<>"/dev/tcp/127.0.0.1/$port"
  printf 'PUT /dav/%s HTTP/1.1\r\nHost: localhost\r\nContent-Range: bytes 2-9/*\r\nContent-Length: 8\r\n\r\nhalf' "$2" >&9
  exec 9>&-
  # It is not known when the server notices.
  await 30 is_there "$1/dav/$2" "$3" ||
    fail "$1: not '$3' is left of $2, but '$(curl -sS -m 30 "$1/dav/$2" | tr -d '\0')'"
}

begin 'the test server answers like Apache'
tagged=''
if command -v apache2 >/dev/null; then
  chmod 755 "$TMP"; mkdir -p files/dav apache
  [ "$(id -u)" != 0 ] || chown nobody:nogroup files/dav apache
  start_server --protocol webdav --plain --idle-ms 5000 --max-requests 3 --ticket other=memory:512
  start_real serve_files PORT
  for server in real ours; do
    base=http://localhost:$real_port
    [ $server = real ] || base=http://localhost:$PORT
    answers=dav.$server
    file_requests
    keep_alive "$base" >keep-alive.$server
    printf 0123456789 >part
    curl -sS -m 30 -T part "$base/dav/cut" >/dev/null
    cut_off "$base" cut '01half6789 200'
  done
  stop_real
  [ -s keep-alive.real ] || fail 'Apache says nothing of its connections'
  cmp -s keep-alive.real keep-alive.ours || { fail 'connections end differently'; show keep-alive.real; show keep-alive.ours; }
  compare dav.real dav.ours
else
  echo 'skipped: apache2 is not installed (scripts/install-packages check)'
  case_name=''; skipped=$((skipped + 1))
fi
stop_server

finish
