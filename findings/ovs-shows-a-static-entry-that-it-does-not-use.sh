#!/bin/sh
# Does Open vSwitch use a static entry of its forwarding table for a multicast MAC?
#
# 'ovs-appctl fdb/add BRIDGE PORT VLAN MAC' takes a multicast MAC, and fdb/show lists it as static, as it does any. Frames
# to it go by the table of multicast groups all the same: with mcast-snooping-disable-flood-unregistered they are dropped,
# the port of the entry included. The same entry of a unicast MAC is used: its frames go to that port alone.
#
# Wants root, Debian 12's package archive with the libraries that openvswitch-switch depends on, apt-get, dpkg-deb, unshare,
# python3. Installs nothing: Open vSwitch is unpacked in a temporary folder, its datapath is in user space, and everything
# happens in namespaces of its own. Ends with 0 while it is so, with 1 if it is otherwise.
set -eu

VERSION=3.1.0-2+deb12u1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
chmod 755 "$folder"
cd "$folder"
apt-get -o APT::Sandbox::User=root download -qq "openvswitch-switch=$VERSION" "openvswitch-common=$VERSION" \
    libunbound8 libnuma1 libxdp1 libbpf1 libcap-ng0 libelf1 libevent-2.1-7
for package in *.deb; do
    dpkg-deb -x "$package" root
done

cat > frames.py <<'FRAMES'
import socket, struct, sys

# An IPv4 packet with UDP to 10.0.0.99, in a frame for this MAC, from the port n1: which of the others get it?
to, length = bytes.fromhex(sys.argv[1].replace(":", "")), 36
head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, length, 1, 0, 9, 17, 0, bytes([10, 0, 0, 7]), bytes([10, 0, 0, 99]))
total = sum(struct.unpack("!10H", head))
total = (total & 0xffff) + (total >> 16)
head = head[:10] + struct.pack("!H", ~total & 0xffff) + head[12:]
frame = to + bytes.fromhex("020000000007") + b"\x08\x00" + head + struct.pack("!HHHH", 9, 9, 16, 0) + b"12345678"
ends = {}
for name in ["n1", "n2", "n3"]:
    ends[name] = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    ends[name].bind(("e" + name, 3))
    ends[name].settimeout(1)
ends["n1"].send(frame)
seen = []
for name in ["n2", "n3"]:
    try:
        while ends[name].recv(2000)[:14] != frame[:14]:
            pass
        seen.append(name)
    except socket.timeout:
        pass
print(" ".join(seen) or "nobody")
FRAMES

cat > inside.sh <<'INSIDE'
PATH=$PWD/root/usr/sbin:$PWD/root/usr/bin:$PATH
LD_LIBRARY_PATH=$PWD/root/usr/lib/x86_64-linux-gnu
OVS_RUNDIR=$PWD OVS_DBDIR=$PWD OVS_SYSCONFDIR=$PWD OVS_LOGDIR=$PWD
export PATH LD_LIBRARY_PATH OVS_RUNDIR OVS_DBDIR OVS_SYSCONFDIR OVS_LOGDIR
quiet="-vconsole:off -vsyslog:off --detach --no-chdir --pidfile --log-file"
ovsdb-tool create conf.db root/usr/share/openvswitch/vswitch.ovsschema
ovsdb-server --remote=punix:db.sock $quiet conf.db
ovs-vsctl --no-wait init
ovs-vswitchd $quiet
ovs-vsctl --version | head -n 1
uname -sr
ovs-vsctl --timeout=20 add-br ovs0 -- set bridge ovs0 datapath_type=netdev mcast_snooping_enable=true \
    other_config:mcast-snooping-disable-flood-unregistered=true
for port in n1 n2 n3; do
    ip link add name $port type veth peer name e$port
    ip link set dev $port up
    ip link set dev e$port up
    ovs-vsctl --timeout=20 add-port ovs0 $port
done
surprises=0
expect() {
    seen=$(python3 frames.py "$2")
    echo "$1, a frame to $2 reaches: $seen"
    [ "$seen" = "$3" ] || { echo "  another behaviour: $3 was expected"; surprises=1; }
}
for mac in 01:00:5e:7f:00:63 02:bf:0a:00:00:63; do
    case $mac in
    01:*) expect "no entry" $mac nobody ;;
    *) expect "no entry" $mac "n2 n3" ;;
    esac
    ovs-appctl fdb/add ovs0 n2 0 $mac
    echo "fdb/add ovs0 n2 0 $mac: exit code $?"
    ovs-appctl fdb/show ovs0 | grep $mac
    case $mac in
    01:*) expect "a static entry of it for n2" $mac nobody ;;
    *) expect "a static entry of it for n2" $mac n2 ;;
    esac
done
exit $surprises
INSIDE
unshare --net --mount --pid --fork --kill-child sh -eu inside.sh
