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
rules() { ip netns exec dmz iptables -t mangle -S PREROUTING 2>/dev/null | sed -n '/-d 198\.51\.100\.53\/32 .*-m cluster /p'; }
served() { rules | behind --cluster-local-nodemask | bits | numbers; }
buckets=$(served | paste -sd, -)
[ "$what" = fit ] || echo "198.51.100.53: the predecessor's rules serve here: ${buckets:-nothing}"
[ "$what" = back ] || made=$(nodectl mac 198.51.100.53/24 --compat ipaddr2 --nic eth1 --broadcast 198.51.100.255 --netns dmz --json)
if [ "$what" != back ] && [ -n "$buckets" ]; then
    mac=$(echo "$made" | sed -n 's/.*"mac":"\([^"]*\)".*/\1/p')
    if ! ip netns exec dmz ip maddress show | grep -q "$mac"; then
        echo "198.51.100.53: here it would be shared under $mac, which no interface has joined: the predecessor derived another" \
            "MAC. Set mac to that one ('ip maddress show'), and its seed: that restarts the clone, and cuts; choose the hour, and" \
            "have this written again; or go with the clone stopped, by --compat none" >&2
        exit 1
    fi
    seed=$(echo "$made" | sed -n 's/.*"seed":\([0-9]*\).*/\1/p' | seeds)
    same 198.51.100.53 "number of instances" "$(rules | behind --cluster-total-nodes | once)" 3
    same 198.51.100.53 "seed" "$(rules | behind --cluster-hash-seed | seeds | once)" "$seed"
fi
if [ "$what" = look ]; then
    agent validate-all 0
elif [ "$what" = back ] && ! nodectl buckets 198.51.100.53 --netns dmz > /dev/null 2>&1; then
    echo "198.51.100.53: nothing of it is taken over here, so nothing is given back; the predecessor's rules are as they were"
elif [ "$what" = back ]; then
    # Without rules the address would be answered for all, so it goes first.
    nodectl down 198.51.100.53 --force --netns dmz
    # The predecessor begins anew here; it must add nothing to rules that stand.
    set +e
    ip netns exec dmz iptables -t mangle -S PREROUTING | sed -n '/-d 198\.51\.100\.53\/32 -i [^ ]* -j DROP/s/^-A/-D/p' | while read -r rule; do
        ip netns exec dmz iptables -t mangle $rule
    done
    ip netns exec dmz iptables -t mangle -S PREROUTING | sed -n '/-d 198\.51\.100\.53\/32 .*-m cluster /p' | while read -r rule; do
        node=$(echo "$rule" | behind --cluster-local-nodemask | bits)
        ip netns exec dmz iptables -t mangle $(echo "$rule" | sed "s/^-A/-D/; s/--cluster-local-nodemask [^ ]*/--cluster-local-node $node/")
    done
    set -e
    echo "198.51.100.53: given back: dark here until the predecessor runs"
elif [ "$what" = take ] && [ -n "$buckets" ]; then
    pids= failed=
    for bucket in $(served); do agent start "$bucket" & pids="$pids $bucket:$!"; done
    for pid in $pids; do wait "${pid#*:}" || failed="$failed ${pid%%:*}"; done
    for bucket in $(served); do agent monitor "$bucket" || failed="$failed $bucket"; done
    if [ -n "$failed" ]; then
        echo "198.51.100.53: dark here, for they do not run:$failed; mend what is said above and run this again, or run it with" \
            "the word 'back'" >&2
        exit 1
    fi
    ip netns exec dmz iptables -t mangle -S PREROUTING | sed -n '/-d 198\.51\.100\.53\/32 -i [^ ]* -j DROP/s/^-A/-D/p' | while read -r rule; do
        ip netns exec dmz iptables -t mangle $rule
    done
    ip netns exec dmz iptables -t mangle -S PREROUTING | sed -n '/-d 198\.51\.100\.53\/32 .*-m cluster /p' | while read -r rule; do
        node=$(echo "$rule" | behind --cluster-local-nodemask | bits)
        ip netns exec dmz iptables -t mangle $(echo "$rule" | sed "s/^-A/-D/; s/--cluster-local-nodemask [^ ]*/--cluster-local-node $node/")
    done
    echo "198.51.100.53: taken over: $buckets"
fi
done
