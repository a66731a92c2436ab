#!/bin/sh
# Takes over on this node what ocf:heartbeat:IPaddr2 serves here, by ocf:rust:ClusterIP; with the word 'look' it only
# looks, with 'back' it gives back. To be run on one node after the other, while the clone is in maintenance. It may be
# run again.
set -eu
case ${1:-take} in
# What does not fit is known of all addresses before anything is done to one.
take) words="fit take" ;;
look | back) words=$1 ;;
*)
    echo "'$1' is not known here: give no word, or look, or back" >&2
    exit 64
    ;;
esac
numbers() { sort -nu | while read -r number; do echo $((number - 1)); done; }
# What the predecessor's rules say behind a word; the numbers of the bits of masks; seeds in one form; what all say.
behind() { sed -n "s/.* $1 \([^ ]*\).*/\1/p"; }
bits() {
    while read -r mask; do
        number=1 mask=$((mask))
        while [ "$mask" -gt 0 ]; do
            [ $((mask & 1)) = 0 ] || echo "$number"
            number=$((number + 1)) mask=$((mask >> 1))
        done
    done
}
seeds() { while read -r seed; do printf '0x%08x\n' "$seed"; done; }
once() { sort -u | paste -sd, -; }
# Stops where the predecessor's rules do not do what the new configuration says.
same() {
    if [ "$3" != "$4" ]; then
        echo "$1: the $2 is ${3:-not told} by the predecessor's rules here and $4 by the new configuration; with both most clients" \
            "would be dark. Set it to what runs (a parameter that changes restarts the clone, and cuts; choose the hour), and have" \
            "this written again; or go with the clone stopped, by --compat none" >&2
        exit 1
    fi
}
for what in $words; do

# web-vip4: 203.0.113.80
agent() {
    env OCF_ROOT=/usr/lib/ocf OCF_RESOURCE_INSTANCE="web-vip4:$2" OCF_RESOURCE_TYPE=ClusterIP \
        OCF_RESOURCE_PROVIDER=rust OCF_RA_VERSION_MAJOR=1 OCF_RA_VERSION_MINOR=1 \
        OCF_RESKEY_CRM_meta_clone="$2" OCF_RESKEY_CRM_meta_clone_max=6 \
        OCF_RESKEY_CRM_meta_clone_node_max=6 OCF_RESKEY_CRM_meta_globally_unique=true \
        OCF_RESKEY_CRM_meta_timeout=20000 OCF_RESKEY_CRM_meta_on_node="$(crm_node --name)" \
        OCF_RESKEY_arp_count=3 \
        OCF_RESKEY_cidr_netmask=26 \
        OCF_RESKEY_hash_seed=0x1badcafe \
        OCF_RESKEY_ip=203.0.113.80 \
        OCF_RESKEY_nic=bond0 \
        OCF_RESKEY_compat=ipaddr2 \
        /usr/lib/ocf/resource.d/rust/ClusterIP "$1"
}
rules() { nft list table ip IPaddr2_203_0_113_80 2>/dev/null | grep cip-node-; }
served() { rules | sed -n 's/.*"cip-node-\([0-9]*\)".*/\1/p' | numbers; }
buckets=$(served | paste -sd, -)
[ "$what" = fit ] || echo "203.0.113.80: the predecessor's rules serve here: ${buckets:-nothing}"
[ "$what" = back ] || made=$(nodectl mac 203.0.113.80/26 --compat ipaddr2 --nic bond0 --json)
if [ "$what" != back ] && [ -n "$buckets" ]; then
    mac=$(echo "$made" | sed -n 's/.*"mac":"\([^"]*\)".*/\1/p')
    if ! ip maddress show | grep -q "$mac"; then
        echo "203.0.113.80: here it would be shared under $mac, which no interface has joined: the predecessor derived another" \
            "MAC. Set mac to that one ('ip maddress show'), and its seed: that restarts the clone, and cuts; choose the hour, and" \
            "have this written again; or go with the clone stopped, by --compat none" >&2
        exit 1
    fi
    same 203.0.113.80 "number of instances" "$(rules | behind mod | once)" 6
    same 203.0.113.80 "hash" "$(rules | sed -n 's/.* jhash \(.*\) mod .*/\1/p' | sed 's/^ip saddr$/sourceip/' | once)" sourceip
    same 203.0.113.80 "seed" "$(rules | behind seed | seeds | once)" 0x1badcafe
fi
if [ "$what" = look ]; then
    agent validate-all 0
elif [ "$what" = back ] && ! nodectl buckets 203.0.113.80 > /dev/null 2>&1; then
    echo "203.0.113.80: nothing of it is taken over here, so nothing is given back; the predecessor's rules are as they were"
elif [ "$what" = back ]; then
    # Without rules the address would be answered for all, so it goes first.
    nodectl down 203.0.113.80 --force
    # The predecessor begins anew here; it must add nothing to rules that stand.
    set +e
    ! nft list table ip IPaddr2_203_0_113_80 >/dev/null 2>&1 || nft delete table ip IPaddr2_203_0_113_80
    nft delete table arp IPaddr2_203_0_113_80 2>/dev/null || true
    set -e
    echo "203.0.113.80: given back: dark here until the predecessor runs"
