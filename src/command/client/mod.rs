//! `ringmq pub`, `sub` and `ping`: an MQTT client on the broker's own codec, one packet after the other.

mod link;

use std::io::{BufRead, Read};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::cli::admin::{Ping, Pub, Sub};
use crate::mqtt::data_types::{PacketIdentifier, QoS};
use crate::mqtt::packet::acknowledgement::Acknowledgement;
use crate::mqtt::packet::publish::{Publish, PublishOut};
use crate::mqtt::packet::subscribe::{RetainHandling, Subscribe, SubscriptionOptions};
use crate::mqtt::packet::{PINGREQ, Packet, PacketType};
use crate::mqtt::properties::{Properties, encode_user_properties, user_properties_of};
use crate::mqtt::reason_code::ReasonCode;
use crate::mqtt::topic_name;
use crate::runtime::exit_code;
use crate::runtime::launch::print_block;

use super::Failure;
use link::Link;

/// How long the broker may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

fn failed(cause: impl ToString) -> Failure {
    Failure::new(exit_code::UNEXPECTED, cause)
}

/// Publishes a message, or a message for each line of standard input.
///
/// # Errors
/// The broker cannot be reached, or does not take a message.
pub(super) fn publish(what: &Pub) -> Result<(), Failure> {
    topic_name::validate(&what.topic).map_err(|error| failed(error.cause()))?;
    let mut link = Link::connect(&what.reach)?;
    if what.lines {
        for line in std::io::stdin().lock().lines() {
            let line = line.map_err(failed)?;
            publish_one(&mut link, what, line.as_bytes())?;
        }
    } else {
        let mut payload = Vec::new();
        match what.payload.as_deref() {
            Some("-") => {
                std::io::stdin()
                    .lock()
                    .read_to_end(&mut payload)
                    .map_err(failed)?;
            }
            Some(text) => payload.extend_from_slice(text.as_bytes()),
            None => {}
        }
        publish_one(&mut link, what, &payload)?;
    }
    link.disconnect()
}

fn publish_one(link: &mut Link, what: &Pub, payload: &[u8]) -> Result<(), Failure> {
    let qos = QoS::from_bits(what.qos).unwrap_or(QoS::AtMostOnce);
    let identifier = (qos != QoS::AtMostOnce).then(|| link.next_identifier());
    let pairs: Vec<_> = what
        .property
        .iter()
        .map(|(name, value)| (&**name, &**value))
        .collect();
    let user_properties = encode_user_properties(&pairs);
    let mut forwarded = Vec::new();
    Properties {
        content_type: what.content_type.as_deref(),
        response_topic: what.response_topic.as_deref(),
        user_properties: user_properties_of(&user_properties),
        ..Properties::default()
    }
    .encode_forwarded(&mut forwarded);
    let publish = PublishOut {
        dup: false,
        qos,
        retain: what.retain,
        topic_name: &what.topic,
        packet_identifier: identifier,
        message_expiry_interval_s: what.expiry,
        topic_alias: None,
        subscription_identifiers: &[],
        forwarded_properties: &forwarded,
        payload,
    };
    link.send(|version, out| publish.encode(version, out))?;
    let Some(identifier) = identifier else {
        return Ok(());
    };
    let awaited = match qos {
        QoS::ExactlyOnce => PacketType::PubRec,
        _ => PacketType::PubAck,
    };
    await_acknowledgement(link, awaited, identifier)?;
    if qos == QoS::ExactlyOnce {
        acknowledge(link, PacketType::PubRel, identifier)?;
        await_acknowledgement(link, PacketType::PubComp, identifier)?;
    }
    Ok(())
}

fn acknowledge(
    link: &mut Link,
    kind: PacketType,
    identifier: PacketIdentifier,
) -> Result<(), Failure> {
    let ack = Acknowledgement::new(identifier, ReasonCode::Success);
    link.send(|version, out| ack.encode(version, kind, out))
}

fn await_acknowledgement(
    link: &mut Link,
    kind: PacketType,
    identifier: PacketIdentifier,
) -> Result<(), Failure> {
    link.wait(PATIENCE, |packet| {
        let ack = match packet {
            Packet::PubAck(ack) if kind == PacketType::PubAck => ack,
            Packet::PubRec(ack) if kind == PacketType::PubRec => ack,
            Packet::PubComp(ack) if kind == PacketType::PubComp => ack,
            _ => return None,
        };
        if ack.packet_identifier != identifier {
            return None;
        }
        Some(match ack.reason_code.is_error() {
            true => Err(failed(format!(
                "the broker does not take the message: {:?}{}",
                ack.reason_code,
                ack.properties.as_ref().map(why).unwrap_or_default()
            ))),
            false => Ok(()),
        })
    })?
}

/// A Reason String, if there is one.
fn why(properties: &Properties<'_>) -> String {
    properties
        .reason_string
        .map(|reason| format!(" ({reason})"))
        .unwrap_or_default()
}

/// What arrived, to be acknowledged.
struct Arrived {
    qos: QoS,
    identifier: Option<PacketIdentifier>,
    line: String,
}

