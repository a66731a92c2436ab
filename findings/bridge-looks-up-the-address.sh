#!/bin/sh
# Which frames to a multicast MAC does a Linux bridge forward that snoops and has heard a querier?
#
# 'bridge mdb add … grp 01:00:5e:7f:00:63' (an entry of a MAC, since Linux 5.10) is accepted and listed. One expects
# that frames to this MAC go to its port. They do if they carry anything but IP. For IPv4 and IPv6 the bridge looks
# up the packet's own address, whatever the MAC is, so that the entry is not used and the frame is dropped. On the
# other hand 'mdb add … grp 2001:db8::99' is accepted although that is no group, and leads packets to this unicast
# address, in frames to a multicast MAC, to exactly that port; of an IPv4 address it is refused.
#
# Wants root, Debian 12's package archive, apt-get, dpkg-deb, unshare, python3. Installs nothing: iproute2 is unpacked
# in a temporary folder, and everything happens in a network namespace of its own. Ends with 0 while the bridge
# behaves so, with 1 if it does otherwise.
set -eu

VERSION=6.1.0-3
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
chmod 755 "$folder"
cd "$folder"
apt-get -o APT::Sandbox::User=root download -qq "iproute2=$VERSION"
dpkg-deb -x iproute2_*.deb root

cat > frames.py <<'FRAMES'
import socket, struct, sys

def mac(text):
    return bytes.fromhex(text.replace(":", ""))

def ip4():
    payload = struct.pack("!HHHH", 9, 9, 8, 0)
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 28, 1, 0, 9, 17, 0,
                       socket.inet_aton("10.0.0.7"), socket.inet_aton("10.0.0.99"))
    total = sum(struct.unpack("!10H", head))
    total = (total & 0xffff) + (total >> 16)
    head = head[:10] + struct.pack("!H", ~total & 0xffff) + head[12:]
    return 0x0800, head + payload

def ip6():
    of = lambda text: socket.inet_pton(socket.AF_INET6, text)
    payload = struct.pack("!HHHH", 9, 9, 8, 0xffff)
    return 0x86dd, struct.pack("!IHBB", 6 << 28, 8, 17, 9) + of("2001:db8::7") + of("2001:db8::99") + payload

kind, to = sys.argv[1:]
ethertype, body = {"ip4": ip4, "ip6": ip6, "other": lambda: (0x88b5, b"x" * 46)}[kind]()
out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
out.bind(("a0", 0))
back = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
back.bind(("b0", 3))
back.settimeout(0.5)
frame = mac(to) + mac("02:00:00:00:00:07") + struct.pack("!H", ethertype) + body
out.send(frame)
try:
    while back.recv(2000)[:14] != frame[:14]:
        pass
    print("arrives")
except socket.timeout:
    print("dropped")
FRAMES

cat > inside.sh <<'INSIDE'
PATH=$PWD/root/sbin:$PWD/root/bin:$PATH
ip -V
uname -sr
ip link add br0 type bridge stp_state 0 mcast_snooping 1
for port in a b; do
    ip link add name $port type veth peer name ${port}0
    ip link set dev $port master br0 up
    ip link set dev ${port}0 up
done
ip link set br0 up
# Without an address of its own a bridge sends no MLD query.
ip addr add fe80::b/64 dev br0 nodad
M4=01:00:5e:7f:00:63 M6=33:33:ff:00:00:99
surprises=0
expect() {
    seen=$(python3 frames.py "$2" "$3")
    echo "$1, $2 to $3: $seen"
    [ "$seen" = "$4" ] || { echo "  another behaviour: $4 was expected"; surprises=1; }
}
expect "no querier" ip4 $M4 arrives
expect "no querier" ip6 $M6 arrives
# It trusts its own query after this response interval, here a second; set first, for it is read at once.
ip link set br0 type bridge mcast_query_response_interval 100
ip link set br0 type bridge mcast_querier 1
sleep 4
expect "a querier" ip4 $M4 dropped
expect "a querier" ip6 $M6 dropped
bridge mdb add dev br0 port b grp $M4 permanent
bridge mdb add dev br0 port b grp $M6 permanent
bridge mdb show dev br0 | grep -E "$M4|$M6"
expect "entries of the MACs" other $M4 arrives
expect "entries of the MACs" ip4 $M4 dropped
expect "entries of the MACs" ip6 $M6 dropped
bridge mdb del dev br0 port b grp $M4 permanent
bridge mdb del dev br0 port b grp $M6 permanent
if bridge mdb add dev br0 port b grp 10.0.0.99 permanent; then
    echo "another behaviour: an entry of a unicast IPv4 address is taken"
    surprises=1
fi
bridge mdb add dev br0 port b grp 2001:db8::99 permanent
expect "an entry of the IPv6 address" ip6 $M6 arrives
exit $surprises
INSIDE
unshare --net sh -eu inside.sh
