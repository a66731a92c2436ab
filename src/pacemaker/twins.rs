//! Resources that are to share one address. Pure; `query` has the program that answers.

use super::cluster::ClusterError;
use super::configured::configured;
use crate::model::untrusted::Untrusted;
use roxmltree::Document;
use std::net::IpAddr;

/// The resources but `own` to which the answer to `Query::Resources` gives this address, in whatever
/// network namespace.
///
/// # Errors
/// [`ClusterError`] for what is no XML.
pub fn twins(resources: &str, ip: IpAddr, own: &str) -> Result<Vec<Untrusted>, ClusterError> {
    let configured = configured(&Document::parse(resources)?);
    let same = configured.into_iter();
    let same = same.filter(|(name, known)| known.ip == Some(ip) && name != own);
    Ok(same.map(|(name, _)| name.as_str().into()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_the_same_address_is_a_twin_however_it_is_written() {
        let primitive = |id: &str, provider: &str, ip: &str| {
            format!(
                "<clone id=\"c-{id}\"><primitive id=\"{id}\" class=\"ocf\" provider=\"{provider}\" \
                 type=\"ClusterIP\"><instance_attributes id=\"a-{id}\"><nvpair id=\"b-{id}\" name=\"ip\" \
                 value=\"{ip}\"/></instance_attributes></primitive></clone>"
            )
        };
        let resources = [
            primitive("own", "rust", "fd77::99"),
            primitive("same", "rust", "fd77:0:0::99"),
            primitive("other", "rust", "fd77::98"),
            primitive("stranger", "heartbeat", "fd77::99"),
        ];
        let resources = format!("<resources>{}</resources>", resources.concat());
        let ip = "fd77::99".parse().expect("an address");
        let found = twins(&resources, ip, "own").expect("XML");
        assert_eq!(found, [Untrusted::from("same")]);
        assert!(twins("", ip, "own").is_err());
    }
}
