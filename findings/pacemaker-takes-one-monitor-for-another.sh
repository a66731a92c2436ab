#!/bin/sh
# Which operations has a resource that is made from a template (Pacemaker)?
#
# An operation is known by its name and its interval: a resource may have a monitor every 10 s and another every 60 s, and
# crm_verify minds two of one interval alone. One expects that a resource which adds a monitor every 300 s to those of its
# template has all three. It has that one. Where template and resource meet, operations are the same if name and role
# are, whatever the interval, so that one of the resource takes the place of *all* of that name and role in the
# template. Nothing says so, crm_verify neither. No role is as good as "Started"; a monitor for "Stopped" is added, and the
# template's stay. In a resource without a template the three stand beside each other.
#
# Seen in crm_resource --query-xml, and in which monitors crm_simulate runs.
#
# Wants Debian 12's package archive, apt-get, dpkg-deb. Installs nothing: the packages are unpacked in a temporary folder.
# Ends with 0 while it is so, with 1 if it is otherwise, with 2 if crm_resource does not run.
set -eu

VERSION=2.1.5-1+deb12u1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
chmod 755 "$folder"
cd "$folder"
apt-get -o APT::Sandbox::User=root download -qq "pacemaker-cli-utils=$VERSION" "pacemaker-common=$VERSION" \
    "libcib27=$VERSION" "libcrmcommon34=$VERSION" "libcrmservice28=$VERSION" "liblrmd28=$VERSION" \
    "libpacemaker1=$VERSION" "libpe-rules26=$VERSION" "libpe-status28=$VERSION" "libstonithd26=$VERSION" \
    libqb100 libltdl7 libxml2 libxslt1.1 libicu72 libglib2.0-0 libgnutls30 libpils2
for package in *.deb; do
    dpkg-deb -x "$package" root
done
LD_LIBRARY_PATH=$PWD/root/usr/lib/$(dpkg-architecture -qDEB_HOST_MULTIARCH 2>/dev/null || echo "$(uname -m)-linux-gnu")
PCMK_schema_directory=$PWD/root/usr/share/pacemaker
CIB_file=$PWD/cib.xml
export LD_LIBRARY_PATH PCMK_schema_directory CIB_file
tools=root/usr/sbin
$tools/crm_resource --version | head -n 1 || exit 2

# A monitor: id, interval in seconds, and more attributes.
monitor() {
    echo "<op id='$1' name='monitor' interval='${2}s' timeout='20s' ${3:-}/>"
}

cat > cib.xml <<CIB
<cib crm_feature_set='3.16.1' validate-with='pacemaker-3.8' epoch='1' num_updates='0' admin_epoch='0' dc-uuid='1'
 have-quorum='1'><configuration><crm_config><cluster_property_set id='p'>
 <nvpair id='s' name='stonith-enabled' value='false'/></cluster_property_set></crm_config>
 <nodes><node id='1' uname='a'/></nodes><resources>
 <template id='t' class='ocf' provider='pacemaker' type='Dummy'><operations>
 $(monitor t10 10) $(monitor t60 60) <op id='ts' name='start' interval='0s' timeout='33s'/></operations></template>
 <primitive id='none' template='t'/>
 <primitive id='other' template='t'><operations>$(monitor o300 300)</operations></primitive>
 <primitive id='started' template='t'><operations>$(monitor s300 300 "role='Started'")</operations></primitive>
 <primitive id='stopped' template='t'><operations>$(monitor d300 300 "role='Stopped'")</operations></primitive>
 <primitive id='alone' class='ocf' provider='pacemaker' type='Dummy'><operations>
 $(monitor a10 10) $(monitor a60 60) $(monitor a300 300)</operations></primitive>
 </resources><constraints/></configuration>
 <status><node_state id='1' uname='a' in_ccm='true' crmd='online' join='member' expected='member'/></status></cib>
CIB
$tools/crm_verify --xml-file cib.xml --verbose > verified 2>&1 || { cat verified; exit 2; }
echo "crm_verify: exit code 0, and says: $(cat verified)"
$tools/crm_simulate --simulate --xml-file cib.xml > simulated 2>&1 || { cat simulated; exit 2; }

surprises=0
[ -z "$(cat verified)" ] || surprises=1
# The operations of a resource, by their ids, and the intervals in ms of the monitors that run behind its start.
expect() {
    $tools/crm_resource --resource "$1" --query-xml > resource
    seen=$(sed -n 's/.*<op id="\([^"]*\)".*/\1/p' resource | sort | xargs)
    runs=$(sed -n "s/.*Resource action: $1  *monitor=\([0-9]*\) on a\$/\1/p" simulated | sort -n | xargs)
    echo "$1: operations $seen; monitors $runs"
    [ "$seen; $runs" = "$2; $3" ] || { echo "  another behaviour: $2; $3 was expected"; surprises=1; }
}
expect none "t10 t60 ts" "10000 60000"
expect other "o300 ts" "300000"
expect started "s300 ts" "300000"
expect stopped "d300 t10 t60 ts" "10000 60000"
expect alone "a10 a300 a60" "10000 60000 300000"
exit $surprises
