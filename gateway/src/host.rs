//! Which hosts are near: this machine, or a network that outsiders are not on.
//!
//! **Invariant:** a host is judged as parsed, never by how its text begins: `127.0.0.1.example.com` is far away.

use std::net::{IpAddr, Ipv6Addr};

/// Ends of names that no public resolver answers: RFC 6761, RFC 6762 and ICANN's `internal`.
const PRIVATE_ENDS: [&str; 3] = [".localhost", ".local", ".internal"];

/// Whether it is `localhost` or a loopback address; an IPv6 address may stand in brackets.
pub(crate) fn is_this_machine(host: &str) -> bool {
    match address(host) {
        Some(address) => address.is_loopback(),
        None => host.eq_ignore_ascii_case("localhost"),
    }
}

/// Whether it is this machine, an address of a private network, or a name that only such a network knows: one without
/// a dot, or one that ends in `.localhost`, `.local` or `.internal`.
pub(crate) fn is_private(host: &str) -> bool {
    match address(host) {
        Some(IpAddr::V4(address)) => {
            address.is_loopback() || address.is_private() || address.is_link_local()
        }
        Some(IpAddr::V6(address)) => is_private_v6(address),
        None => {
            let name = host.to_ascii_lowercase();
            let lone = !name.is_empty() && !name.contains(['.', ':', '[', ']']);
            lone || PRIVATE_ENDS.iter().any(|end| name.ends_with(end))
        }
    }
}

fn is_private_v6(address: Ipv6Addr) -> bool {
    address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local()
}

fn address(host: &str) -> Option<IpAddr> {
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let address: IpAddr = bare.unwrap_or(host).parse().ok()?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_and_private_networks_are_told_from_names_that_look_like_them() {
        for (host, own, private) in [
            ("localhost", true, true),
            ("LocalHost", true, true),
            ("127.8.9.1", true, true),
            ("[::1]", true, true),
            ("[::ffff:127.0.0.1]", true, true),
            ("10.0.0.1", false, true),
            ("[fd12::1]", false, true),
            ("keycloak", false, true),
            ("idp.internal", false, true),
            ("0.0.0.0", false, false),
            ("11.0.0.1", false, false),
            ("127.0.0.1.example.com", false, false),
            ("localhost.example.com", false, false),
            ("notlocal", false, true),
            ("example.notlocal", false, false),
            ("[2001:db8::1]", false, false),
            ("[fd00.example]", false, false),
            ("", false, false),
        ] {
            assert_eq!(
                (is_this_machine(host), is_private(host)),
                (own, private),
                "{host}"
            );
        }
    }
}
