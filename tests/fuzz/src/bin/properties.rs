//! Properties of every carrier: what is taken is written, read and written as the same, and is what the
//! tests' own reader finds; a value is skipped exactly.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringmq::mqtt::data_types::Reader;
use ringmq::mqtt::properties::{Carrier, Properties, skip_value};
use ringmq_fuzz::property::{Fields, Property};
use ringmq_fuzz::{Input, limit_for, within};

const CARRIERS: [Carrier; 9] = [
    Carrier::Connect,
    Carrier::Will,
    Carrier::ConnAck,
    Carrier::Publish,
    Carrier::Acknowledgement,
    Carrier::Subscribe,
    Carrier::Unsubscribe,
    Carrier::Disconnect,
    Carrier::Auth,
];

/// By identifier; those with the same keep their order.
fn sorted(encoded: &[u8]) -> Vec<Property> {
    let mut found = Fields(encoded).properties();
    found.sort_by_key(|(identifier, _)| *identifier);
    found
}

fn check(bytes: &[u8], carrier: Carrier) {
    let mut reader = Reader::new(bytes);
    let Ok(properties) = Properties::decode(&mut reader, carrier) else {
        return;
    };
    let taken = &bytes[..bytes.len() - reader.rest().len()];
    let mut once = Vec::new();
    properties.encode(&mut once);
    assert_eq!(sorted(taken), sorted(&once), "{carrier:?}");
    let second = Properties::decode(&mut Reader::new(&once), carrier).expect("what was taken");
    let mut twice = Vec::new();
    second.encode(&mut twice);
    assert_eq!(once, twice);
    assert_eq!(properties.is_empty(), taken.len() == 1);
    let mut forwarded = Vec::new();
    properties.encode_forwarded(&mut forwarded);
    let mut rest = Reader::new(&forwarded);
    while !rest.is_empty() {
        let identifier = rest.u8().expect("an identifier");
        assert!(matches!(identifier, 0x01 | 0x03 | 0x08 | 0x09 | 0x26));
        skip_value(identifier, &mut rest).expect("a value");
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let carrier = input.pick(&CARRIERS);
    within(limit_for(input.0), || check(input.0, carrier));
});
