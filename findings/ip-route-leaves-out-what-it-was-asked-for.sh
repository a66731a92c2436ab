#!/bin/sh
# Which words has a line of 'ip route show' that a filter has let through?
#
# One expects a filter to choose lines, and to leave them as they are. 'ip route show' leaves out of each line what it was
# chosen by: of "dev e0 proto kernel scope link src 10.0.0.1 metric 50" the filter 'proto kernel' leaves "dev e0 scope link
# src 10.0.0.1 metric 50". So with dev, scope, src, table, via and metric, but not with type and realm. A word's place
# depends on the question: for 'scope link' the seventh is the source address, for 'scope link proto kernel' the metric.
# -d (details) brings nothing back, and in JSON the keys are missing: who asks for 'proto kernel', and then for
# .protocol == "kernel", finds no route. 'ip address show scope link' leaves its lines as they are.
#
# Wants root, Debian 12's package archive with the libraries that iproute2 depends on, apt-get, dpkg-deb, unshare. Installs
# nothing: iproute2 is unpacked in a temporary folder, and everything happens in a network namespace of its own. Ends with
# 0 while it is so, with 1 if it is otherwise.
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
ip link add name e0 type veth peer name e1
ip link set dev e0 up
ip link set dev e1 up
ip address add 10.0.0.1/24 dev e0 metric 50
ip address add 169.254.0.1/16 dev e0 scope link
surprises=0
# The route to 10.0.0.0/24 as 'ip OPTIONS' shows it; words that are separated by one space.
expect() {
    wanted=$1
    shift
    seen=$(ip "$@" | grep -F 10.0.0. | sed -e 's/^\[//' -e 's/\]$//' -e 's/ *$//')
    echo "ip $*"
    echo "    $seen"
    [ "$seen" = "$wanted" ] || { echo "  another behaviour, expected was:"; echo "    $wanted"; surprises=1; }
}
expect "10.0.0.0/24 dev e0 proto kernel scope link src 10.0.0.1 metric 50" route show
expect "10.0.0.0/24 dev e0 scope link src 10.0.0.1 metric 50" route show proto kernel
expect "10.0.0.0/24 dev e0 proto kernel src 10.0.0.1 metric 50" route show scope link
expect "10.0.0.0/24 dev e0 src 10.0.0.1 metric 50" route show scope link proto kernel
expect "10.0.0.0/24 proto kernel scope link src 10.0.0.1 metric 50" route show dev e0
expect "unicast 10.0.0.0/24 dev e0 scope link src 10.0.0.1 metric 50" -d route show proto kernel
expect '{"dst":"10.0.0.0/24","dev":"e0","protocol":"kernel","scope":"link","prefsrc":"10.0.0.1","metric":50,"flags":[]}' \
    -j route show 10.0.0.0/24
expect '{"dst":"10.0.0.0/24","dev":"e0","scope":"link","prefsrc":"10.0.0.1","metric":50,"flags":[]}' \
    -j route show 10.0.0.0/24 proto kernel
expect "broadcast 10.0.0.255 dev e0 table local proto kernel scope link src 10.0.0.1" route show table all 10.0.0.255
expect "broadcast 10.0.0.255 dev e0 proto kernel scope link src 10.0.0.1" route show table local 10.0.0.255
expect "10.0.0.0/24 dev e0 proto kernel scope link metric 50" route show src 10.0.0.1
expect "10.0.0.0/24 dev e0 proto kernel scope link src 10.0.0.1" route show metric 50
ip route add 10.0.0.128/25 via 10.0.0.2 realm 3
expect "10.0.0.128/25 dev e0 realm 3" route show via 10.0.0.2
# Filters after which nothing is missing.
expect "10.0.0.128/25 via 10.0.0.2 dev e0 realm 3" route show realm 3
expect "broadcast 10.0.0.255 dev e0 proto kernel scope link src 10.0.0.1" route show table local type broadcast
ip address show scope link | grep -F 'inet 169.254.0.1/16 scope link' || surprises=1
exit $surprises
INSIDE
unshare --net sh -eu inside.sh
