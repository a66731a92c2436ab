#!/bin/sh
# What does 'nft list chain' show while somebody else has nft check other rules?
#
# 'nft -c' changes nothing: its transaction is undone before it counts. One expects every listing to be that of the
# 2000 rules in the chain. Yet some name rules twice and leave as many others out, and end with 0. The kernel gives a
# list in parts and goes on with the next one by counting rules; it counts those that a transaction prepares, which it
# shows to nobody. As nothing is committed, the generation stays as it is and NLM_F_DUMP_INTR is not set, so that
# whoever lists can't know.
#
# Seen with nft 1.0.6 on Linux 6.18. Takes a few seconds; how many listings are wrong is chance (13 of 40 at first).
#
# Wants root, Debian 12's package archive, apt-get, dpkg-deb, unshare. Installs nothing: the packages are
# unpacked in a temporary folder. Ends with 0 if a listing was wrong, with 1 if none
# of 400 was, with 2 if nft does not run.
set -eu

VERSION=1.0.6-2+deb12u2
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
chmod 755 "$folder"
cd "$folder"
apt-get -o APT::Sandbox::User=root download -qq "nftables=$VERSION" "libnftables1=$VERSION" libnftnl11 libmnl0 libjansson4 libxtables12 libedit2 libbsd0 libmd0 libgmp10
for package in *.deb; do
    dpkg-deb -x "$package" root
done

{
    echo 'table ip t {'
    echo '	chain c {'
    for n in $(seq 2000); do
        echo "		tcp dport $n counter"
    done
    echo '	}'
    echo '}'
} > rules.nft
for n in $(seq 50); do
    echo 'insert rule ip t c udp dport 53 counter'
done > others.nft

cat > inside.sh <<'INSIDE'
set -eu
export LD_LIBRARY_PATH=$PWD/root/usr/lib/$(dpkg-architecture -qDEB_HOST_MULTIARCH 2>/dev/null || echo "$(uname -m)-linux-gnu")
nft=root/usr/sbin/nft
$nft --version
uname -r
$nft -f rules.nft
$nft -c -f others.nft
[ "$($nft list chain ip t c | grep -o 'dport [0-9]*' | sort -u | wc -l)" = 2000 ] || exit 2
while $nft -c -f others.nft; do :; done &
checks=$!
trap 'kill $checks' EXIT
wrong=0 listings=0
while [ $listings -lt 40 ] || { [ $wrong = 0 ] && [ $listings -lt 400 ]; }; do
    listings=$((listings + 1))
    $nft list chain ip t c > listed || exit 2
    grep -o 'dport [0-9]*' listed > seen
    lines=$(wc -l < seen)
    different=$(sort -u seen | wc -l)
    if [ "$different" != 2000 ]; then
        wrong=$((wrong + 1))
        echo "listing $listings, ended with 0: $lines rules, $different different ones of 2000"
    fi
done
echo "$wrong of $listings listings are wrong"
[ $wrong != 0 ]
INSIDE
unshare -n sh inside.sh
