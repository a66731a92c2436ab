//! The values of the command line that no other part has a type for.

use crate::model::seed::parse_seed;
use crate::model::untrusted::shown;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

/// A seed, decimal or hex.
pub(super) fn seed(text: &str) -> Result<u32, String> {
    parse_seed(text).ok_or_else(|| {
        "use a number from 0 to 4294967295, or 0x and up to eight hex digits".to_owned()
    })
}

/// An address, perhaps with the length of its network's prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressWithPrefix {
    /// The address.
    pub address: IpAddr,
    /// The length.
    pub prefix: Option<u8>,
}

impl FromStr for AddressWithPrefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "'{}' is no address such as 10.0.0.99 or 10.0.0.99/24",
                shown(text)
            )
        };
        let (address, prefix) = match text.split_once('/') {
            None => (text, None),
            Some((address, prefix)) => (address, Some(prefix.parse().map_err(|_| wrong())?)),
        };
        let address = address.parse().map_err(|_| wrong())?;
        Ok(AddressWithPrefix { address, prefix })
    }
}

/// A part of what `migrate` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The new configuration.
    Configuration,
    /// The script by which a node takes over.
    Takeover,
}

impl FromStr for Part {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "configuration" => Ok(Part::Configuration),
            "takeover" => Ok(Part::Takeover),
            _ => Err(format!(
                "'{}' is neither configuration nor takeover",
                shown(text)
            )),
        }
    }
}

/// A client: an address and a port, 0 if it has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client {
    /// The address.
    pub address: IpAddr,
    /// The port.
    pub port: u16,
}

impl FromStr for Client {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bare = text
            .strip_prefix('[')
            .and_then(|text| text.strip_suffix(']'));
        if let Ok(address) = bare.unwrap_or(text).parse() {
            return Ok(Client { address, port: 0 });
        }
        match text.parse::<SocketAddr>() {
            Ok(socket) => Ok(Client {
                address: socket.ip(),
                port: socket.port(),
            }),
            Err(_) => Err(format!(
                "'{}' is no client; write 192.0.2.1, 192.0.2.1:40000 or [2001:db8::1]:40000",
                shown(text)
            )),
        }
    }
}

/// A time in seconds, 0 to 60, perhaps a fraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seconds(pub Duration);

impl FromStr for Seconds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.parse::<f64>().ok();
        let number = number.filter(|number| (0.0..=60.0).contains(number));
        number
            .map(|number| Seconds(Duration::from_secs_f64(number)))
            .ok_or_else(|| {
                format!(
                    "'{}' is no time; use 0 to 60 seconds, such as 0.2",
                    shown(text)
                )
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_read_as_people_write_them() {
        for (text, address, port) in [
            ("192.0.2.1", "192.0.2.1", 0),
            ("192.0.2.1:40000", "192.0.2.1", 40000),
            ("2001:db8::1", "2001:db8::1", 0),
            ("[2001:db8::1]", "2001:db8::1", 0),
            ("[2001:db8::1]:7", "2001:db8::1", 7),
        ] {
            let client: Client = text.parse().expect(text);
            let address: IpAddr = address.parse().expect("an address");
            assert_eq!(client, Client { address, port });
        }
        for wrong in ["", "host", "192.0.2.1:", "192.0.2.1:70000", "[192.0.2"] {
            assert!(wrong.parse::<Client>().is_err(), "{wrong}");
        }
    }
    #[test]
    fn times_are_seconds_and_no_more_than_a_minute() {
        let of = |text: &str| {
            text.parse::<Seconds>()
                .map(|Seconds(time)| time.as_millis())
        };
        assert_eq!((of("0"), of("0.2"), of("60")), (Ok(0), Ok(200), Ok(60_000)));
        for wrong in ["", "-1", "61", "nan", "inf", "1s"] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }
}
