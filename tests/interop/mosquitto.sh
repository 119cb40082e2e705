#!/usr/bin/env bash
# mosquitto_pub and mosquitto_sub against a broker: mosquitto.sh HOST PORT VERSION (31, 311 or 5) [CAFILE]; with the
# file over TLS.
set -euo pipefail

host=$1 port=$2 version=$3
tls=()
[ $# -lt 4 ] || tls=(--cafile "$4")
name="mosquitto-$version-$$"
out=$(mktemp -d)
readers=()

finish() {
    for pid in "${readers[@]}"; do
        kill -9 "$pid" 2>/dev/null || true
    done
    rm -rf "$out"
}
trap finish EXIT

fail() {
    echo "mosquitto $version: $*" >&2
    tail -n 20 "$out"/* >&2
    exit 1
}

pub() {
    mosquitto_pub -h "$host" -p "$port" -V "$version" "${tls[@]}" "$@"
}

# reader NAME ARGUMENTS...: subscribes, and returns when SUBACK has come. What it gets is in $out/NAME.
reader() {
    local file="$out/$1"
    shift
    : >"$file"
    stdbuf -oL mosquitto_sub -h "$host" -p "$port" -V "$version" "${tls[@]}" -d -W 30 -F 'got %r %q %t %p' "$@" \
        >"$file" 2>&1 &
    last_reader=$!
    disown "$last_reader" # no word from the shell when it is killed
    readers+=("$last_reader")
    for _ in $(seq 200); do
        grep -q '^Subscribed' "$file" && return
        sleep 0.05
    done
    fail "no SUBACK for $*"
}

# expect NAME COUNT: waits until the reader has COUNT messages.
expect() {
    for _ in $(seq 200); do
        [ "$(grep -c '^got ' "$out/$1")" -ge "$2" ] && return
        sleep 0.05
    done
    fail "$1 has not got $2 messages"
}

# same NAME LINE...: the reader has got exactly these lines.
same() {
    local file="$out/$1"
    shift
    diff <(grep '^got ' "$file") <(printf 'got %s\n' "$@") >&2 || fail "not what was expected"
}

# All three QoS.
reader qos -i "$name-qos" -q 2 -t "$name/qos/#"
for qos in 0 1 2; do
    pub -i "$name-pub" -q "$qos" -t "$name/qos/$qos" -m "message $qos"
done
expect qos 3
same qos "0 0 $name/qos/0 message 0" "0 1 $name/qos/1 message 1" "0 2 $name/qos/2 message 2"

# Retained: kept, given to a later reader, cleared.
pub -q 1 -r -t "$name/retained" -m kept
reader retained -i "$name-retained" -q 1 -t "$name/retained"
expect retained 1
same retained "1 1 $name/retained kept"
pub -q 1 -r -n -t "$name/retained"
reader cleared -i "$name-cleared" -q 1 -t "$name/retained"
pub -q 1 -t "$name/retained" -m live
expect cleared 1
same cleared "0 1 $name/retained live"

# A will, sent when its client is killed.
reader watcher -i "$name-watcher" -q 1 -t "$name/will"
reader dying -i "$name-dying" -t "$name/none" --will-topic "$name/will" --will-payload gone --will-qos 1
kill -9 "$last_reader"
expect watcher 1
same watcher "0 1 $name/will gone"

# A shared subscription: each message to one of two members.
reader one -i "$name-one" -q 1 -t "\$share/group/$name/shared"
reader two -i "$name-two" -q 1 -t "\$share/group/$name/shared"
seq 40 | pub -i "$name-many" -q 1 -t "$name/shared" -l
for _ in $(seq 200); do
    count=$(cat "$out/one" "$out/two" | grep -c '^got ' || true)
    [ "$count" -ge 40 ] && break
    sleep 0.05
done
sleep 0.2
grep -h '^got ' "$out/one" "$out/two" | awk '{ print $NF }' | sort -n | diff - <(seq 40) >&2 ||
    fail "a message of the shared subscription is missing or came twice"
for member in one two; do
    [ "$(grep -c '^got ' "$out/$member")" -ge 5 ] || fail "member $member got nearly nothing"
done

echo "ok: mosquitto_pub and mosquitto_sub${tls:+, TLS}, -V $version"
