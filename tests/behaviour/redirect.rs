//! Server redirection (4.11): clients are pointed elsewhere.

use crate::support::packet::VERSIONS;
use crate::support::{Broker, Client, Connect, Version, property};

#[test]
fn clients_are_told_where_to_go() {
    for (permanent, code) in [(false, 0x9c), (true, 0x9d)] {
        let broker = Broker::with(&format!(
            "redirect.server_reference = \"other.example:1883\"\nredirect.permanent = {permanent}"
        ));
        for version in VERSIONS {
            let refusal = Client::refused(&broker, &Connect::new("moved").version(version));
            if version == Version::V5 {
                assert_eq!(refusal.code, code);
                let reference = refusal
                    .property(property::SERVER_REFERENCE)
                    .expect("Server Reference");
                assert_eq!(reference.text(), "other.example:1883");
            } else {
                assert_eq!(refusal.code, 3, "Server unavailable");
            }
        }
    }
}
