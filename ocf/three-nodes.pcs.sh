#!/bin/sh
# The same as three-nodes.crm, with pcs; see README.md for what to change first.
#
#   sh three-nodes.pcs.sh              on one node of the running cluster
#
# A copy of the configuration is changed and loaded as a whole: pcs would start what there is already
# while the rest is still missing.
set -eu
if [ $# -gt 0 ]; then
    echo "usage: sh three-nodes.pcs.sh" >&2
    exit 64
fi
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
pcs cluster cib "$folder/old.xml"
cp "$folder/old.xml" "$folder/new.xml"
change() { pcs -f "$folder/new.xml" "$@"; }

# share NAME ADDRESS PREFIX SEED
share() {
    name=$1 address=$2 prefix=$3 seed=$4
    change resource create "res$name" ocf:rust:ClusterIP \
        ip="$address" nic=eth0 cidr_netmask="$prefix" \
        clusterip_hash=sourceip-sourceport hash_seed="$seed" \
        op start timeout=20s op stop timeout=20s op monitor interval=10s timeout=20s \
        meta resource-stickiness=0
    change resource clone "res$name" "clone$name" \
        meta globally-unique=true clone-max=12 clone-node-max=12 interleave=true

    # On each node the service starts before the buckets come and stops after they have gone.
    change constraint order cloneWeb then "clone$name"

    # Buckets go to nodes where the service runs, and nowhere else. Until 0.11 pcs wants the words of a
    # rule one by one, later all in one.
    where="not_defined web-up or web-up ne 1"
    case $(pcs --version) in
        0.9.* | 0.10.* | 0.11.*) change constraint location "clone$name" rule score=-INFINITY $where ;;
        *) change constraint location "clone$name" rule score=-INFINITY "$where" ;;
    esac
}

# The service that the addresses are for, on every node. web-up says so as a node attribute.
change resource create web systemd:nginx \
    op start timeout=60s op stop timeout=60s op monitor interval=20s timeout=20s
change resource create web-up ocf:pacemaker:attribute \
    name=web-up active_value=1 inactive_value=0 \
    op start timeout=20s op stop timeout=20s op monitor interval=20s timeout=20s
change resource group add nodeWeb web web-up
change resource clone nodeWeb cloneWeb meta interleave=true

share IP 10.0.0.99 24 0x3f7a91c4
share IP6 2001:db8::99 64 0x8c21d05b

pcs cluster cib-push "$folder/new.xml" diff-against="$folder/old.xml"
