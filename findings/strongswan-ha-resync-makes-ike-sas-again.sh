#!/bin/sh
# What does strongSwan's ha plugin do when it is told to resynchronize ("*1" in its FIFO) and the other node has the SAs?
#
# charon 5.9.8 (Debian 12) sends all IKE_SAs of the segment anew, and the other node installs each a second time, beside
# the one that it has, with the same SPIs: after three commands one client's IKE_SA is there four times. Whoever writes
# "*N" whenever a segment moves (for new keys, say) makes the list of passive IKE_SAs longer with every move.
#
# Two nodes and a client with an IKE_SA and no CHILD_SA (RFC 6023), so that no kernel's ESP is needed.
#
# Wants root, Debian 12's package archive, apt-get, dpkg-deb, ip, unshare, nsenter, overlayfs. Installs nothing: the
# packages are unpacked in a temporary folder, and mounted where only these charons see them. Ends with 0 while charon
# behaves so, with 1 if it does otherwise.
set -eu

VERSION=5.9.8-5+deb12u6
folder=$(mktemp -d)
nodes="fha-$$ fhb-$$ fhc-$$"
end() {
    for node in $nodes; do
        [ ! -s "$folder/$node/pid" ] || kill "$(cat "$folder/$node/pid")" 2>/dev/null || true
    done
    sleep 1
    for node in $nodes; do ip netns del "$node" 2>/dev/null || true; done
    rm -rf "$folder"
}
trap end EXIT
trap 'exit 1' INT TERM
chmod 755 "$folder"
cd "$folder"
for package in libstrongswan libstrongswan-standard-plugins strongswan-libcharon libcharon-extra-plugins charon-systemd strongswan-swanctl; do
    apt-get -o APT::Sandbox::User=root download -qq "$package=$VERSION"
done
apt-get -o APT::Sandbox::User=root download -qq libip4tc2
for package in *.deb; do
    dpkg-deb -x "$package" root
done

# setup NODE PLUGIN CONNECTION: its configuration
setup() {
    name=$1 ha=$2 connection=$3
    mkdir -p "$name/run" "$name/etc/swanctl"
    cat > "$name/etc/strongswan.conf" <<CONF
charon-systemd {
  load = random nonce openssl kdf hmac sha1 sha2 aes vici kernel-netlink socket-default $ha
  filelog {
    stderr {
      default = 1
    }
  }
}
CONF
    cat > "$name/etc/swanctl/swanctl.conf" <<CONF
connections {
  c {
    version = 2
    childless = force
    $connection
    remote {
      auth = psk
    }
  }
}
secrets {
  ike {
    secret = "of no use to anybody"
  }
}
CONF
}
set -- $nodes
for node in $nodes; do
    ip netns add "$node"
    ip -n "$node" link set lo up
done
ip -n "$1" link add ha type veth peer name ha netns "$2"
ip -n "$1" link add client type veth peer name client netns "$3"
ip -n "$1" addr add 10.10.0.1/30 dev ha
ip -n "$2" addr add 10.10.0.2/30 dev ha
ip -n "$1" addr add 10.0.0.1/24 dev client
ip -n "$3" addr add 10.0.0.50/24 dev client
for link in "$1 ha" "$2 ha" "$1 client" "$3 client"; do
    ip -n "${link% *}" link set "${link#* }" up
done
plugin() {
    echo "ha
  plugins {
    ha {
      local = $1
      remote = $2
      monitor = no
    }
  }"
}
gateway='local {
      auth = psk
      id = gateway
    }'
setup "$1" "$(plugin 10.10.0.1 10.10.0.2)" "$gateway"
setup "$2" "$(plugin 10.10.0.2 10.10.0.1)" "$gateway"
setup "$3" "" 'remote_addrs = 10.0.0.1
    local {
      auth = psk
      id = client
    }'

# start NODE: charon, with the packages' files and a /etc and /run of its own
start() {
    cat > "$1/inside" <<'INSIDE'
set -e
mount --make-rprivate /
for part in usr/lib usr/sbin usr/share; do
    mount -t overlay overlay -o "lowerdir=$1/root/$part:/$part" "/$part"
done
cp -r "$1/root/etc/." "$1/$2/all"
cp -r "$1/$2/etc/." "$1/$2/all"
mount -t overlay overlay -o "lowerdir=$1/$2/all:/etc" /etc
mount --bind "$1/$2/run" /run
exec charon-systemd
INSIDE
    mkdir "$1/all"
    ip netns exec "$1" unshare -m sh "$folder/$1/inside" "$folder" "$1" > "$1/log" 2>&1 &
    echo $! > "$1/pid"
    tries=0
    until [ -S "$1/run/charon.vici" ]; do
        tries=$((tries + 1))
        [ $tries -lt 100 ] || { cat "$1/log"; exit 1; }
        sleep 0.1
    done
    inside "$1" swanctl --load-all > /dev/null 2>&1 || true
}
# inside NODE COMMAND...: beside its charon
inside() {
    pid=$(cat "$1/pid")
    shift
    nsenter -t "$pid" -m -n "$@"
}
passive() {
    inside "$1" swanctl --list-sas 2> /dev/null | grep -c PASSIVE || true
}
for node in $nodes; do start "$node"; done
sleep 2
inside "$1" sh -c 'echo +1 > /run/charon.ha'
sleep 1
inside "$3" swanctl --initiate --ike c > /dev/null 2>&1
sleep 1
echo "charon $VERSION: the other node has $(passive "$2") passive IKE_SA"
for time in 1 2 3; do
    inside "$1" sh -c 'echo "*1" > /run/charon.ha'
    sleep 1
    echo "after $time times *1: $(passive "$2")"
done
inside "$2" swanctl --list-sas 2> /dev/null | grep PASSIVE
inside "$1" swanctl --list-sas 2> /dev/null | grep ESTABLISHED
[ "$(passive "$2")" = 4 ]
