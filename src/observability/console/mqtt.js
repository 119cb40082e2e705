"use strict";
// A small MQTT client over WebSocket: 3.1.1 and 5.0, QoS 0 to 2. It holds no state beyond one connection.

const MQTT_PROPERTIES = {
  0x01: ["payloadFormatIndicator", "byte"], 0x02: ["messageExpiryInterval", "four"], 0x03: ["contentType", "text"],
  0x08: ["responseTopic", "text"], 0x09: ["correlationData", "binary"], 0x0b: ["subscriptionIdentifier", "variable"],
  0x11: ["sessionExpiryInterval", "four"], 0x12: ["assignedClientIdentifier", "text"], 0x13: ["serverKeepAlive", "two"],
  0x15: ["authenticationMethod", "text"], 0x16: ["authenticationData", "binary"], 0x17: ["requestProblemInformation", "byte"],
  0x18: ["willDelayInterval", "four"], 0x19: ["requestResponseInformation", "byte"], 0x1a: ["responseInformation", "text"],
  0x1c: ["serverReference", "text"], 0x1f: ["reasonString", "text"], 0x21: ["receiveMaximum", "two"],
  0x22: ["topicAliasMaximum", "two"], 0x23: ["topicAlias", "two"], 0x24: ["maximumQoS", "byte"], 0x25: ["retainAvailable", "byte"],
  0x26: ["userProperty", "pair"], 0x27: ["maximumPacketSize", "four"], 0x28: ["wildcardSubscriptionAvailable", "byte"],
  0x29: ["subscriptionIdentifiersAvailable", "byte"], 0x2a: ["sharedSubscriptionAvailable", "byte"],
};

class PacketWriter {
  constructor() { this.bytes = []; }
  byte(value) { this.bytes.push(value & 0xff); return this; }
  two(value) { return this.byte(value >> 8).byte(value); }
  four(value) { return this.two(Math.floor(value / 65536)).two(value % 65536); }
  raw(bytes) { for (const byte of bytes) this.bytes.push(byte); return this; }
  binary(bytes) { return this.two(bytes.length).raw(bytes); }
  text(text) { return this.binary(new TextEncoder().encode(text)); }
  pair([name, value]) { return this.text(name).text(value); }
  variable(value) {
    do { const low = value % 128; value = Math.floor(value / 128); this.byte(value > 0 ? low | 0x80 : low); } while (value > 0);
    return this;
  }
  properties(properties) {
    const content = new PacketWriter();
    for (const [id, [name, kind]] of Object.entries(MQTT_PROPERTIES)) {
      const value = properties[name];
      if (value === undefined || value === "" || value === null) continue;
      for (const one of kind === "pair" ? value : [value]) content.byte(Number(id))[kind](one);
    }
    return this.variable(content.bytes.length).raw(content.bytes);
  }
  packet(first) { return new Uint8Array(new PacketWriter().byte(first).variable(this.bytes.length).bytes.concat(this.bytes)); }
}

class PacketReader {
  constructor(bytes) { this.bytes = bytes; this.at = 0; }
  get left() { return this.bytes.length - this.at; }
  byte() { if (this.left < 1) throw new Error("a packet is too short"); return this.bytes[this.at++]; }
  two() { return this.byte() * 256 + this.byte(); }
  four() { return this.two() * 65536 + this.two(); }
  raw(length) {
    if (this.left < length) throw new Error("a packet is too short");
    return this.bytes.subarray(this.at, this.at += length);
  }
  binary() { return this.raw(this.two()); }
  text() { return new TextDecoder().decode(this.binary()); }
  pair() { return [this.text(), this.text()]; }
  variable() {
    let value = 0, factor = 1, byte;
    do { byte = this.byte(); value += (byte & 0x7f) * factor; factor *= 128; } while (byte & 0x80);
    return value;
  }
  properties() {
    const content = new PacketReader(this.raw(this.variable()));
    const found = {};
    while (content.left > 0) {
      const known = MQTT_PROPERTIES[content.byte()];
      if (!known) throw new Error("an unknown property");
      const value = content[known[1]]();
      if (known[1] === "pair") (found[known[0]] ??= []).push(value); else found[known[0]] = value;
    }
    return found;
  }
}

