//! Shared Subscriptions (4.8.2): one member of a group gets a message, by the configured strategy.

use std::collections::{BTreeMap, HashSet};

use crate::support::packet::VERSIONS;
use crate::support::{Broker, Client, Connect, Kind, Packet, SILENCE_MS, Subscribe};

fn member(broker: &Broker, id: &str, filter: &str) -> Client {
    let mut member = broker.client(id);
    member.subscribe(filter, 1);
    member
}

fn members(broker: &Broker, count: usize, filter: &str) -> Vec<Client> {
    (0..count)
        .map(|n| member(broker, &format!("member-{n}"), filter))
        .collect()
}

/// What each member gets until nothing more comes.
fn drain(members: &mut [Client]) -> Vec<Vec<Packet>> {
    members
        .iter_mut()
        .map(|member| member.drain(SILENCE_MS))
        .collect()
}

fn expect_each_once(received: &[Vec<Packet>], count: usize) {
    let all: Vec<&str> = received.iter().flatten().map(Packet::text).collect();
    let different: HashSet<&str> = all.iter().copied().collect();
    assert_eq!(
        (all.len(), different.len()),
        (count, count),
        "each message once"
    );
}

#[test]
fn each_message_goes_to_one_member_of_each_group() {
    let broker = Broker::start();
    let mut first = members(&broker, 3, "$share/first/t/#");
    let mut second: Vec<Client> = (0..2)
        .map(|n| member(&broker, &format!("second-{n}"), "$share/second/t/#"))
        .collect();
    let mut plain = member(&broker, "plain", "t/#");
    let mut writer = broker.client("writer");
    for n in 0..60 {
        writer.publish(&format!("t/{}", n % 4), n.to_string(), 1);
    }
    expect_each_once(&drain(&mut first), 60);
    expect_each_once(&drain(&mut second), 60);
    assert_eq!(plain.drain(SILENCE_MS).len(), 60);
}

#[test]
fn a_client_may_have_a_shared_and_an_own_subscription() {
    let broker = Broker::start();
    let mut client = broker.client("both");
    client.subscribe("$share/g/t", 1);
    client.subscribe("t", 1);
    broker.client("writer").publish("t", "x", 1);
    client.expect_message("t", "x");
    client.expect_message("t", "x");
    client.expect_nothing_before_pong();
}

#[test]
fn every_version_and_qos_takes_part() {
    let broker = Broker::start();
    for version in VERSIONS {
        for qos in 0..3 {
            let mut client = broker.client_of(version, "member");
            client.subscribe("$share/g/t", qos);
            broker.client("writer").publish("t", "x", 2);
            assert_eq!(client.expect_message("t", "x").qos, qos);
            client.disconnect();
        }
    }
}

#[test]
fn round_robin_is_balanced() {
    let broker = Broker::start();
    let mut group = members(&broker, 4, "$share/g/t");
    let mut writer = broker.client("writer");
    for n in 0..400 {
        writer.publish("t", n.to_string(), 1);
    }
    let received = drain(&mut group);
    expect_each_once(&received, 400);
    for (n, messages) in received.iter().enumerate() {
        assert!(
            (60..=140).contains(&messages.len()),
            "member {n} got {} of 400",
            messages.len()
        );
    }
}

#[test]
fn round_robin_is_balanced_between_many_publishers() {
    let broker = Broker::start();
    let mut group = members(&broker, 4, "$share/g/t");
    for n in 0..40 {
        let mut writer = broker.client(&format!("writer-{n}"));
        for m in 0..10 {
            writer.publish("t", format!("{n}/{m}"), 1);
        }
    }
    let received = drain(&mut group);
    expect_each_once(&received, 400);
    for (n, messages) in received.iter().enumerate() {
        assert!(
            (50..=160).contains(&messages.len()),
            "member {n} got {} of 400",
            messages.len()
        );
    }
}

#[test]
fn sticky_by_publisher_keeps_to_one_member() {
    let broker = Broker::with("shared.strategy = \"sticky_by_publisher\"");
    let mut group = members(&broker, 4, "$share/g/t/#");
    for n in 0..20 {
        let mut writer = broker.client(&format!("writer-{n}"));
        for m in 0..10 {
            writer.publish(&format!("t/{m}"), format!("{n}/{m}"), 1);
        }
    }
    let received = drain(&mut group);
    expect_each_once(&received, 200);
    let writer = |message: &Packet| message.text().split('/').next().unwrap().to_owned();
    expect_sticky(&received, writer);
}

#[test]
fn hash_of_topic_keeps_to_one_member() {
    let broker = Broker::with("shared.strategy = \"hash_of_topic\"");
    let mut group = members(&broker, 4, "$share/g/t/#");
    for n in 0..10 {
        let mut writer = broker.client(&format!("writer-{n}"));
        for m in 0..20 {
            writer.publish(&format!("t/{m}"), format!("{n}/{m}"), 1);
        }
    }
    let received = drain(&mut group);
    expect_each_once(&received, 200);
    expect_sticky(&received, |message| message.topic.clone());
}

