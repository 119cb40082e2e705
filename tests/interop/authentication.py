"""Foreign clients and tools that authenticate: tests/interop/authentication.py BINARY

A password file of mosquitto_passwd with both of its hashes; mosquitto_pub and paho-mqtt with a password in every
protocol version they have; scramp as an independent SCRAM client, before CONNACK and on a live connection.
"""

import os
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile

import paho.mqtt.client as mqtt
from scramp import ScramClient

USER, PASSWORD = "alice", "pässword"


def start(binary, directory):
    """A broker with the chain and the methods; gives the process and its port."""
    passwords = os.path.join(directory, "passwords")
    for algorithm, user in (("sha512-pbkdf2", "pbkdf2"), ("sha512", "sha512")):
        create = [] if os.path.exists(passwords) else ["-c"]
        subprocess.run(
            ["mosquitto_passwd", "-b", "-H", algorithm, *create, passwords, user, PASSWORD],
            check=True,
            capture_output=True,
        )
    subprocess.run(
        [binary, "passwd", passwords, "add", USER, "--scram"],
        input=PASSWORD + "\n",
        text=True,
        check=True,
        capture_output=True,
    )
    config = os.path.join(directory, "ringmq.toml")
    with open(config, "w", encoding="utf-8") as file:
        file.write(
            '[authentication]\nchain = ["password_file"]\n'
            'methods = ["SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-512"]\n'
            f'password_file = "{passwords}"\n[[listener]]\naddress = "127.0.0.1:0"\n'
        )
    broker = subprocess.Popen(
        [binary, "run", "--config", config, "--shards", "2"], stdout=subprocess.PIPE, text=True
    )
    for line in broker.stdout:
        found = re.search(r"listening on 127\.0\.0\.1:(\d+)", line)
        if found:
            return broker, int(found.group(1))
    raise SystemExit("the broker does not start")


def mosquitto(port):
    for version in ("mqttv31", "mqttv311", "mqttv5"):
        for user in ("pbkdf2", "sha512", USER):
            for password, good in ((PASSWORD, True), ("wrong", False)):
                command = ["mosquitto_pub", "-p", str(port), "-V", version, "-u", user]
                command += ["-P", password, "-t", "t", "-m", "x", "-q", "1"]
                ended = subprocess.run(command, capture_output=True, timeout=30)
                assert (ended.returncode == 0) == good, (version, user, password, ended)


def paho(port):
    for protocol in (mqtt.MQTTv31, mqtt.MQTTv311, mqtt.MQTTv5):
        for password, good in ((PASSWORD, True), ("wrong", False)):
            codes = []
            client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, "paho", protocol=protocol)
            client.username_pw_set(USER, password)
            client.on_connect = lambda _c, _u, _f, code, _p, codes=codes: codes.append(code)
            client.connect("127.0.0.1", port)
            while not codes:
                client.loop(0.1)
            assert codes[0].is_failure != good, (protocol, password, codes)
            client.disconnect()


def packet(first, body):
    length, rest = b"", len(body)
    while True:
        rest, byte = divmod(rest, 128)
        length += bytes([byte | (0x80 if rest else 0)])
        if not rest:
            return bytes([first]) + length + body


def text(value):
    return struct.pack(">H", len(value)) + value


def properties(method, data):
    both = b"\x15" + text(method.encode()) + b"\x16" + text(data)
    assert len(both) < 16384
    size = len(both)
    prefix = bytes([size]) if size < 128 else bytes([size % 128 | 0x80, size // 128])
    return prefix + both


def receive(stream):
    first = stream.recv(1)[0]
    length, shift = 0, 0
    while True:
        byte = stream.recv(1)[0]
        length |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            break
    body = b""
    while len(body) < length:
        body += stream.recv(length - len(body))
    return first >> 4, body


def data_of(body):
    """The Authentication Data, found by its length behind its identifier."""
    for at in range(len(body) - 2):
        size = struct.unpack(">H", body[at + 1 : at + 3])[0]
        if body[at] == 0x16 and at + 3 + size <= len(body):
            found = body[at + 3 : at + 3 + size]
            if found[:2] in (b"r=", b"v=", b"e="):
                return found.decode()
    raise AssertionError(f"no Authentication Data in {body!r}")


def scram(port, method):
    def client(password):
        return ScramClient([method], USER, password)

    def connect(password):
        one = client(password)
        stream = socket.create_connection(("127.0.0.1", port), timeout=20)
        body = text(b"MQTT") + b"\x05\x02\x00\x00"
        body += properties(method, one.get_client_first().encode()) + text(b"scramp")
        stream.sendall(packet(0x10, body))
        finish(stream, one)
        return stream, one

    def finish(stream, one):
        kind, body = receive(stream)
        assert (kind, body[0]) == (15, 0x18), (kind, body)
        one.set_server_first(data_of(body))
        answer = b"\x18" + properties(method, one.get_client_final().encode())
        stream.sendall(packet(0xF0, answer))

    stream, one = connect(PASSWORD)
    kind, body = receive(stream)
    assert (kind, body[1]) == (2, 0), (kind, body)
    one.set_server_final(data_of(body))
    again = client(PASSWORD)
    first = b"\x19" + properties(method, again.get_client_first().encode())
    stream.sendall(packet(0xF0, first))
    finish(stream, again)
    kind, body = receive(stream)
    assert (kind, body[0]) == (15, 0), (kind, body)
    again.set_server_final(data_of(body))
    stream, _ = connect("wrong")
    kind, body = receive(stream)
    assert (kind, body[1]) == (2, 0x87), (kind, body)


def main():
    binary = os.path.abspath(sys.argv[1])
    with tempfile.TemporaryDirectory() as directory:
        broker, port = start(binary, directory)
        try:
            mosquitto(port)
            paho(port)
            for method in ("SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-512"):
                scram(port, method)
        finally:
            broker.send_signal(signal.SIGTERM)
            code = broker.wait(20)
    assert code == 0, code
    print("authentication: mosquitto_passwd, mosquitto_pub, paho-mqtt and scramp: all as they must be")


main()