class MqttClient extends EventTarget {
  // options: url, version (4 or 5), clientId, keepAlive, cleanStart, userName, password, properties
  constructor(options) {
    super();
    this.options = options;
    this.v5 = options.version === 5;
    this.received = new Uint8Array();
    this.identifier = 0;
    this.aliases = new Map();
    this.socket = new WebSocket(options.url, "mqtt");
    this.socket.binaryType = "arraybuffer";
    this.socket.onopen = () => this.send(this.connectPacket());
    this.socket.onmessage = (event) => this.take(new Uint8Array(event.data));
    this.socket.onerror = () => this.tell("problem", { text: "the WebSocket failed" });
    this.socket.onclose = () => { clearInterval(this.timer); this.tell("close", {}); };
  }
  tell(type, detail) { this.dispatchEvent(new CustomEvent(type, { detail })); }
  send(bytes) { if (this.socket.readyState === WebSocket.OPEN) this.socket.send(bytes); }
  next() { this.identifier = this.identifier % 65535 + 1; return this.identifier; }
  connectPacket() {
    const o = this.options;
    const flags = (o.cleanStart ? 2 : 0) | (o.userName ? 0x80 : 0) | (o.password ? 0x40 : 0);
    const body = new PacketWriter().text("MQTT").byte(o.version).byte(flags).two(o.keepAlive);
    if (this.v5) body.properties(o.properties || {});
    body.text(o.clientId || "");
    if (o.userName) body.text(o.userName);
    if (o.password) body.text(o.password);
    return body.packet(0x10);
  }
  subscribe(filter, qos, flags, properties) {
    const body = new PacketWriter().two(this.next());
    if (this.v5) body.properties(properties);
    const options = this.v5 ? qos | (flags.noLocal ? 4 : 0) | (flags.retainAsPublished ? 8 : 0) : qos;
    this.send(body.text(filter).byte(options).packet(0x82));
  }
  unsubscribe(filter) {
    const body = new PacketWriter().two(this.next());
    if (this.v5) body.properties({});
    this.send(body.text(filter).packet(0xa2));
  }
  publish(topic, payload, qos, retain, properties) {
    const body = new PacketWriter().text(topic);
    if (qos > 0) body.two(this.next());
    if (this.v5) body.properties(properties);
    this.send(body.raw(payload).packet(0x30 | qos << 1 | (retain ? 1 : 0)));
  }
  acknowledge(first, identifier) { this.send(new PacketWriter().two(identifier).packet(first)); }
  disconnect() { this.send(new Uint8Array([0xe0, 0])); this.socket.close(); }
  take(bytes) {
    const all = new Uint8Array(this.received.length + bytes.length);
    all.set(this.received); all.set(bytes, this.received.length);
    let rest = all;
    try {
      for (;;) {
        let length = 0, factor = 1, at = 1, byte = 0x80;
        while (byte & 0x80 && at < rest.length && at < 5) { byte = rest[at++]; length += (byte & 0x7f) * factor; factor *= 128; }
        if (byte & 0x80 || rest.length < at + length) break;
        this.packet(rest[0], new PacketReader(rest.subarray(at, at + length)));
        rest = rest.subarray(at + length);
      }
    } catch (error) { this.tell("problem", { text: error.message }); this.socket.close(); }
    this.received = rest.slice();
  }
  packet(first, body) {
    switch (first >> 4) {
      case 2: {
        const present = body.byte() & 1, code = body.byte();
        const properties = this.v5 ? body.properties() : {};
        const keepAlive = properties.serverKeepAlive ?? this.options.keepAlive;
        if (code === 0 && keepAlive > 0) this.timer = setInterval(() => this.send(new Uint8Array([0xc0, 0])), keepAlive * 750);
        this.tell("connack", { code, present, properties });
        break;
      }
      case 3: {
        const qos = first >> 1 & 3;
        let topic = body.text();
        const identifier = qos > 0 ? body.two() : 0;
        const properties = this.v5 ? body.properties() : {};
        if (properties.topicAlias) {
          if (topic) this.aliases.set(properties.topicAlias, topic); else topic = this.aliases.get(properties.topicAlias);
        }
        if (qos === 1) this.acknowledge(0x40, identifier);
        if (qos === 2) this.acknowledge(0x50, identifier);
        this.tell("message", { topic, qos, retain: first & 1, properties, payload: body.raw(body.left).slice() });
        break;
      }
      case 4: case 7: this.outcome(body); break;
      case 5: {
        const identifier = body.two(), code = body.left > 0 ? body.byte() : 0;
        if (code < 0x80) this.acknowledge(0x62, identifier); else this.tell("puback", { code });
        break;
      }
      case 6: this.acknowledge(0x70, body.two()); break;
      case 9: case 11: {
        body.two();
        const properties = this.v5 ? body.properties() : {};
        this.tell(first >> 4 === 9 ? "suback" : "unsuback", { codes: [...body.raw(body.left)], properties });
        break;
      }
      case 14: {
        const code = body.left > 0 ? body.byte() : 0;
        this.tell("disconnect", { code, properties: body.left > 0 ? body.properties() : {} });
        break;
      }
    }
  }
  outcome(body) { body.two(); this.tell("puback", { code: body.left > 0 ? body.byte() : 0 }); }
}