elif [ "$what" = take ] && [ -n "$buckets" ]; then
    pids= failed=
    for bucket in $(served); do agent start "$bucket" & pids="$pids $bucket:$!"; done
    for pid in $pids; do wait "${pid#*:}" || failed="$failed ${pid%%:*}"; done
    for bucket in $(served); do agent monitor "$bucket" || failed="$failed $bucket"; done
    if [ -n "$failed" ]; then
        echo "203.0.113.80: dark here, for they do not run:$failed; mend what is said above and run this again, or run it with" \
            "the word 'back'" >&2
        exit 1
    fi
    ! nft list table ip IPaddr2_203_0_113_80 >/dev/null 2>&1 || nft delete table ip IPaddr2_203_0_113_80
    nft delete table arp IPaddr2_203_0_113_80 2>/dev/null || true
    echo "203.0.113.80: taken over: $buckets"
fi

# web-vip6: 2001:db8:0:1::80
agent() {
    env OCF_ROOT=/usr/lib/ocf OCF_RESOURCE_INSTANCE="web-vip6:$2" OCF_RESOURCE_TYPE=ClusterIP \
        OCF_RESOURCE_PROVIDER=rust OCF_RA_VERSION_MAJOR=1 OCF_RA_VERSION_MINOR=1 \
        OCF_RESKEY_CRM_meta_clone="$2" OCF_RESKEY_CRM_meta_clone_max=6 \
        OCF_RESKEY_CRM_meta_clone_node_max=6 OCF_RESKEY_CRM_meta_globally_unique=true \
        OCF_RESKEY_CRM_meta_timeout=20000 OCF_RESKEY_CRM_meta_on_node="$(crm_node --name)" \
        OCF_RESKEY_cidr_netmask=64 \
        OCF_RESKEY_ip=2001:db8:0:1::80 \
        OCF_RESKEY_nic=bond0 \
        OCF_RESKEY_compat=ipaddr2 \
        /usr/lib/ocf/resource.d/rust/ClusterIP "$1"
}
rules() { nft list table ip6 IPaddr2_2001_db8_0_1__80 2>/dev/null | grep cip-node-; }
served() { rules | sed -n 's/.*"cip-node-\([0-9]*\)".*/\1/p' | numbers; }
buckets=$(served | paste -sd, -)
[ "$what" = fit ] || echo "2001:db8:0:1::80: the predecessor's rules serve here: ${buckets:-nothing}"
[ "$what" = back ] || made=$(nodectl mac 2001:db8:0:1::80/64 --compat ipaddr2 --nic bond0 --json)
if [ "$what" != back ] && [ -n "$buckets" ]; then
    mac=$(echo "$made" | sed -n 's/.*"mac":"\([^"]*\)".*/\1/p')
    if ! ip maddress show | grep -q "$mac"; then
        echo "2001:db8:0:1::80: here it would be shared under $mac, which no interface has joined: the predecessor derived another" \
            "MAC. Set mac to that one ('ip maddress show'), and its seed: that restarts the clone, and cuts; choose the hour, and" \
            "have this written again; or go with the clone stopped, by --compat none" >&2
        exit 1
    fi
    seed=$(echo "$made" | sed -n 's/.*"seed":\([0-9]*\).*/\1/p' | seeds)
    same 2001:db8:0:1::80 "number of instances" "$(rules | behind mod | once)" 6
    same 2001:db8:0:1::80 "hash" "$(rules | sed -n 's/.* jhash \(.*\) mod .*/\1/p' | sed 's/^ip6 saddr$/sourceip/' | once)" sourceip
    same 2001:db8:0:1::80 "seed" "$(rules | behind seed | seeds | once)" "$seed"
fi
if [ "$what" = look ]; then
    agent validate-all 0
elif [ "$what" = back ] && ! nodectl buckets 2001:db8:0:1::80 > /dev/null 2>&1; then
    echo "2001:db8:0:1::80: nothing of it is taken over here, so nothing is given back; the predecessor's rules are as they were"
elif [ "$what" = back ]; then
    # Without rules the address would be answered for all, so it goes first.
    nodectl down 2001:db8:0:1::80 --force
    # The predecessor begins anew here; it must add nothing to rules that stand.
    set +e
    ! nft list table ip6 IPaddr2_2001_db8_0_1__80 >/dev/null 2>&1 || nft delete table ip6 IPaddr2_2001_db8_0_1__80
    set -e
    echo "2001:db8:0:1::80: given back: dark here until the predecessor runs"
elif [ "$what" = take ] && [ -n "$buckets" ]; then
    old=$(ip -6 -o address show to 2001:db8:0:1::80 | while read -r _ nic _ address _; do echo "$address dev $nic"; done)
    ip -6 address change $old preferred_lft 0
    pids= failed=
    for bucket in $(served); do agent start "$bucket" & pids="$pids $bucket:$!"; done
    for pid in $pids; do wait "${pid#*:}" || failed="$failed ${pid%%:*}"; done
    for bucket in $(served); do agent monitor "$bucket" || failed="$failed $bucket"; done
    if [ -n "$failed" ]; then
        echo "2001:db8:0:1::80: dark here, for they do not run:$failed; mend what is said above and run this again, or run it with" \
            "the word 'back'" >&2
        exit 1
    fi
    ! nft list table ip6 IPaddr2_2001_db8_0_1__80 >/dev/null 2>&1 || nft delete table ip6 IPaddr2_2001_db8_0_1__80
    echo "2001:db8:0:1::80: taken over: $buckets"
fi
done
