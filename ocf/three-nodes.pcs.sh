#!/bin/sh
# The same as three-nodes.crm, with pcs; see README.md for what to change first.
#
#   sh three-nodes.pcs.sh              on one node of the running cluster, or on a copy of the CIB:
#
#   pcs cluster cib new.xml
#   sh three-nodes.pcs.sh -f new.xml
#   pcs cluster cib-push new.xml
set -eu

# share NAME ADDRESS PREFIX SEED [PCS OPTIONS]
share() {
    name=$1 address=$2 prefix=$3 seed=$4
    shift 4
    pcs "$@" resource create "res$name" ocf:rust:ClusterIP \
        ip="$address" nic=eth0 cidr_netmask="$prefix" \
        clusterip_hash=sourceip-sourceport hash_seed="$seed" \
        op start timeout=20s op stop timeout=20s op monitor interval=10s timeout=20s \
        meta resource-stickiness=0 \
        clone "clone$name" globally-unique=true clone-max=12 clone-node-max=12 interleave=true

    # On each node the service starts before the buckets come and stops after they have gone.
    pcs "$@" constraint order cloneWeb then "clone$name"

    # Buckets go to nodes where the service runs, and nowhere else. Until 0.11 pcs wants the words of a
    # rule one by one, later all in one.
    where="not_defined web-up or web-up ne 1"
    case $(pcs --version) in
        0.9.* | 0.10.* | 0.11.*) pcs "$@" constraint location "clone$name" rule score=-INFINITY $where ;;
        *) pcs "$@" constraint location "clone$name" rule score=-INFINITY "$where" ;;
    esac
}

# The service that the addresses are for, on every node. web-up says so as a node attribute.
pcs "$@" resource create web systemd:nginx \
    op start timeout=60s op stop timeout=60s op monitor interval=20s timeout=20s --group nodeWeb
pcs "$@" resource create web-up ocf:pacemaker:attribute \
    name=web-up active_value=1 inactive_value=0 \
    op start timeout=20s op stop timeout=20s op monitor interval=20s timeout=20s --group nodeWeb
pcs "$@" resource clone nodeWeb cloneWeb interleave=true

share IP 10.0.0.99 24 0x3f7a91c4 "$@"
share IP6 2001:db8::99 64 0x8c21d05b "$@"
