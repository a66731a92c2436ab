#!/bin/sh
# Of which type are the messages with which the kernel answers a dump of the groups of its bridges (RTM_GETMDB)?
#
# A dump of RTM_GETLINK is answered with RTM_NEWLINK, and so with addresses, routes, neighbours, rules and queueing
# disciplines; one expects RTM_NEWMDB. A bridge answers with RTM_GETMDB, the type of the question. Of a change it tells
# with RTM_NEWMDB, and where it is asked for one entry, as newer kernels let one, it answers with that too. VXLAN
# devices, which have groups since Linux 6.4, answer the same dump with RTM_NEWMDB: one dump has both types. Who takes
# RTM_NEWMDB alone from a dump has no group of any bridge, and no error.
#
# Wants root, Debian 12's package archive with the libraries that iproute2 depends on, apt-get, dpkg-deb, unshare, python3.
# Installs nothing: iproute2 is unpacked in a temporary folder, and everything happens in a network namespace of its own.
# Ends with 0 while it is so, with 1 if it is otherwise. What the kernel is too old for is not asked, and named.
set -eu

VERSION=6.1.0-3
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
chmod 755 "$folder"
cd "$folder"
apt-get -o APT::Sandbox::User=root download -qq "iproute2=$VERSION"
dpkg-deb -x iproute2_*.deb root

cat > types.py <<'TYPES'
import platform, socket, struct, subprocess, sys

NEW, GET = 84, 86
NAMES = {2: "error", NEW: "RTM_NEWMDB", GET: "RTM_GETMDB"}
AF_BRIDGE = 7
REQUEST, DUMP, DONE = 1, 0x300, 3
GROUP = socket.inet_aton("239.1.1.1")

def wire(groups=0):
    end = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    end.bind((0, groups))
    end.settimeout(5)
    return end

def messages(end):
    data = end.recv(65536)
    while data:
        length, kind = struct.unpack("=IH", data[:6])
        yield kind, data[16:length]
        data = data[(length + 3) & ~3:]

def ask(kind, flags, body):
    end = wire()
    end.send(struct.pack("=IHHII", 16 + len(body), kind, flags, 1, 0) + body)
    return end

def dump(kind, body):
    end, seen = ask(kind, REQUEST | DUMP, body), []
    while True:
        for answer in messages(end):
            if answer[0] == DONE:
                return seen
            seen.append(answer)

# The types of the messages for each device, by the device's number in struct br_port_msg.
def groups():
    seen = {}
    for kind, body in dump(GET, struct.pack("=BxxxI", AF_BRIDGE, 0)):
        device = socket.if_indextoname(struct.unpack("=I", body[4:8])[0])
        seen.setdefault(device, set()).add(NAMES.get(kind, kind))
        seen.setdefault("with the group", set()).update([NAMES.get(kind, kind)] if GROUP in body else [])
    return seen

wrong = 0
def expect(what, seen, wanted):
    global wrong
    print(f"{what}: {seen}")
    if seen != wanted:
        print(f"  another behaviour: {wanted} was expected")
        wrong = 1

print("Linux", platform.release())
links = {kind for kind, _ in dump(18, bytes(16))}
expect("a dump of RTM_GETLINK (18)", links, {16})
news = wire(1 << 25)  # RTNLGRP_MDB is 26
subprocess.check_call("bridge mdb add dev br0 port n1 grp 239.1.1.1 permanent".split())
kind, body = next(messages(news))
expect("told of the new group", NAMES.get(kind, kind), "RTM_NEWMDB")
expect("a dump of RTM_GETMDB", groups(), {"br0": {"RTM_GETMDB"}, "with the group": {"RTM_GETMDB"}})

# One entry: struct br_mdb_entry without device, state, flags and VLAN, in the attribute MDBA_GET_ENTRY.
entry = bytes(8) + GROUP + bytes(12) + struct.pack("!Hxx", 0x0800)
body = struct.pack("=BxxxI", AF_BRIDGE, socket.if_nametoindex("br0")) + struct.pack("=HH", 4 + len(entry), 1) + entry
kind, body = next(messages(ask(GET, REQUEST, body)))
if kind == 2 and struct.unpack("=i", body[:4])[0] == -95:
    print("asked for one entry: this kernel does not answer that")
else:
    expect("asked for one entry", NAMES.get(kind, kind), "RTM_NEWMDB")

subprocess.check_call("ip link add name vx0 type vxlan id 42 dstport 4789".split())
subprocess.check_call("ip link set dev vx0 up".split())
seen = groups()
if "vx0" in seen:
    wanted = {"br0": {"RTM_GETMDB"}, "with the group": {"RTM_GETMDB"}, "vx0": {"RTM_NEWMDB"}}
    expect("a dump of RTM_GETMDB with a VXLAN device", seen, wanted)
else:
    print("this kernel's VXLAN devices have no groups")
sys.exit(wrong)
TYPES

cat > inside.sh <<'INSIDE'
PATH=$PWD/root/sbin:$PWD/root/bin:$PATH
ip -V
ip link add name br0 type bridge
ip link add name n1 type veth peer name e1
for name in br0 n1 e1; do
    ip link set dev $name up
done
ip link set dev n1 master br0
python3 types.py
INSIDE
unshare --net sh -eu inside.sh