/// Subscribes, and prints messages until the end.
///
/// # Errors
/// The broker cannot be reached, or grants nothing.
pub(super) fn subscribe(what: &Sub) -> Result<(), Failure> {
    let mut link = Link::connect(&what.reach)?;
    let options = SubscriptionOptions {
        qos: QoS::from_bits(what.qos).unwrap_or(QoS::AtMostOnce),
        no_local: false,
        retain_as_published: true,
        retain_handling: match what.no_retained {
            true => RetainHandling::DoNotSend,
            false => RetainHandling::SendAtSubscribe,
        },
    };
    // 3.1.1 has no options beside QoS.
    let options = match link.version().is_v5() {
        true => options,
        false => SubscriptionOptions {
            retain_as_published: false,
            retain_handling: RetainHandling::SendAtSubscribe,
            ..options
        },
    };
    let filters: Vec<_> = what
        .filters
        .iter()
        .map(|filter| (&**filter, options))
        .collect();
    let payload = Subscribe::encode_filters(&filters);
    let identifier = link.next_identifier();
    let request = Subscribe::new(identifier, Properties::default(), &payload);
    link.send(|version, out| request.encode(version, out))?;
    let deadline = what
        .duration
        .map(|seconds| Instant::now() + Duration::from_secs(seconds.into()));
    let mut left = what.count;
    let mut granted = false;
    while left != Some(0) {
        let patience = match (granted, deadline) {
            (false, _) => Some(PATIENCE),
            (true, Some(deadline)) => Some(deadline.saturating_duration_since(Instant::now())),
            (true, None) => None,
        };
        if granted && patience.is_some_and(|left| left.is_zero()) {
            break;
        }
        let arrived = link.next(patience, |packet| match packet {
            Packet::SubAck(ack) => {
                let refused = ack.reason_codes.iter().zip(&what.filters);
                let refused = refused.filter(|(code, _)| code.is_error());
                let texts: Vec<_> = refused
                    .map(|(code, filter)| format!("{filter}: {code:?}"))
                    .collect();
                match texts.is_empty() {
                    true => Ok(Seen::Granted),
                    false => Err(failed(format!(
                        "the broker does not grant {}{}",
                        texts.join(", "),
                        why(&ack.properties)
                    ))),
                }
            }
            Packet::Publish(publish) => Ok(Seen::Message(Arrived {
                qos: publish.qos,
                identifier: publish.packet_identifier,
                line: line(publish, what.json),
            })),
            Packet::PubRel(ack) => Ok(Seen::Release(ack.packet_identifier)),
            _ => Ok(Seen::Other),
        })?;
        match arrived {
            Some(Seen::Granted) => granted = true,
            Some(Seen::Message(message)) => {
                print_block(&message.line);
                left = left.map(|left| left - 1);
                match (message.qos, message.identifier) {
                    (QoS::AtLeastOnce, Some(id)) => acknowledge(&mut link, PacketType::PubAck, id)?,
                    (QoS::ExactlyOnce, Some(id)) => acknowledge(&mut link, PacketType::PubRec, id)?,
                    _ => {}
                }
            }
            Some(Seen::Release(id)) => acknowledge(&mut link, PacketType::PubComp, id)?,
            Some(Seen::Other) => {}
            None if granted => break,
            None => return Err(failed("the broker does not answer SUBSCRIBE")),
        }
    }
    link.disconnect()
}

/// What a subscriber sees.
enum Seen {
    Granted,
    Message(Arrived),
    Release(PacketIdentifier),
    Other,
}

/// A message as it is printed. A text that is none is shown in hexadecimal digits.
fn line(publish: &Publish<'_>, as_json: bool) -> String {
    let text = std::str::from_utf8(publish.payload).ok();
    let hex = || {
        publish
            .payload
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    if as_json {
        let mut object = json!({
            "topic": publish.topic_name,
            "qos": publish.qos as u8,
            "retain": publish.retain,
            "payload": text,
        });
        if text.is_none() {
            object["payload_hex"] = hex().into();
        }
        return format!("{object}\n");
    }
    // What a publisher chose cannot steer the terminal.
    let safe = |text: &str| {
        let safe = |c: char| {
            if c.is_control() && c != '\n' && c != '\t' {
                '\u{fffd}'
            } else {
                c
            }
        };
        text.chars().map(safe).collect::<String>()
    };
    let payload = text.map_or_else(hex, safe);
    format!("{} {payload}\n", safe(publish.topic_name))
}

/// Connects, and measures how long PINGRESP takes.
///
/// # Errors
/// The broker cannot be reached, or does not answer.
pub(super) fn ping(what: &Ping) -> Result<(), Failure> {
    let began = Instant::now();
    let mut link = Link::connect(&what.reach)?;
    print_block(&format!(
        "{}: CONNACK after {:.3} ms\n",
        what.reach.broker,
        milliseconds(began.elapsed())
    ));
    let mut times = Vec::new();
    for number in 1..=what.count {
        let sent = Instant::now();
        link.send(|_, out| out.extend_from_slice(&PINGREQ))?;
        link.wait(PATIENCE, |packet| {
            matches!(packet, Packet::PingResp).then_some(())
        })?;
        let time = milliseconds(sent.elapsed());
        print_block(&format!("PINGRESP {number}: {time:.3} ms\n"));
        times.push(time);
    }
    times.sort_by(f64::total_cmp);
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    let most = times.last().copied().unwrap_or_default();
    print_block(&format!("median {median:.3} ms, longest {most:.3} ms\n"));
    link.disconnect()
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