/// All messages with the same key went to the same member, and not all to one.
fn expect_sticky(received: &[Vec<Packet>], key: impl Fn(&Packet) -> String) {
    let mut member_of: BTreeMap<String, usize> = BTreeMap::new();
    for (member, messages) in received.iter().enumerate() {
        for message in messages {
            let first = *member_of.entry(key(message)).or_insert(member);
            assert_eq!(first, member, "{} went to two members", key(message));
        }
    }
    let used: HashSet<usize> = member_of.into_values().collect();
    assert!(used.len() > 1, "all went to one member");
}

#[test]
fn least_in_flight_spares_a_member_that_does_not_answer() {
    // The member is chosen by its own shard: with one shard the strategy shows.
    let broker = Broker::with("shards = 1\nshared.strategy = \"least_in_flight\"");
    let mut group = members(&broker, 3, "$share/g/t");
    let mut slow = group.pop().unwrap();
    let mut writer = broker.client("writer");
    let mut taken = 0;
    for n in 0..30 {
        writer.publish("t", n.to_string(), 1);
        taken += group
            .iter_mut()
            .map(|member| member.drain(10).len())
            .sum::<usize>();
    }
    taken += drain(&mut group).iter().map(Vec::len).sum::<usize>();
    let held = slow.drain_without_acknowledging(SILENCE_MS);
    assert_eq!(taken + held, 30);
    assert!(
        held <= 2,
        "the member that does not answer has {held} of 30"
    );
}

#[test]
fn offline_members_are_skipped() {
    let broker = Broker::start();
    for n in 0..4 {
        let connect = Connect::new(&format!("offline-{n}")).lasting();
        let mut offline = Client::connect(&broker, connect);
        offline.subscribe("$share/g/t", 1);
        offline.cut();
    }
    let mut online = member(&broker, "online", "$share/g/t");
    let mut writer = broker.client("writer");
    for n in 0..50 {
        writer.publish("t", n.to_string(), 1);
    }
    for n in 0..50 {
        online.expect_message("t", n.to_string());
    }
}

#[test]
fn a_group_whose_members_are_all_offline_keeps_its_messages() {
    let broker = Broker::start();
    let connect = |n| Connect::new(&format!("offline-{n}")).lasting();
    for n in 0..3 {
        let mut offline = Client::connect(&broker, connect(n));
        offline.subscribe("$share/g/t", 1);
        offline.disconnect();
    }
    let mut writer = broker.client("writer");
    for n in 0..20 {
        writer.publish("t", n.to_string(), 1);
    }
    let mut back: Vec<Client> = (0..3)
        .map(|n| Client::connect(&broker, connect(n)))
        .collect();
    expect_each_once(&drain(&mut back), 20);
}

#[test]
fn members_whose_window_is_shut_are_skipped() {
    let broker = Broker::start();
    let mut stuck = Client::connect(&broker, Connect::new("stuck").receive_maximum(1));
    stuck.subscribe("$share/g/t", 1);
    let mut quick = member(&broker, "quick", "$share/g/t");
    let mut writer = broker.client("writer");
    let mut taken = 0;
    for n in 0..40 {
        writer.publish("t", n.to_string(), 1);
        taken += quick.drain(20).len();
    }
    taken += quick.drain(SILENCE_MS).len();
    let held = stuck.drain_without_acknowledging(SILENCE_MS);
    assert_eq!(held, 1, "one fits its window");
    assert!(taken >= 36, "the other member got {taken} of 40");
}

#[test]
fn unacknowledged_messages_go_back_to_the_group() {
    let broker = Broker::start();
    for round in 0..10 {
        let share = format!("$share/g-{round}/t");
        let mut leaves = member(&broker, &format!("leaves-{round}"), &share);
        let mut writer = broker.client("writer");
        for n in 0..5 {
            writer.publish("t", n.to_string(), 1);
        }
        for _ in 0..5 {
            leaves.expect(Kind::Publish);
        }
        let mut stays = member(&broker, &format!("stays-{round}"), &share);
        leaves.cut();
        expect_each_once(&[stays.drain(SILENCE_MS)], 5);
    }
}

#[test]
fn qos_2_on_its_way_stays_with_its_member() {
    let broker = Broker::start();
    for (round, connect) in [Connect::new("leaves"), Connect::new("leaves").lasting()]
        .into_iter()
        .enumerate()
    {
        let share = format!("$share/g-{round}/t");
        let mut leaves = Client::connect(&broker, connect.clone());
        leaves.subscribe(&share, 2);
        broker.client("writer").publish("t", "x", 2);
        leaves.expect(Kind::Publish);
        let mut stays = member(&broker, "stays", &share);
        leaves.cut();
        stays.expect_nothing(SILENCE_MS); // also when its session has ended [MQTT-4.8.2-5]
        if round == 1 {
            let mut back = Client::connect(&broker, connect);
            let again = back.expect_message("t", "x"); // [MQTT-4.8.2-4]
            assert!(again.dup);
        }
    }
}

