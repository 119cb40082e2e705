//! A broker that is configured to do less: it says so, keeps to it, and does the rest.

use super::*;

#[test]
fn without_subscription_identifiers_one_is_an_error_and_the_rest_works() {
    let scene = Scene::with("listener.subscription_identifiers_available = false");
    let mut client = scene.reader("client", "t", 1);
    assert_eq!(
        client.granted(property::SUBSCRIPTION_IDENTIFIER_AVAILABLE),
        Some(0)
    );
    client.publish(&scene.topic("t"), "x", 1);
    assert!(
        client
            .expect_message(&scene.topic("t"), "x")
            .properties
            .is_empty()
    );
    let subscribe = Subscribe::to("t", 0).identified(1).bytes(Version::V5, 1);
    ends(&scene, "a Subscription Identifier", &subscribe, &[0xa1]);
}

#[test]
fn without_wildcards_plain_filters_work() {
    let scene = Scene::with("listener.wildcard_subscription_available = false");
    let mut client = scene.client("client");
    assert_eq!(
        client.granted(property::WILDCARD_SUBSCRIPTION_AVAILABLE),
        Some(0)
    );
    for filter in ["#", "+", "a/+/b", "$share/g/+"] {
        assert_eq!(
            client.subscribe_with(&Subscribe::to(filter, 0)),
            [0xa2],
            "{filter}"
        );
    }
    client.subscribe(&scene.topic("t"), 1);
    client.subscribe(&scene.shared("s"), 1);
    client.publish(&scene.topic("t"), "x", 1);
    client.expect_message(&scene.topic("t"), "x");
}

#[test]
fn without_shared_subscriptions_others_work() {
    let scene = Scene::with("listener.shared_subscription_available = false");
    let mut client = scene.client("client");
    assert_eq!(
        client.granted(property::SHARED_SUBSCRIPTION_AVAILABLE),
        Some(0)
    );
    assert_eq!(
        client.subscribe_with(&Subscribe::to(&scene.shared("s"), 0)),
        [0x9e]
    );
    client.subscribe(&scene.topic("#"), 1);
    client.publish(&scene.topic("s"), "x", 1);
    client.expect_message(&scene.topic("s"), "x");
}

#[test]
fn without_retained_messages_retain_handling_and_retain_as_published_are_harmless() {
    let scene = Scene::with("listener.retain_available = false");
    let mut client = scene.client("client");
    assert_eq!(client.granted(property::RETAIN_AVAILABLE), Some(0));
    for options in [0x00, 0x08, 0x10, 0x20, 0x28] {
        client.subscribe(&scene.topic("t"), options | 1);
        client.publish(&scene.topic("t"), "x", 1);
        assert!(!client.expect_message(&scene.topic("t"), "x").retain);
        client.expect_nothing_before_pong();
    }
}

#[test]
fn with_a_maximum_qos_shared_wills_and_retained_messages_keep_to_it() {
    for maximum in 0..2 {
        let scene = Scene::with(&format!("listener.maximum_qos = {maximum}"));
        let mut client = scene.client("client");
        assert_eq!(
            client.subscribe_with(&Subscribe::to(&scene.shared("t"), 2)),
            [maximum]
        );
        assert_eq!(
            client.subscribe_with(&Subscribe::to(&scene.topic("will"), 2)),
            [maximum]
        );
        client.publish(&scene.topic("t"), "x", maximum);
        assert_eq!(client.expect_message(&scene.topic("t"), "x").qos, maximum);
        let will = Will::new(&scene.topic("will"), b"gone")
            .qos(maximum)
            .retain();
        scene.join(scene.connect("dying").will(will)).cut();
        assert_eq!(
            client.expect_message(&scene.topic("will"), "gone").qos,
            maximum
        );
        let mut late = scene.client("late");
        assert_eq!(
            late.subscribe_with(&Subscribe::to(&scene.topic("will"), 2)),
            [maximum]
        );
        assert_eq!(
            late.expect_message(&scene.topic("will"), "gone").qos,
            maximum
        );
    }
}

#[test]
fn with_everything_switched_off_plain_messages_flow() {
    let scene = Scene::with(
        "listener.maximum_qos = 0\nlistener.retain_available = false
         listener.wildcard_subscription_available = false
         listener.subscription_identifiers_available = false
         listener.shared_subscription_available = false
         listener.topic_alias_maximum = 0\nlistener.topic_alias_maximum_outgoing = 0
         listener.receive_maximum = 1\nlistener.keep_alive_s_max = 100
         session.session_expiry_interval_s_max = 0",
    );
    let connect = scene.connect("client").expiry_s(600).keep_alive_s(0);
    let mut client = scene.join(connect.property(property::TOPIC_ALIAS_MAXIMUM, Value::Two(10)));
    assert_eq!(client.granted(property::SESSION_EXPIRY_INTERVAL), Some(0));
    assert_eq!(client.granted(property::SERVER_KEEP_ALIVE), Some(100));
    client.subscribe(&scene.topic("t"), 0);
    for n in 0..20 {
        client.publish(&scene.topic("t"), n.to_string(), 0);
        let message = client.expect_message(&scene.topic("t"), n.to_string());
        assert!(message.properties.is_empty(), "{message:?}");
    }
    client.cut();
    assert!(
        !scene
            .join(scene.connect("client").resume())
            .session_present()
    );
}
