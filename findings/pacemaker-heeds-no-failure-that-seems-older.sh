#!/bin/sh
# What does Pacemaker do about a monitor that fails after the node's clock was set back?
#
# A resource was started, its recurring monitor went well, and then fails. One expects Pacemaker to order what happened
# on one node by the numbers that its executor gives (call-id), and to recover the resource. It does, if the failure's time
# is later than that of the monitor's first success. If it is earlier, for the clock was set back in between, the
# failure is in the status, with its fail-count and its line in crm_mon's list of failed actions, and nothing is
# recovered: the resource is "Started". This does not end when the clock has caught up, for the monitor goes on to fail
# in the same way, which is not recorded anew.
#
# Seen with crm_simulate 2.1.5 on a status written by hand, and in a running cluster of three nodes with the same version.
# Who has corrected a clock by more than seconds has the history forgotten: crm_resource --refresh.
#
# Wants Debian 12's package archive, apt-get, dpkg-deb. Installs nothing: the packages are unpacked in a
# temporary folder. Ends with 0 if the later failure is recovered and the earlier one is not, with 1 if that has
# changed, with 2 if crm_simulate does not run.
set -eu

VERSION=2.1.5-1+deb12u1
START=1800000000
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
export LD_LIBRARY_PATH PCMK_schema_directory
simulate=root/usr/sbin/crm_simulate
$simulate --version | head -n 1 || exit 2

# Digests of the parameters (none) of a start and of a monitor.
STARTED=f2317cad3d54cec5d7d7aa7d0bf35cf8
MONITORED=4811cef7f7f94e3a35a70be7916cb2fd

# An entry of the history: its name, the operation, its interval, call-id, exit code, time and digest.
entry() {
    key="1:1:0:01234567-89ab-cdef-0123-456789abcdef"
    echo "<lrm_rsc_op id='r_$1' operation_key='r_$2_$3' operation='$2' interval='$3' call-id='$4' rc-code='$5'
        last-rc-change='$6' op-status='0' on_node='a' crm_feature_set='3.16.1' transition-key='$key'
        transition-magic='0:$5;$key' op-digest='$7'/>"
}

# A status in which the monitor's failure has this time; the monitor went well at the start's.
status() {
    echo "<cib crm_feature_set='3.16.1' validate-with='pacemaker-3.0' epoch='1' num_updates='0' admin_epoch='0'
        dc-uuid='1' have-quorum='1'><configuration><crm_config><cluster_property_set id='p'>
        <nvpair id='s' name='stonith-enabled' value='false'/></cluster_property_set></crm_config>
        <nodes><node id='1' uname='a'/></nodes>
        <resources><primitive id='r' class='ocf' provider='pacemaker' type='Dummy'><operations>
        <op id='m' name='monitor' interval='10s' timeout='20s'/></operations></primitive></resources>
        <constraints/></configuration>
        <status><node_state id='1' uname='a' in_ccm='true' crmd='online' join='member' expected='member'>
        <lrm id='1'><lrm_resources><lrm_resource id='r' type='Dummy' class='ocf' provider='pacemaker'>"
    entry last_0 start 0 10 0 $START $STARTED
    entry monitor_10000 monitor 10000 11 0 $START $MONITORED
    entry last_failure_0 monitor 10000 11 7 "$1" $MONITORED
    echo "</lrm_resource></lrm_resources></lrm></node_state></status></cib>"
}

# What is done about it, long after.
recovers() {
    status "$1" > status.xml
    $simulate --simulate --xml-file status.xml --set-datetime $((START + 100000)) > said 2>&1 || { cat said; exit 2; }
    sed -n '/^Transition Summary/,/^Executing/p' said
    grep -q 'Recover  *r ' said
}

echo "The failure is 100 s later than the success:"
if recovers $((START + 100)); then later=recovered; else later=ignored; fi
echo "The failure is 100 s earlier, for the clock was set back:"
if recovers $((START - 100)); then earlier=recovered; else earlier=ignored; fi
echo "later: $later; earlier: $earlier"
[ $later = recovered ] && [ $earlier = ignored ]