#[test]
fn acknowledged_messages_do_not_go_back() {
    let broker = Broker::start();
    let mut leaves = member(&broker, "leaves", "$share/g/t");
    let mut writer = broker.client("writer");
    writer.publish("t", "done", 1);
    leaves.expect_message("t", "done");
    leaves.expect_nothing_before_pong();
    let mut stays = member(&broker, "stays", "$share/g/t");
    leaves.cut();
    stays.expect_nothing(SILENCE_MS);
}

#[test]
fn nothing_is_lost_when_a_lasting_member_comes_and_goes() {
    let broker = Broker::start();
    let connect = || Connect::new("comes-and-goes").lasting();
    let mut stays = member(&broker, "stays", "$share/g/t");
    let mut leaves = Client::connect(&broker, connect());
    leaves.subscribe("$share/g/t", 1);
    let mut writer = broker.client("writer");
    for n in 0..30 {
        writer.publish("t", n.to_string(), 1);
    }
    leaves.expect(Kind::Publish);
    leaves.cut();
    for n in 30..60 {
        writer.publish("t", n.to_string(), 1);
    }
    let mut received: HashSet<String> = HashSet::new();
    for message in stays.drain(SILENCE_MS) {
        received.insert(message.text().to_owned());
    }
    let mut back = Client::connect(&broker, connect());
    for message in back.drain(SILENCE_MS) {
        received.insert(message.text().to_owned());
    }
    assert_eq!(received.len(), 60);
}

#[test]
fn a_member_that_unsubscribes_gets_nothing_more() {
    let broker = Broker::start();
    let mut leaves = member(&broker, "leaves", "$share/g/t");
    let mut stays = member(&broker, "stays", "$share/g/t");
    assert_eq!(leaves.unsubscribe(&["$share/g/t"]), [0]);
    let mut writer = broker.client("writer");
    for n in 0..10 {
        writer.publish("t", n.to_string(), 1);
    }
    // The first of them may have been on their way to the other shard.
    expect_each_once(&[stays.drain(SILENCE_MS)], 10);
    leaves.expect_nothing_before_pong();
}

#[test]
fn shared_subscriptions_have_identifiers_too() {
    let broker = Broker::start();
    let mut client = broker.client("ids");
    client.subscribe_with(&Subscribe::to("$share/g/t", 1).identified(77));
    broker.client("writer").publish("t", "x", 1);
    assert_eq!(
        client.expect_message("t", "x").subscription_identifiers(),
        [77]
    );
}

#[test]
fn the_filter_of_a_group_may_have_wildcards_and_empty_levels() {
    let broker = Broker::start();
    for (n, (filter, topic)) in [
        ("$share/g/#", "a/b"),
        ("$share/g/+/b", "a/b"),
        ("$share/g//x", "/x"),
        ("$share/g/a/#", "a"),
    ]
    .iter()
    .enumerate()
    {
        let mut client = member(&broker, &format!("wild-{n}"), filter);
        broker.client("writer").publish(topic, "x", 1);
        client.expect_message(topic, "x");
        client.disconnect();
    }
}

#[test]
fn a_group_that_is_gone_leaves_nothing() {
    let broker = Broker::start();
    for round in 0..20 {
        let client = member(&broker, &format!("gone-{round}"), "$share/g/t");
        client.disconnect();
    }
    let mut writer = broker.client("writer");
    let code = writer.publish_with(crate::support::Publish::new("t", "x").qos(1));
    assert_eq!(code, 0x10, "nobody is subscribed");
}

#[test]
fn what_a_group_that_is_gone_left_behind_goes_to_no_other_group() {
    let broker = Broker::start();
    let mut leaver = Client::connect(&broker, Connect::new("leaver").lasting());
    leaver.subscribe("$share/first/secret", 1);
    broker.client("writer").publish("secret", "for first", 1);
    assert_eq!(leaver.expect(Kind::Publish).text(), "for first");
    leaver.unsubscribe(&["$share/first/secret"]);
    leaver.subscribe("$share/second/public", 1);
    // One on each shard, whichever they are.
    let mut others: Vec<Client> = (0..8)
        .map(|n| member(&broker, &format!("other-{n}"), "$share/second/public"))
        .collect();
    leaver.cut();
    for messages in drain(&mut others) {
        assert!(messages.is_empty(), "{messages:?}");
    }
    // It is still the leaver's own.
    let mut again = Client::connect(&broker, Connect::new("leaver").lasting());
    again.expect_message("secret", "for first");
}
