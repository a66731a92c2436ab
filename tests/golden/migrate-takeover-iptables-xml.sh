#!/bin/sh
# Takes over on this node what ocf:heartbeat:IPaddr2 serves here, by ocf:rust:ClusterIP; with the word 'look' it only
# looks, with 'back' it gives back. To be run on one node after the other, while the clone is in maintenance. It may be
# run again.
set -eu
what=${1:-take}
numbers() { sort -nu | while read -r number; do echo $((number - 1)); done; }

# dns-ip: 198.51.100.53
agent() {
    env OCF_ROOT=/usr/lib/ocf OCF_RESOURCE_INSTANCE="dns-ip:$2" OCF_RESOURCE_TYPE=ClusterIP \
        OCF_RESOURCE_PROVIDER=rust OCF_RA_VERSION_MAJOR=1 OCF_RA_VERSION_MINOR=1 \
        OCF_RESKEY_CRM_meta_clone="$2" OCF_RESKEY_CRM_meta_clone_max=3 \
        OCF_RESKEY_CRM_meta_clone_node_max=3 OCF_RESKEY_CRM_meta_globally_unique=true \
        OCF_RESKEY_CRM_meta_timeout=20000 OCF_RESKEY_CRM_meta_on_node="$(crm_node --name)" \
        OCF_RESKEY_ip=198.51.100.53 \
        OCF_RESKEY_broadcast=198.51.100.255 \
        OCF_RESKEY_nic=eth1 \
        OCF_RESKEY_cidr_netmask=24 \
        OCF_RESKEY_network_namespace=dmz \
        OCF_RESKEY_compat=ipaddr2 \
        /usr/lib/ocf/resource.d/rust/ClusterIP "$1"
}
served() { ip netns exec dmz iptables -t mangle -S PREROUTING 2>/dev/null | sed -n 's/.*-d 198\.51\.100\.53\/32 .*--cluster-local-node \([0-9]*\).*/\1/p' | numbers; }
buckets=$(served | paste -sd, -)
echo "198.51.100.53: the predecessor's rules serve here: ${buckets:-nothing}"
[ "$what" = back ] || mac=$(nodectl mac 198.51.100.53/24 --compat ipaddr2 --nic eth1 --broadcast 198.51.100.255 --netns dmz)
if [ "$what" != back ] && [ -n "$buckets" ] && ! ip netns exec dmz ip maddress show | grep -q "$mac"; then
    echo "198.51.100.53: here it would be shared under $mac, which no interface has joined: the predecessor derived another" \
        "MAC; set mac to that one ('ip maddress show'), and its seed" >&2
    exit 1
fi
if [ "$what" = look ]; then
    agent validate-all 0
elif [ "$what" = back ]; then
    # The predecessor begins anew here; it must add nothing to rules that stand.
    set +e
    ip netns exec dmz iptables -t mangle -S PREROUTING | sed -n '/-d 198\.51\.100\.53\/32 .*-j DROP/s/^-A/-D/p' | while read -r rule; do
        ip netns exec dmz iptables -t mangle $rule
    done
    ip netns exec dmz iptables -t mangle -S PREROUTING | sed -n '/-d 198\.51\.100\.53\/32 .*-m cluster /s/^-A/-D/p' | while read -r rule; do
        ip netns exec dmz iptables -t mangle $rule
    done
    set -e
    nodectl down 198.51.100.53 --force --netns dmz
    echo "198.51.100.53: given back: dark here until the predecessor runs"
elif [ -n "$buckets" ]; then
    pids= failed=
    for bucket in $(served); do agent start "$bucket" & pids="$pids $bucket:$!"; done
    for pid in $pids; do wait "${pid#*:}" || failed="$failed ${pid%%:*}"; done
    for bucket in $(served); do agent monitor "$bucket" || failed="$failed $bucket"; done
    if [ -n "$failed" ]; then
        echo "198.51.100.53: dark here, for they do not run:$failed; mend what is said above and run this again, or run it with" \
            "the word 'back'" >&2
        exit 1
    fi
    ip netns exec dmz iptables -t mangle -S PREROUTING | sed -n '/-d 198\.51\.100\.53\/32 .*-j DROP/s/^-A/-D/p' | while read -r rule; do
        ip netns exec dmz iptables -t mangle $rule
    done
    ip netns exec dmz iptables -t mangle -S PREROUTING | sed -n '/-d 198\.51\.100\.53\/32 .*-m cluster /s/^-A/-D/p' | while read -r rule; do
        ip netns exec dmz iptables -t mangle $rule
    done
    echo "198.51.100.53: taken over: $buckets"
fi
