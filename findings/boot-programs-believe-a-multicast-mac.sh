#!/bin/sh
# Do the IP stacks that a virtual machine meets before Linux runs believe an ARP reply that names a multicast MAC?
#
# Those of iPXE, U-Boot and EDK2 (UEFI), and libslirp, qemu's own (user networking), do, though RFC 1812 forbids it to
# routers and smoltcp, which is as small, does not. Each is told that 10.0.0.99 is at 01:00:5e:7f:00:63, by frames from
# another MAC, and then writes there: the first three ask a TFTP server at that address for a file, after DHCP, libslirp
# connects to a port of it.
#
# Wants root, Debian 12's package archive, apt-get, dpkg-deb, unshare, python3, qemu-system-x86_64, taps. Installs nothing:
# the packages are unpacked in a temporary folder, and everything happens in network namespaces of its own. Ends with 0 while
# it is so, with 1 if it is otherwise. Without KVM it takes a minute or two.
set -eu

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
chmod 755 "$folder"
cd "$folder"
apt-get -o APT::Sandbox::User=root download -qq ipxe-qemu=1.0.0+git-20190125.36a4c85-5.1 \
    u-boot-qemu=2023.01+dfsg-2+deb12u3 ovmf=2022.11-6+deb12u2
for package in *.deb; do
    dpkg-deb -x "$package" root
done

cat > answer.py <<'ANSWER'
import socket, struct, sys, time

# A link with a DHCP server 10.0.0.1, which names the TFTP server 10.0.0.99; this one has a multicast MAC.
address = socket.inet_aton
BOOT, SHARED = address("10.0.0.1"), address("10.0.0.99")
OWN, GROUP = bytes.fromhex("027700000001"), bytes.fromhex("01005e7f0063")

def checksum(head):
    total = sum(struct.unpack("!10H", head))
    total = (total & 0xffff) + (total >> 16)
    return struct.pack("!H", ~((total & 0xffff) + (total >> 16)) & 0xffff)

def options(request):
    at, found = 0, {}
    while at < len(request) and request[at] != 255:
        if request[at] == 0:
            at += 1
            continue
        found[request[at]] = request[at + 2:at + 2 + request[at + 1]]
        at += 2 + request[at + 1]
    return found

def lease(request):
    kind = 2 if options(request[240:]).get(53) == b"\1" else 5
    body = bytes([2, 1, 6, 0]) + request[4:12] + bytes(4) + address("10.0.0.7") + SHARED + bytes(4)
    body += request[28:44] + bytes(64) + b"file".ljust(128, b"\0") + bytes([0x63, 0x82, 0x53, 0x63])
    for number, value in [(53, bytes([kind])), (54, BOOT), (1, address("255.255.255.0")), (51, struct.pack("!I", 3600)),
                          (60, b"PXEClient"), (66, b"10.0.0.99"), (67, b"file")]:
        body += bytes([number, len(value)]) + value
    body = (body + b"\xff").ljust(300, b"\0")
    datagram = struct.pack("!HHHH", 67, 68, 8 + len(body), 0) + body
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(datagram), 1, 0, 64, 17, 0, BOOT, b"\xff" * 4)
    return b"\xff" * 6 + OWN + b"\x08\x00" + head[:10] + checksum(head) + head[12:] + datagram

wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
wire.bind(("t0", 3))
wire.settimeout(1)
asked, end = 0, time.time() + 240
while time.time() < end:
    try:
        frame, sender = wire.recvfrom(2000)
    except socket.timeout:
        continue
    if sender[2] == 4:
        continue
    if frame[:6] == GROUP:
        print("believed")
        sys.exit()
    if frame[12:14] == b"\x08\x06" and frame[20:22] == b"\0\1" and frame[38:42] in (BOOT, SHARED):
        asked += frame[38:42] == SHARED
        mac = GROUP if frame[38:42] == SHARED else OWN
        reply = b"\0\1\x08\0\6\4\0\2" + mac + frame[38:42] + frame[22:32]
        wire.send(frame[6:12] + OWN + b"\x08\x06" + reply)
    if frame[12:14] == b"\x08\0" and frame[23] == 17 and frame[34:38] == bytes([0, 68, 0, 67]):
        wire.send(lease(frame[42:]))
print("not believed" if asked else "did not ask")
ANSWER

cat > inside.sh <<'INSIDE'
ip link set lo up
ip tuntap add name t0 mode tap
ip link set t0 up
machine="qemu-system-x86_64 -accel tcg -display none -monitor none -no-reboot"
card="-netdev tap,id=t,ifname=t0,script=no,downscript=no"
case $1 in
iPXE)
    $machine $card -m 128 -serial null -device e1000,netdev=t,romfile=$PWD/root/usr/lib/ipxe/qemu/pxe-e1000.rom -boot n &
    ;;
U-Boot)
    $machine $card -m 256 -serial null -device e1000,netdev=t,romfile= -bios root/usr/lib/u-boot/qemu-x86/u-boot.rom &
    ;;
EDK2)
    cp root/usr/share/OVMF/OVMF_VARS.fd variables.fd
    $machine $card -m 256 -serial null -device virtio-net-pci,netdev=t,romfile= -boot n \
        -drive if=pflash,format=raw,readonly=on,file=root/usr/share/OVMF/OVMF_CODE.fd \
        -drive if=pflash,format=raw,file=variables.fd &
    ;;
libslirp)
    $machine $card -machine none -serial null -netdev user,id=u,net=10.0.0.0/24,hostfwd=tcp:127.0.0.1:8080-10.0.0.99:80 \
        -netdev hubport,id=h1,hubid=0,netdev=u -netdev hubport,id=h2,hubid=0,netdev=t &
    python3 -c '
import socket, time
while True:
    try:
        socket.create_connection(("127.0.0.1", 8080), 5).recv(1)
    except OSError:
        time.sleep(0.2)
' &
    ;;
esac
started=$!
trap 'kill $started $(jobs -p) 2>/dev/null' EXIT
python3 answer.py
INSIDE

qemu-system-x86_64 --version | head -n 1
surprises=0
for stack in "iPXE 1.0.0+git-20190125" "U-Boot 2023.01" "EDK2 2022.11" "libslirp of this qemu"; do
    # With the namespace's first process all end.
    seen=$(unshare --net --pid --fork --kill-child sh -eu inside.sh "${stack%% *}" 2>errors)
    echo "$stack, ARP with a multicast MAC: $seen"
    if [ "$seen" != believed ]; then
        echo "  another behaviour: it was believed"
        cat errors
        surprises=1
    fi
done
exit $surprises
