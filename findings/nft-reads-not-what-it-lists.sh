#!/bin/sh
# Does nft read back what it lists of rules that it has loaded itself?
#
# Two cases where nft 1.0.6 (Debian 12) does not. Both files are valid and load; then 'nft list ruleset' is given to
# 'nft -c -f -', or 'nft -j list ruleset' to 'nft -j -c -f -', in the same network namespace.
#
# 1. A set whose key is bytes of the header (@nh,64,128) together with an extension header (frag id). For the
#    extension header nft adds a test for IPv6 to the rule; the listing hides that test and words the same bytes as
#    'ip6 saddr', while the set keeps '@nh,64,128': "datatype mismatch".
# 2. A map of numbers, 'typeof numgen random mod 12 : verdict', as JSON: its key is listed as the bare type
#    "integer", which the same nft refuses.
#
# Wants root, Debian 12's package archive, apt-get, dpkg-deb, unshare. Installs nothing: the packages are
# unpacked in a temporary folder. Ends with 0 while nft behaves so, with 1 if it does otherwise.
set -eu

VERSION=1.0.6-2+deb12u2
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
chmod 755 "$folder"
cd "$folder"
apt-get -o APT::Sandbox::User=root download -qq "nftables=$VERSION" "libnftables1=$VERSION" libnftnl11 libmnl0 libjansson4 libxtables12 libedit2
for package in *.deb; do
    dpkg-deb -x "$package" root
done

cat > bytes.nft <<'RULES'
table netdev t {
	set seen {
		typeof @nh,64,128 . frag id
		size 16
		flags dynamic,timeout
		timeout 3s
	}

	chain c {
		update @seen { @nh,64,128 . frag id }
	}
}
RULES

cat > numbers.nft <<'RULES'
table ip t {
	map buckets {
		typeof numgen random mod 12 : verdict
		elements = { 3 : accept }
	}
}
RULES

cat > inside.sh <<'INSIDE'
export LD_LIBRARY_PATH=$PWD/root/usr/lib/$(dpkg-architecture -qDEB_HOST_MULTIARCH 2>/dev/null || echo "$(uname -m)-linux-gnu")
nft=root/usr/sbin/nft
$nft --version
surprises=0
try() {
    what=$1 file=$2 json=$3
    $nft flush ruleset
    $nft -f "$file"
    $nft $json list ruleset > listed
    echo "--- $what: nft $json lists"
    cat listed
    if $nft $json -c -f listed > said 2>&1 && ! grep -q Error said; then
        echo "--- and reads it back"
    else
        surprises=$((surprises + 1))
        echo "--- and refuses it:"
        cut -c1-160 said
    fi
}
try "bytes and an extension header" bytes.nft ""
try "a map of numbers" numbers.nft "-j"
echo "--- $surprises of 2 listings are refused"
[ $surprises = 2 ]
INSIDE
unshare -n sh inside.sh
