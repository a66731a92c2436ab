#!/bin/sh
# Takes over on this node what ocf:heartbeat:IPaddr2 serves here, by ocf:rust:ClusterIP; with the word 'look' it only
# looks, with 'back' it gives back. To be run on one node after the other, while the clone is in maintenance. It may be
# run again.
set -eu
what=${1:-take}
numbers() { sort -nu | while read -r number; do echo $((number - 1)); done; }

# ip4: 10.20.0.99
agent() {
    env OCF_ROOT=/usr/lib/ocf OCF_RESOURCE_INSTANCE="ip4:$2" OCF_RESOURCE_TYPE=ClusterIP \
        OCF_RESOURCE_PROVIDER=rust OCF_RA_VERSION_MAJOR=1 OCF_RA_VERSION_MINOR=1 \
        OCF_RESKEY_CRM_meta_clone="$2" OCF_RESKEY_CRM_meta_clone_max=12 \
        OCF_RESKEY_CRM_meta_clone_node_max=12 OCF_RESKEY_CRM_meta_globally_unique=true \
        OCF_RESKEY_CRM_meta_timeout=20000 OCF_RESKEY_CRM_meta_on_node="$(crm_node --name)" \
        OCF_RESKEY_ip=10.20.0.99 \
        OCF_RESKEY_nic=eth0 \
        OCF_RESKEY_cidr_netmask=24 \
        OCF_RESKEY_compat=ipaddr2 \
        /usr/lib/ocf/resource.d/rust/ClusterIP "$1"
}
served() { nft list table ip IPaddr2_10_20_0_99 2>/dev/null | sed -n 's/.*"cip-node-\([0-9]*\)".*/\1/p' | numbers; }
buckets=$(served | paste -sd, -)
echo "10.20.0.99: the predecessor's rules serve here: ${buckets:-nothing}"
[ "$what" = back ] || mac=$(nodectl mac 10.20.0.99/24 --compat ipaddr2 --nic eth0)
if [ "$what" != back ] && [ -n "$buckets" ] && ! ip maddress show | grep -q "$mac"; then
    echo "10.20.0.99: here it would be shared under $mac, which no interface has joined: the predecessor derived another" \
        "MAC; set mac to that one ('ip maddress show'), and its seed" >&2
    exit 1
fi
if [ "$what" = look ]; then
    agent validate-all 0
elif [ "$what" = back ]; then
    # The predecessor begins anew here; it must add nothing to rules that stand.
    set +e
    nft delete table ip IPaddr2_10_20_0_99
    nft delete table arp IPaddr2_10_20_0_99 2>/dev/null || true
    set -e
    nodectl down 10.20.0.99 --force
    echo "10.20.0.99: given back: dark here until the predecessor runs"
elif [ -n "$buckets" ]; then
    pids= failed=
    for bucket in $(served); do agent start "$bucket" & pids="$pids $bucket:$!"; done
    for pid in $pids; do wait "${pid#*:}" || failed="$failed ${pid%%:*}"; done
    for bucket in $(served); do agent monitor "$bucket" || failed="$failed $bucket"; done
    if [ -n "$failed" ]; then
        echo "10.20.0.99: dark here, for they do not run:$failed; mend what is said above and run this again, or run it with" \
            "the word 'back'" >&2
        exit 1
    fi
    nft delete table ip IPaddr2_10_20_0_99
    nft delete table arp IPaddr2_10_20_0_99 2>/dev/null || true
    echo "10.20.0.99: taken over: $buckets"
fi
#!/bin/sh
# Takes over on this node what ocf:heartbeat:IPaddr2 serves here, by ocf:rust:ClusterIP; with the word 'look' it only
# looks, with 'back' it gives back. To be run on one node after the other, while the clone is in maintenance. It may be
# run again.
set -eu
what=${1:-take}
numbers() { sort -nu | while read -r number; do echo $((number - 1)); done; }

# ip6: 2001:db8:20::99
agent() {
    env OCF_ROOT=/usr/lib/ocf OCF_RESOURCE_INSTANCE="ip6:$2" OCF_RESOURCE_TYPE=ClusterIP \
        OCF_RESOURCE_PROVIDER=rust OCF_RA_VERSION_MAJOR=1 OCF_RA_VERSION_MINOR=1 \
        OCF_RESKEY_CRM_meta_clone="$2" OCF_RESKEY_CRM_meta_clone_max=12 \
        OCF_RESKEY_CRM_meta_clone_node_max=6 OCF_RESKEY_CRM_meta_globally_unique=true \
        OCF_RESKEY_CRM_meta_timeout=20000 OCF_RESKEY_CRM_meta_on_node="$(crm_node --name)" \
        OCF_RESKEY_ip=2001:db8:20::99 \
        OCF_RESKEY_nic=eth0 \
        OCF_RESKEY_cidr_netmask=64 \
        OCF_RESKEY_mac=33:33:00:20:00:99 \
        OCF_RESKEY_compat=ipaddr2 \
        /usr/lib/ocf/resource.d/rust/ClusterIP "$1"
}
served() { nft list table ip6 IPaddr2_2001_db8_20__99 2>/dev/null | sed -n 's/.*"cip-node-\([0-9]*\)".*/\1/p' | numbers; }
buckets=$(served | paste -sd, -)
echo "2001:db8:20::99: the predecessor's rules serve here: ${buckets:-nothing}"
if [ "$what" = look ]; then
    agent validate-all 0
elif [ "$what" = back ]; then
    # The predecessor begins anew here; it must add nothing to rules that stand.
    set +e
    nft delete table ip6 IPaddr2_2001_db8_20__99
    set -e
    nodectl down 2001:db8:20::99 --force
    echo "2001:db8:20::99: given back: dark here until the predecessor runs"
elif [ -n "$buckets" ]; then
    old=$(ip -6 -o address show to 2001:db8:20::99 | while read -r _ nic _ address _; do echo "$address dev $nic"; done)
    ip -6 address change $old preferred_lft 0
    pids= failed=
    for bucket in $(served); do agent start "$bucket" & pids="$pids $bucket:$!"; done
    for pid in $pids; do wait "${pid#*:}" || failed="$failed ${pid%%:*}"; done
    for bucket in $(served); do agent monitor "$bucket" || failed="$failed $bucket"; done
    if [ -n "$failed" ]; then
        echo "2001:db8:20::99: dark here, for they do not run:$failed; mend what is said above and run this again, or run it with" \
            "the word 'back'" >&2
        exit 1
    fi
    nft delete table ip6 IPaddr2_2001_db8_20__99
    echo "2001:db8:20::99: taken over: $buckets"
fi
