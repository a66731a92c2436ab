#!/bin/sh
# Does iptables-restore read what iptables-save has written of a rule with the match 'cluster'?
#
# A rule names its node by number, '-m cluster --cluster-local-node 7'. -S and iptables-save know another option alone,
# '--cluster-local-nodemask 0x00000040': who looks for the given one finds nothing, and who reads the mask as a number is
# right for the nodes 1 and 2. One expects that what was saved is read again. But where it reads, iptables takes a mask for
# a number: above 32 it is "out of range (1-32)". So a ruleset saved on one of the nodes 1 to 6 is restored, and that of
# node 7 or a later one is refused as a whole. Nor does -D take the listed line; by the node's number it does. A node that
# serves for two, of which one is the sixth or a later one, cannot be written in one rule: 0x21 is refused as well.
# Seen with iptables-nft, which this runs, and by hand with iptables-legacy of the same version.
#
# Wants root, Debian 12's package archive, apt-get, dpkg-deb, unshare, a kernel with xt_cluster. Installs nothing: iptables is
# unpacked in a temporary folder, and everything happens in a network namespace of its own. Ends with 0 while it is so,
# with 1 if it is otherwise, with 2 if the kernel takes no such rule.
set -eu

VERSION=1.8.9-2
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
chmod 755 "$folder"
cd "$folder"
apt-get -o APT::Sandbox::User=root download -qq "iptables=$VERSION" "libxtables12=$VERSION" "libip4tc2=$VERSION" \
    "libip6tc2=$VERSION" libnftnl11 libmnl0 libnetfilter-conntrack3 libnfnetlink0
for package in *.deb; do
    dpkg-deb -x "$package" root
done

cat > inside.sh <<'INSIDE'
libraries=$PWD/root/usr/lib/$(dpkg-architecture -qDEB_HOST_MULTIARCH 2>/dev/null || echo "$(uname -m)-linux-gnu")
LD_LIBRARY_PATH=$libraries
XTABLES_LIBDIR=$libraries/xtables
export LD_LIBRARY_PATH XTABLES_LIBDIR
xtables() { root/usr/sbin/xtables-nft-multi "$@"; }
xtables iptables --version
uname -sr
surprises=0
judge() {
    [ "$1" = "$2" ] || { echo "  another behaviour: '$2' was expected"; surprises=1; }
}
tried() {
    if "$@" > said 2>&1; then echo taken; else grep -q 'out of range (1-32)' said && echo refused || cat said; fi
}
cluster="-m cluster --cluster-total-nodes 8 --cluster-hash-seed 0x12345678"

# A rule for this node: its mask in the listing, and whether what was saved and listed is taken again.
expect() {
    xtables iptables -F INPUT
    xtables iptables -A INPUT $cluster --cluster-local-node $1 -j DROP || exit 2
    mask=$(xtables iptables -S INPUT | grep -o 'cluster-local.*' | cut -d ' ' -f 1,2)
    xtables iptables-save > saved
    restored=$(tried xtables iptables-restore --test saved)
    xtables iptables -C INPUT $cluster --cluster-local-node $1 -j DROP || surprises=1
    deleted=$(tried xtables iptables -D INPUT $cluster --$mask -j DROP)
    echo "cluster-local-node $1: listed as $mask; what was saved is $restored, -D of what is listed is $deleted"
    judge "$mask, $restored, $deleted" "cluster-local-nodemask $2, $3, $3"
}
expect 1 0x00000001 taken
expect 3 0x00000004 taken
expect 6 0x00000020 taken
expect 7 0x00000040 refused
expect 8 0x00000080 refused
for mask in 0x11:taken 0x1f:taken 0x21:refused; do
    seen=$(tried xtables iptables -A INPUT $cluster --cluster-local-nodemask ${mask%:*} -j DROP)
    echo "a rule with cluster-local-nodemask ${mask%:*} is $seen"
    judge $seen ${mask#*:}
done
exit $surprises
INSIDE
unshare --net sh -eu inside.sh
