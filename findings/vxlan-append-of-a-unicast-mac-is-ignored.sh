#!/bin/sh
# 'bridge fdb append' on a VXLAN device adds a destination to a MAC that has one. For a multicast MAC, and for all zeros, it
# does. For a unicast MAC the first is an entry, and the second ends with 0, says nothing, and is forgotten: neither
# is it added nor does it replace the first. 'add' says "File exists" there, and 'replace' replaces.
#
# Wants root, Debian 12's package archive, apt-get, dpkg-deb, unshare, a kernel with VXLAN. Installs nothing: iproute2 is
# unpacked in a temporary folder, and everything happens in a network namespace of its own. Ends with 0 while it is so,
# with 1 if it is otherwise.
set -eu

VERSION=6.1.0-3
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
chmod 755 "$folder"
cd "$folder"
apt-get -o APT::Sandbox::User=root download -qq "iproute2=$VERSION"
dpkg-deb -x iproute2_*.deb root

cat > inside.sh <<'INSIDE'
PATH=$PWD/root/sbin:$PWD/root/bin:$PATH
ip -V
uname -sr
ip link add vx0 type vxlan id 42 dstport 4789 nolearning
surprises=0
# How many destinations has it after two were appended?
expect() {
    for to in 192.0.2.1 192.0.2.2; do
        bridge fdb append "$1" dev vx0 dst $to && echo "append $1 dst $to: exit code 0" || surprises=1
    done
    seen=$(bridge fdb show dev vx0 | grep -c "^$1 dst")
    bridge fdb show dev vx0 | grep "^$1 dst"
    [ "$seen" = "$2" ] || { echo "  another behaviour: $2 destinations were expected"; surprises=1; }
}
expect 01:00:5e:7f:00:63 2
expect 00:00:00:00:00:00 2
expect 02:bf:0a:00:00:63 1
if bridge fdb add 02:bf:0a:00:00:63 dev vx0 dst 192.0.2.2; then
    echo "another behaviour: a second one is taken by 'add'"
    surprises=1
fi
exit $surprises
INSIDE
unshare --net sh -eu inside.sh
