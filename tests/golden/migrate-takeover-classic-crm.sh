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
rules() { $(command -v iptables-legacy || command -v iptables) -S INPUT | sed -n '/-d 192\.168\.17\.9\/32 .*-j CLUSTERIP/p'; }
served() { cat /proc/net/ipt_CLUSTERIP/192.168.17.9 2>/dev/null | tr , '\n' | grep . | numbers; }
buckets=$(served | paste -sd, -)
[ "$what" = fit ] || echo "192.168.17.9: the predecessor's rules serve here: ${buckets:-nothing}"
[ "$what" = back ] || made=$(nodectl mac 192.168.17.9/24 --compat clusterip --nic eth0:1 --broadcast 192.168.17.255 --json)
if [ "$what" != back ] && [ -n "$buckets" ]; then
    mac=$(echo "$made" | sed -n 's/.*"mac":"\([^"]*\)".*/\1/p')
    if ! ip maddress show | grep -q "$mac"; then
        echo "192.168.17.9: here it would be shared under $mac, which no interface has joined: the predecessor derived another" \
            "MAC. Set mac to that one ('ip maddress show'), and its seed: that restarts the clone, and cuts; choose the hour, and" \
            "have this written again; or go with the clone stopped, by --compat none" >&2
        exit 1
    fi
    same 192.168.17.9 "number of instances" "$(rules | behind --total-nodes | once)" 4
    same 192.168.17.9 "hash" "$(rules | behind --hashmode | once)" sourceip-sourceport
    same 192.168.17.9 "seed" "$(rules | behind --hash-init | seeds | once)" 0x00000000
fi
if [ "$what" = look ]; then
    agent validate-all 0
elif [ "$what" = back ] && ! nodectl buckets 192.168.17.9 > /dev/null 2>&1; then
    echo "192.168.17.9: nothing of it is taken over here, so nothing is given back; the predecessor's rules are as they were"
elif [ "$what" = back ]; then
    # Without rules the address would be answered for all, so it goes first.
    nodectl down 192.168.17.9 --force
    # The predecessor begins anew here; it must add nothing to rules that stand.
    set +e
    $(command -v iptables-legacy || command -v iptables) -S INPUT | sed -n '/-d 192\.168\.17\.9\/32 .*-j CLUSTERIP/s/^-A/-D/p' | while read -r rule; do
        $(command -v iptables-legacy || command -v iptables) $rule
    done
    set -e
    echo "192.168.17.9: given back: dark here until the predecessor runs"
elif [ "$what" = take ] && [ -n "$buckets" ]; then
    mac=$(rules | behind --clustermac)
    nic=$(rules | behind -i)
    ip maddr show dev "$nic" | grep -q "$mac.*static" || ip maddr add "$mac" dev "$nic"
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
done
