"""paho-mqtt against a broker: paho_client.py HOST PORT VERSION (31, 311 or 5) [TRANSPORT [CAFILE]].

TRANSPORT is tcp or websockets; with the file of an authority it is over TLS.
"""

import os
import queue
import socket
import sys
import threading

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

PATIENCE_S = 10
PROTOCOLS = {"31": paho.MQTTv31, "311": paho.MQTTv311, "5": paho.MQTTv5}

host, port, version = sys.argv[1], int(sys.argv[2]), sys.argv[3]
transport = sys.argv[4] if len(sys.argv) > 4 else "tcp"
ca_file = sys.argv[5] if len(sys.argv) > 5 else None
prefix = f"paho-{version}-{os.getpid()}"


class Client:
    """A connected client with its messages in a queue."""

    def __init__(self, name, will=None):
        self.messages = queue.Queue(maxsize=10_000)
        self.connected = threading.Event()
        self.subscribed = queue.Queue(maxsize=100)
        self.paho = paho.Client(
            paho.CallbackAPIVersion.VERSION2, f"{prefix}-{name}", protocol=PROTOCOLS[version], transport=transport
        )
        if ca_file:
            self.paho.tls_set(ca_file)
        self.paho.on_connect = self.on_connect
        self.paho.on_message = lambda _client, _data, message: self.messages.put(message)
        self.paho.on_subscribe = lambda _client, _data, _id, codes, _properties: self.subscribed.put(codes)
        if will:
            self.paho.will_set(*will)
        self.paho.connect(host, port, keepalive=30)
        self.paho.loop_start()
        assert self.connected.wait(PATIENCE_S), f"{name}: no CONNACK"

    def on_connect(self, _client, _data, _flags, reason_code, _properties):
        assert not reason_code.is_failure, f"CONNECT was refused: {reason_code}"
        self.connected.set()

    def subscribe(self, topic_filter, qos):
        self.paho.subscribe(topic_filter, qos)
        codes = self.subscribed.get(timeout=PATIENCE_S)
        assert [code.value for code in codes] == [qos], f"{topic_filter}: {codes}"

    def publish(self, topic, payload, qos, retain=False, properties=None):
        info = self.paho.publish(topic, payload, qos, retain, properties)
        info.wait_for_publish(PATIENCE_S)
        assert info.is_published(), f"{topic}: not acknowledged"

    def expect(self, topic, payload, qos, retain=False):
        message = self.messages.get(timeout=PATIENCE_S)
        got = (message.topic, message.payload.decode(), message.qos, bool(message.retain))
        assert got == (topic, payload, qos, retain), got
        return message

    def expect_nothing(self):
        try:
            message = self.messages.get(timeout=0.3)
        except queue.Empty:
            return
        raise AssertionError(f"unexpected: {message.topic} {message.payload}")

    def cut(self):
        """Ends the connection without DISCONNECT, and does not come back."""
        self.paho.on_disconnect = None
        self.paho._reconnect_on_failure = False
        # What paho has for a socket is not always one.
        with socket.socket(fileno=os.dup(self.paho.socket().fileno())) as own:
            own.shutdown(socket.SHUT_RDWR)
        self.paho.loop_stop()

    def disconnect(self):
        self.paho.disconnect()
        self.paho.loop_stop()


def all_qos():
    reader, writer = Client("reader"), Client("writer")
    reader.subscribe(f"{prefix}/qos/+", 2)
    for qos in range(3):
        writer.publish(f"{prefix}/qos/{qos}", f"message {qos}", qos)
        reader.expect(f"{prefix}/qos/{qos}", f"message {qos}", qos)
    for count in range(200):
        writer.publish(f"{prefix}/qos/x", str(count), count % 3)
    # Messages of different QoS may overtake each other.
    got = sorted(int(reader.messages.get(timeout=PATIENCE_S).payload) for _ in range(200))
    assert got == list(range(200)), got
    reader.disconnect()
    writer.disconnect()


def retained():
    writer = Client("writer")
    writer.publish(f"{prefix}/retained", "kept", 1, retain=True)
    reader = Client("reader")
    reader.subscribe(f"{prefix}/retained", 1)
    reader.expect(f"{prefix}/retained", "kept", 1, retain=True)
    writer.publish(f"{prefix}/retained", "", 1, retain=True)
    reader.expect(f"{prefix}/retained", "", 1)
    late = Client("late")
    late.subscribe(f"{prefix}/retained", 1)
    late.expect_nothing()
    for client in (writer, reader, late):
        client.disconnect()


def will():
    watcher = Client("watcher")
    watcher.subscribe(f"{prefix}/will", 1)
    Client("leaving", will=(f"{prefix}/will", "not sent", 1)).disconnect()
    Client("dying", will=(f"{prefix}/will", "gone", 1)).cut()
    watcher.expect(f"{prefix}/will", "gone", 1)
    watcher.disconnect()


def shared():
    members = [Client("one"), Client("two")]
    for member in members:
        member.subscribe(f"$share/group/{prefix}/shared", 1)
    writer = Client("writer")
    for count in range(40):
        writer.publish(f"{prefix}/shared", str(count), 1)
    got = []
    for member in members:
        own = []
        while True:
            try:
                own.append(int(member.messages.get(timeout=0.5).payload))
            except queue.Empty:
                break
        assert len(own) >= 5, f"a member got {len(own)} of 40"
        got += own
    assert sorted(got) == list(range(40)), sorted(got)
    for client in (*members, writer):
        client.disconnect()


def properties():
    reader, writer = Client("reader"), Client("writer")
    reader.subscribe(f"{prefix}/properties", 1)
    sent = Properties(PacketTypes.PUBLISH)
    sent.ResponseTopic = "answers"
    sent.CorrelationData = b"\x00\xff"
    sent.ContentType = "text/plain"
    sent.MessageExpiryInterval = 60
    sent.UserProperty = [("b", "1"), ("a", "2"), ("b", "3")]
    writer.publish(f"{prefix}/properties", "x", 1, properties=sent)
    got = reader.expect(f"{prefix}/properties", "x", 1).properties
    assert got.ResponseTopic == "answers" and got.CorrelationData == b"\x00\xff", got
    assert got.ContentType == "text/plain" and got.MessageExpiryInterval in (59, 60), got
    assert got.UserProperty == [("b", "1"), ("a", "2"), ("b", "3")], got
    reader.disconnect()
    writer.disconnect()


all_qos()
retained()
will()
shared()
if version == "5":
    properties()
secure = ", TLS" if ca_file else ""
print(f"ok: paho-mqtt, {transport}{secure}, version {version}")
