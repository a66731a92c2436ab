#!/bin/sh
# The multicast MAC that IPaddr2 derives for a shared address (resource-agents 4.12) is not one of the resource: it is a
# digest of address, prefix length and broadcast, and where the parameter broadcast is not set findif() takes that of the
# node's *own* address in the network, if that has one. So two nodes with one configuration derive two MACs where one
# of them got its own address with 'brd +' and the other without. Wants Debian 12 with its package lists, and
# unprivileged user namespaces or root.
set -eu

version=1:4.12.0-2
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
cd "$folder"

apt-get -o APT::Sandbox::User=root download -qq "resource-agents=$version"
dpkg-deb -x ./*.deb agents

cat >node.sh <<'NODE'
set -eu
ip link set lo up
ip link add eth0 type veth peer name far
ip link set eth0 up
ip link set far up
ip address add 10.9.0.1/24 $1 dev eth0
export OCF_ROOT=$PWD/agents/usr/lib/ocf OCF_FUNCTIONS_DIR=$PWD/agents/usr/lib/ocf/lib/heartbeat
export OCF_RESOURCE_INSTANCE=ip:0 OCF_RESKEY_ip=10.9.0.80 OCF_RESKEY_CRM_meta_clone_max=3 HA_RSCTMP=$PWD
bash -x "$OCF_ROOT/resource.d/heartbeat/IPaddr2" monitor 2>&1 | sed -n 's/^+* *IF_MAC=\(..:..:.*\)/\1/p' | tail -n 1
NODE

mac() {
    unshare --map-root-user --net sh node.sh "$1"
}
with=$(mac 'broadcast +')
without=$(mac '')
echo "own address with a broadcast address:    $with"
echo "own address without one:                 $without"
expect() {
    echo "$1" | md5sum | sed -e 's/^\(............\).*/\1/' -e 's/../&:/g' -e 's/:$//' -e 's/^\(.\)[02468ace]/\11/'
}
[ "$with" = "$(expect '10.9.0.80 24 10.9.0.255')" ]
[ "$without" = "$(expect '10.9.0.80 24')" ]
[ "$with" != "$without" ]
