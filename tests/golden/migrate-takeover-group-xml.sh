#!/bin/sh
# Takes over on this node what ocf:heartbeat:IPaddr2 serves here, by ocf:rust:ClusterIP; with the word 'look' it only
# looks, with 'back' it gives back. To be run on one node after the other, while the clone is in maintenance. It may be
# run again.
set -eu
what=${1:-take}
numbers() { sort -nu | while read -r number; do echo $((number - 1)); done; }

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
served() { nft list table ip IPaddr2_203_0_113_80 2>/dev/null | sed -n 's/.*"cip-node-\([0-9]*\)".*/\1/p' | numbers; }
buckets=$(served | paste -sd, -)
echo "203.0.113.80: the predecessor's rules serve here: ${buckets:-nothing}"
[ "$what" = back ] || mac=$(nodectl mac 203.0.113.80/26 --compat ipaddr2 --nic bond0)
if [ "$what" != back ] && [ -n "$buckets" ] && ! ip maddress show | grep -q "$mac"; then
    echo "203.0.113.80: here it would be shared under $mac, which no interface has joined: the predecessor derived another" \
        "MAC; set mac to that one ('ip maddress show'), and its seed" >&2
    exit 1
fi
if [ "$what" = look ]; then
    agent validate-all 0
elif [ "$what" = back ]; then
    # The predecessor begins anew here; it must add nothing to rules that stand.
    set +e
    nft delete table ip IPaddr2_203_0_113_80
    nft delete table arp IPaddr2_203_0_113_80 2>/dev/null || true
    set -e
    nodectl down 203.0.113.80 --force
    echo "203.0.113.80: given back: dark here until the predecessor runs"
elif [ -n "$buckets" ]; then
    pids= failed=
    for bucket in $(served); do agent start "$bucket" & pids="$pids $bucket:$!"; done
    for pid in $pids; do wait "${pid#*:}" || failed="$failed ${pid%%:*}"; done
    for bucket in $(served); do agent monitor "$bucket" || failed="$failed $bucket"; done
    if [ -n "$failed" ]; then
        echo "203.0.113.80: dark here, for they do not run:$failed; mend what is said above and run this again, or run it with" \
            "the word 'back'" >&2
        exit 1
    fi
    nft delete table ip IPaddr2_203_0_113_80
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
served() { nft list table ip6 IPaddr2_2001_db8_0_1__80 2>/dev/null | sed -n 's/.*"cip-node-\([0-9]*\)".*/\1/p' | numbers; }
buckets=$(served | paste -sd, -)
echo "2001:db8:0:1::80: the predecessor's rules serve here: ${buckets:-nothing}"
[ "$what" = back ] || mac=$(nodectl mac 2001:db8:0:1::80/64 --compat ipaddr2 --nic bond0)
if [ "$what" != back ] && [ -n "$buckets" ] && ! ip maddress show | grep -q "$mac"; then
    echo "2001:db8:0:1::80: here it would be shared under $mac, which no interface has joined: the predecessor derived another" \
        "MAC; set mac to that one ('ip maddress show'), and its seed" >&2
    exit 1
fi
if [ "$what" = look ]; then
    agent validate-all 0
elif [ "$what" = back ]; then
    # The predecessor begins anew here; it must add nothing to rules that stand.
    set +e
    nft delete table ip6 IPaddr2_2001_db8_0_1__80
    set -e
    nodectl down 2001:db8:0:1::80 --force
    echo "2001:db8:0:1::80: given back: dark here until the predecessor runs"
elif [ -n "$buckets" ]; then
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
    nft delete table ip6 IPaddr2_2001_db8_0_1__80
    echo "2001:db8:0:1::80: taken over: $buckets"
fi
