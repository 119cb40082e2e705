// MQTT.js against a broker: node mqttjs.js URL VERSION (311 or 5); mqtt, mqtts, ws or wss.
// NODE_EXTRA_CA_CERTS names the authority of the last two.

import assert from "node:assert/strict";
import { connectAsync } from "mqtt";

const PATIENCE_MS = 10_000;
const [url, version] = process.argv.slice(2);
const prefix = `mqttjs-${version}-${process.pid}`;
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** A connected client that keeps what it gets. */
class Client {
  static async connect(name, options = {}) {
    const client = new Client();
    client.messages = [];
    client.mqtt = await connectAsync(url, {
      clientId: `${prefix}-${name}`,
      protocolVersion: version === "5" ? 5 : 4,
      reconnectPeriod: 0,
      connectTimeout: PATIENCE_MS,
      ...options,
    });
    client.mqtt.on("message", (topic, payload, packet) => {
      client.messages.push({
        topic,
        payload: payload.toString(),
        qos: packet.qos,
        retain: packet.retain,
        properties: packet.properties,
      });
    });
    return client;
  }

  async subscribe(filter, qos) {
    const granted = await this.mqtt.subscribeAsync(filter, { qos });
    assert.equal(granted[0].qos, qos, `subscription to ${filter}`);
  }

  async expect(topic, payload, qos, retain = false) {
    for (let waited = 0; this.messages.length === 0 && waited < PATIENCE_MS; waited += 10) {
      await sleep(10);
    }
    const message = this.messages.shift();
    assert.ok(message, `no message on ${topic}`);
    const { properties, ...rest } = message;
    assert.deepEqual(rest, { topic, payload, qos, retain });
    return properties;
  }

  async expectNothing() {
    await sleep(300);
    assert.deepEqual(this.messages, []);
  }

  publish(topic, payload, options) {
    return this.mqtt.publishAsync(topic, payload, options);
  }

  end() {
    return this.mqtt.endAsync();
  }

  /** Ends the connection without DISCONNECT. */
  cut() {
    this.mqtt.stream.destroy();
  }
}

async function allQos() {
  const reader = await Client.connect("reader");
  const writer = await Client.connect("writer");
  await reader.subscribe(`${prefix}/qos/#`, 2);
  for (const qos of [0, 1, 2]) {
    await writer.publish(`${prefix}/qos/${qos}`, `message ${qos}`, { qos });
    await reader.expect(`${prefix}/qos/${qos}`, `message ${qos}`, qos);
  }
  const sent = Array.from({ length: 300 }, (_, n) => n);
  await Promise.all(sent.map((n) => writer.publish(`${prefix}/qos/many`, String(n), { qos: 1 })));
  for (const n of sent) {
    await reader.expect(`${prefix}/qos/many`, String(n), 1);
  }
  await reader.end();
  await writer.end();
}

async function retained() {
  const writer = await Client.connect("writer");
  const topic = `${prefix}/retained`;
  await writer.publish(topic, "kept", { qos: 1, retain: true });
  const reader = await Client.connect("reader");
  await reader.subscribe(topic, 1);
  await reader.expect(topic, "kept", 1, true);
  await writer.publish(topic, "", { qos: 1, retain: true });
  await reader.expect(topic, "", 1);
  const late = await Client.connect("late");
  await late.subscribe(topic, 1);
  await late.expectNothing();
  await Promise.all([writer, reader, late].map((client) => client.end()));
}

async function will() {
  const topic = `${prefix}/will`;
  const watcher = await Client.connect("watcher");
  await watcher.subscribe(topic, 1);
  const dying = await Client.connect("dying", { will: { topic, payload: "gone", qos: 1, retain: false } });
  dying.cut();
  await watcher.expect(topic, "gone", 1);
  const leaving = await Client.connect("leaving", { will: { topic, payload: "not sent", qos: 1, retain: false } });
  await leaving.end();
  await watcher.expectNothing();
  await watcher.end();
}

async function shared() {
  const topic = `${prefix}/shared`;
  const members = [await Client.connect("one"), await Client.connect("two")];
  for (const member of members) {
    await member.subscribe(`$share/group/${topic}`, 1);
  }
  const writer = await Client.connect("writer");
  for (let n = 0; n < 40; n++) {
    await writer.publish(topic, String(n), { qos: 1 });
  }
  await sleep(500);
  const got = members.map((member) => member.messages.map((message) => Number(message.payload)));
  assert.deepEqual(got.flat().sort((a, b) => a - b), Array.from({ length: 40 }, (_, n) => n));
  assert.ok(got.every((own) => own.length >= 5), `members got ${got.map((own) => own.length)} of 40`);
  await Promise.all([...members, writer].map((client) => client.end()));
}

async function properties() {
  const topic = `${prefix}/properties`;
  // Also with Topic Aliases from the broker.
  const reader = await Client.connect("reader", { properties: { topicAliasMaximum: 10 } });
  const writer = await Client.connect("writer", { autoAssignTopicAlias: true, autoUseTopicAlias: true });
  await reader.subscribe(topic, 1);
  const sent = {
    responseTopic: "answers",
    correlationData: Buffer.from([0, 255]),
    contentType: "text/plain",
    userProperties: { b: ["1", "3"], a: "2" },
  };
  for (let n = 0; n < 5; n++) {
    await writer.publish(topic, String(n), { qos: 1, properties: { ...sent } });
    const got = await reader.expect(topic, String(n), 1);
    assert.equal(got.responseTopic, "answers");
    assert.deepEqual(got.correlationData, sent.correlationData);
    assert.equal(got.contentType, "text/plain");
    assert.deepEqual({ ...got.userProperties }, sent.userProperties);
  }
  await reader.end();
  await writer.end();
}

await allQos();
await retained();
await will();
await shared();
if (version === "5") {
  await properties();
}
console.log(`ok: MQTT.js, ${url.split(":")[0]}, version ${version}`);
process.exit(0);
