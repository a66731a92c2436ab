//! Numbers of protocols: what frames carry; and what the hash makes of IP's, which carry ports, which go to every
//! node. Pure.
//!
//! Numbers are IANA's; what is in place of ports is `proto_ports_offset()` of Linux
//! (`include/linux/in.h`), by which `ipt_CLUSTERIP` went.

/// Protocols with ports in their first four bytes: TCP, UDP, DCCP, SCTP, UDP-Lite. ESP has its SPI
/// there, which is hashed as if it were ports.
pub const WITH_PORTS: [u8; 6] = [TCP, UDP, 33, ESP, 132, 136];
/// TCP.
pub const TCP: u8 = 6;
/// UDP.
pub const UDP: u8 = 17;
/// The encapsulating security payload (RFC 4303).
pub const ESP: u8 = 50;
/// The authentication header (RFC 4302): its SPI, four bytes into it, is hashed as if it were ports.
pub const AH: u8 = 51;
/// The IPv6 fragment header (RFC 8200 §4.5).
pub const FRAGMENT_HEADER: u8 = 44;
/// The longest IPv6 fragment, in bytes behind the IPv6 header, and the last offset, that may wait for
/// the first one of their datagram: together they are no more than a datagram may be long.
pub const LONGEST_EARLY: u16 = 9_208;
/// See [`LONGEST_EARLY`]; a multiple of eight.
pub const LAST_EARLY_OFFSET: u16 = 65_535 - LONGEST_EARLY - 7;
/// ICMP.
pub const ICMP: u8 = 1;
/// ICMPv6.
pub const ICMP6: u8 = 58;

/// EtherTypes: what a frame carries.
pub const ETHERTYPE_IP4: u16 = 0x0800;
/// See [`ETHERTYPE_IP4`].
pub const ETHERTYPE_ARP: u16 = 0x0806;
/// See [`ETHERTYPE_IP4`].
pub const ETHERTYPE_IP6: u16 = 0x86dd;
/// The EtherTypes of the two tags that Linux knows (`eth_type_vlan()`): of a VLAN (802.1Q), and of a provider around
/// those of his customers (802.1ad).
pub const VLAN: u16 = 0x8100;
/// See [`VLAN`].
pub const VLAN_OF_PROVIDER: u16 = 0x88a8;

/// ICMP errors (RFC 792, RFC 1122 §3.2.2): they concern a connection whose owner the router that
/// sends them cannot know, and nothing answers them. They come whole, or they are hashed.
pub const ICMP_ERRORS: [u8; 5] = [3, 4, 5, 11, 12];
/// ICMPv6 errors (RFC 4443), and neighbour discovery (RFC 4861) that is sent to the VIP itself, which
/// all nodes answer with the same cluster MAC. Behind extension headers they are hashed.
pub const ICMP6_EVERYWHERE: [u8; 7] = [1, 2, 3, 4, 135, 136, 137];
