#!/bin/sh
# Takes over on this node what ocf:heartbeat:IPaddr2 serves here, by ocf:rust:ClusterIP; with the word 'look' it only
# looks, with 'back' it gives back. To be run on one node after the other, while the clone is in maintenance. It may be
# run again.
set -eu
what=${1:-take}
numbers() { sort -nu | while read -r number; do echo $((number - 1)); done; }

# resIP: 192.168.17.9
agent() {
    env OCF_ROOT=/usr/lib/ocf OCF_RESOURCE_INSTANCE="resIP:$2" OCF_RESOURCE_TYPE=ClusterIP \
        OCF_RESOURCE_PROVIDER=rust OCF_RA_VERSION_MAJOR=1 OCF_RA_VERSION_MINOR=1 \
        OCF_RESKEY_CRM_meta_clone="$2" OCF_RESKEY_CRM_meta_clone_max=4 \
        OCF_RESKEY_CRM_meta_clone_node_max=4 OCF_RESKEY_CRM_meta_globally_unique=true \
        OCF_RESKEY_CRM_meta_timeout=20000 OCF_RESKEY_CRM_meta_on_node="$(crm_node --name)" \
        OCF_RESKEY_ip=192.168.17.9 \
        OCF_RESKEY_nic=eth0:1 \
        OCF_RESKEY_cidr_netmask=24 \
        OCF_RESKEY_broadcast=192.168.17.255 \
        OCF_RESKEY_clusterip_hash=sourceip-sourceport \
        OCF_RESKEY_compat=clusterip \
        /usr/lib/ocf/resource.d/rust/ClusterIP "$1"
}
served() { cat /proc/net/ipt_CLUSTERIP/192.168.17.9 2>/dev/null | tr , '\n' | grep . | numbers; }
buckets=$(served | paste -sd, -)
echo "192.168.17.9: the predecessor's rules serve here: ${buckets:-nothing}"
[ "$what" = back ] || mac=$(nodectl mac 192.168.17.9/24 --compat clusterip --nic eth0:1 --broadcast 192.168.17.255)
if [ "$what" != back ] && [ -n "$buckets" ] && ! ip maddress show | grep -q "$mac"; then
    echo "192.168.17.9: here it would be shared under $mac, which no interface has joined: the predecessor derived another" \
        "MAC; set mac to that one ('ip maddress show'), and its seed" >&2
    exit 1
fi
if [ "$what" = look ]; then
    agent validate-all 0
elif [ "$what" = back ]; then
    # The predecessor begins anew here; it must add nothing to rules that stand.
    set +e
    $(command -v iptables-legacy || command -v iptables) -S INPUT | sed -n '/-d 192\.168\.17\.9\/32 .*-j CLUSTERIP/s/^-A/-D/p' | while read -r rule; do
        $(command -v iptables-legacy || command -v iptables) $rule
    done
    set -e
    nodectl down 192.168.17.9 --force
    echo "192.168.17.9: given back: dark here until the predecessor runs"
elif [ -n "$buckets" ]; then
    mac=$($(command -v iptables-legacy || command -v iptables) -S INPUT | sed -n '/-d 192\.168\.17\.9\/32 .*-j CLUSTERIP/s/.*--clustermac \([^ ]*\).*/\1/p')
    nic=$($(command -v iptables-legacy || command -v iptables) -S INPUT | sed -n '/-d 192\.168\.17\.9\/32 .*-j CLUSTERIP/s/.* -i \([^ ]*\) .*/\1/p')
    ip maddr add "$mac" dev "$nic"
    pids= failed=
    for bucket in $(served); do agent start "$bucket" & pids="$pids $bucket:$!"; done
    for pid in $pids; do wait "${pid#*:}" || failed="$failed ${pid%%:*}"; done
    for bucket in $(served); do agent monitor "$bucket" || failed="$failed $bucket"; done
    if [ -n "$failed" ]; then
        echo "192.168.17.9: dark here, for they do not run:$failed; mend what is said above and run this again, or run it with" \
            "the word 'back'" >&2
        exit 1
    fi
    $(command -v iptables-legacy || command -v iptables) -S INPUT | sed -n '/-d 192\.168\.17\.9\/32 .*-j CLUSTERIP/s/^-A/-D/p' | while read -r rule; do
        $(command -v iptables-legacy || command -v iptables) $rule
    done
    echo "192.168.17.9: taken over: $buckets"
fi
