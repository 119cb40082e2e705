"use strict";
// The console: reads the administration interface that it was loaded from, and nothing else.

const $ = (id) => document.getElementById(id);
const POLL_MS = 2000, HISTORY = 90;
let token = sessionStorage.getItem("token") || "";
let history = [];

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "onclick") made.onclick = value;
    else if (value !== false && value !== undefined) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.map((child) => child instanceof Node ? child : String(child)));
  return made;
}

function problem(text) { $("problem").textContent = text; $("problem").hidden = !text; }

async function ask(path, options = {}) {
  const headers = {};
  if (token) headers.Authorization = "Bearer " + token;
  if (options.body) headers["Content-Type"] = "application/json";
  const response = await fetch(path, { method: options.method || "GET", headers, body: options.body && JSON.stringify(options.body) });
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(response.status === 401 ? "The broker asks for a token." : answer.detail || response.statusText);
  return answer;
}

const query = (path, values) => {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) if (value !== "" && value !== null && value !== undefined) parameters.set(name, value);
  const text = parameters.toString();
  return text ? path + "?" + text : path;
};
const guard = (work) => async (event) => {
  event?.preventDefault?.();
  try { problem(""); await work(event); } catch (error) { problem(error.message); }
};
const short = (value) => {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return String(value);
  for (const [size, unit] of [[1e9, "G"], [1e6, "M"], [1e4, "k"]]) if (value >= size) return (value / (unit === "k" ? 1e3 : size)).toFixed(1) + unit;
  return Number.isInteger(value) ? String(value) : value.toFixed(1);
};
const bytes = (value) => value >= 1 << 30 ? (value / (1 << 30)).toFixed(1) + " GiB" : value >= 1 << 20 ? (value / (1 << 20)).toFixed(1) + " MiB" : (value / 1024).toFixed(1) + " KiB";

function table(target, columns, rows, append) {
  let body = target.tBodies[0];
  if (!append || !body) {
    target.querySelectorAll("thead, tbody").forEach((old) => old.remove());
    target.append(element("thead", {}, element("tr", {}, ...columns.map(([head, , kind]) => element("th", { scope: "col", class: kind || "" }, head)))));
    body = element("tbody");
    target.append(body);
  }
  for (const row of rows) body.append(element("tr", { class: row.what || "" }, ...columns.map(([, value, kind]) => {
    const shown = typeof value === "function" ? value(row) : kind === "n" ? short(row[value]) : row[value] ?? "–";
    return element("td", { class: kind || "" }, shown);
  })));
  if (rows.length === 0 && !append) body.append(element("tr", {}, element("td", { colspan: columns.length }, "nothing")));
}

// Overview

function plot(title, unit, series) {
  const points = series.map(([, values]) => values);
  const most = Math.max(1, ...points.flat());
  const picture = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const latest = series.map(([name, values]) => `${name} ${short(values.at(-1) ?? 0)}${unit}`).join(", ");
  picture.setAttribute("viewBox", `0 0 ${HISTORY} 100`);
  picture.setAttribute("preserveAspectRatio", "none");
  picture.setAttribute("role", "img");
  picture.setAttribute("aria-label", `${title}: ${latest}`);
  points.forEach((values, place) => {
    const line = document.createElementNS("http://www.w3.org/2000/svg", "path");
    const start = HISTORY - values.length;
    line.setAttribute("d", values.map((value, at) => `${at ? "L" : "M"}${start + at} ${98 - value / most * 94}`).join(""));
    line.setAttribute("class", place ? "two" : "one");
    picture.append(line);
  });
  return element("figure", {}, element("figcaption", {}, `${title}: ${latest} (top ${short(most)}${unit})`), picture);
}

function rates(pick) {
  return history.slice(1).map((now, at) => {
    const seconds = Math.max(0.1, (now.seen - history[at].seen) / 1000);
    return Math.max(0, pick(now) - pick(history[at])) / seconds;
  });
}

async function poll() {
  try {
    const [status, latency] = await Promise.all([ask("v1/status"), ask("v1/latency")]);
    status.seen = performance.now();
    const stage = (name) => latency.stages.find((one) => one.stage === name) || {};
    status.ack = stage("publish_to_acknowledgement").p99_us || 0;
    status.turn = stage("turn").p99_us || 0;
    history.push(status);
    history = history.slice(-HISTORY);
    $("state").textContent = `RingMQ ${status.version}, up ${status.uptime_s} s${status.draining ? ", shutting down" : ""}`;
    if (!$("overview").hidden) overview(status, latency);
  } catch (error) {
    $("state").textContent = error.message;
  }
  setTimeout(poll, POLL_MS);
}

function overview(status, latency) {
  const numbers = [["Connections", short(status.connections)], ["Sessions", short(status.sessions)], ["Subscriptions", short(status.subscriptions)],
    ["Retained", short(status.retained_messages)], ["Queued", short(status.queued_messages)], ["In flight", short(status.in_flight_messages)],
    ["Windows shut", short(status.windows_shut)], ["Dropped", short(status.messages_dropped)], ["Memory", bytes(status.resident_bytes)]];
  $("numbers").replaceChildren(...numbers.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value))));
  $("plots").replaceChildren(
    plot("Messages", "/s", [["in", rates((s) => s.messages_received)], ["out", rates((s) => s.messages_sent)]]),
    plot("Bytes", "/s", [["in", rates((s) => s.bytes_received)], ["out", rates((s) => s.bytes_sent)]]),
    plot("Dropped", "/s", [["dropped", rates((s) => s.messages_dropped)]]),
    plot("Latency p99", " µs", [["to acknowledgement", history.map((s) => s.ack)], ["turn", history.map((s) => s.turn)]]),
    plot("CPU of all shards", " %", [["busy", rates((s) => s.shards.reduce((sum, shard) => sum + shard.cpu_ms, 0)).map((ms) => ms / 10)]]),
    plot("Memory", " MiB", [["resident", history.map((s) => s.resident_bytes / (1 << 20))]]));
  table($("latency"), [["Stage", "stage"], ["Count", "count", "n"], ["p50 µs", "p50_us", "n"], ["p99 µs", "p99_us", "n"], ["p99.9 µs", "p999_us", "n"], ["Longest µs", "max_us", "n"]], latency.stages);
  table($("shards"), [["Shard", "shard", "n"], ["Connections", "connections", "n"], ["Sessions", "sessions", "n"], ["In", "messages_received", "n"], ["Out", "messages_sent", "n"],
    ["CPU ms", "cpu_ms", "n"], ["Inbox", "inbox_depth", "n"], ["Turn p99 µs", "turn_p99_us", "n"], ["Stalls", "stalls", "n"]], status.shards);
}

// Clients

let clientCursor = null;
async function clients(more) {
  const form = $("client-search").elements;
  const path = form.sessions.checked ? "v1/sessions" : "v1/clients";
  const answer = await ask(query(path, { search: form.search.value, cursor: more ? clientCursor : null }));
  clientCursor = answer.next;
  const columns = [["Client", (row) => element("button", { onclick: guard(() => detail(row.client_identifier)) }, row.client_identifier)],
    ["Address", "address"], ["MQTT", "protocol"], ["For s", "connected_s", "n"], ["Subs", "subscriptions", "n"], ["Queued", "queued_messages", "n"],
    ["In flight", "in_flight_messages", "n"], ["Bytes", "bytes_held", "n"], ["Msg/s", "messages_per_s", "n"],
    ["", (row) => row.connected ? element("button", { "aria-label": "Kick " + row.client_identifier, onclick: guard(() => kick(row.client_identifier)) }, "Kick") : ""]];
  table($("client-table"), columns, answer.clients, more);
  $("client-more").hidden = !clientCursor;
}
async function kick(client) {
  if (!confirm(`Cut off ${client}?`)) return;
  await ask(`v1/clients/${encodeURIComponent(client)}/kick`, { method: "POST", body: { reason: "cut off by an administrator" } });
  await clients(false);
}
async function detail(client) {
  const path = `v1/clients/${encodeURIComponent(client)}`;
  const [full, subscriptions] = await Promise.all([ask(path), ask(path + "/subscriptions")]);
  const rows = Object.entries(full).map(([name, value]) => element("tr", {}, element("th", { scope: "row" }, name.replaceAll("_", " ")),
    element("td", { class: "wrap" }, value && typeof value === "object" ? JSON.stringify(value) : value ?? "–")));
  const list = subscriptions.subscriptions.map((one) => element("li", {}, `${one.share_name ? `$share/${one.share_name}/` : ""}${one.filter} (QoS ${one.qos})`));
  $("client-detail").replaceChildren(element("h3", {}, client), element("table", {}, element("tbody", {}, ...rows)),
    element("h3", {}, "Subscriptions"), element("ul", {}, ...list), subscriptions.next ? "and more" : "");
}

// Subscriptions as a tree

const TREE_MAX = 5000;
async function topics() {
  const search = $("topic-search").elements.search.value;
  const tree = { children: new Map(), clients: [] };
  let cursor = null, count = 0;
  do {
    const answer = await ask(query("v1/subscriptions", { search, cursor, limit: 1000 }));
    for (const one of answer.subscriptions) {
      let node = tree;
      for (const level of one.filter.split("/")) {
        if (!node.children.has(level)) node.children.set(level, { children: new Map(), clients: [] });
        node = node.children.get(level);
      }
      node.clients.push(`${one.client_identifier} (QoS ${one.qos})`);
      count += 1;
    }
    cursor = answer.next;
  } while (cursor && count < TREE_MAX);
  $("topic-count").textContent = `${count} subscriptions${cursor ? ", and more: search for a part" : ""}`;
  const total = (node) => node.clients.length + [...node.children.values()].reduce((sum, child) => sum + total(child), 0);
  const draw = (name, node, depth) => {
    const made = element("details", { open: depth < 2 && node.children.size < 20 }, element("summary", {}, `${name || "(empty level)"} · ${total(node)}`));
    if (node.clients.length) made.append(element("ul", {}, ...node.clients.slice(0, 200).map((client) => element("li", {}, client))));
    for (const [level, child] of [...node.children].sort(([a], [b]) => a < b ? -1 : 1)) made.append(draw(level, child, depth + 1));
    return made;
  };
  $("topic-tree").replaceChildren(...[...tree.children].sort(([a], [b]) => a < b ? -1 : 1).map(([level, node]) => draw(level, node, 0)));
  const groups = await ask("v1/groups");
  table($("group-table"), [["Share", "share_name"], ["Filter", "filter"], ["Shard", "shard", "n"], ["Members", "members", "n"], ["Connected", "connected", "n"]], groups.groups);
}

// Retained

let retainedCursor = null;
async function retained(more) {
  const filter = $("retained-search").elements.filter.value;
  const answer = await ask(query("v1/retained", { filter, cursor: more ? retainedCursor : null }));
  retainedCursor = answer.next;
  table($("retained-table"), [["Topic", (row) => element("button", { onclick: guard(() => showRetained(row.topic)) }, row.topic)], ["QoS", "qos", "n"], ["Bytes", "payload_bytes", "n"],
    ["Expires in s", "expires_in_s", "n"], ["", (row) => element("button", { "aria-label": "Delete " + row.topic, onclick: guard(async () => {
      if (!confirm(`Delete the retained message of ${row.topic}?`)) return;
      await ask(query("v1/retained/message", { topic: row.topic }), { method: "DELETE" });
      await retained(false);
    }) }, "Delete")]], answer.messages, more);
  $("retained-more").hidden = !retainedCursor;
}
async function showRetained(topic) {
  const message = await ask(query("v1/retained/message", { topic }));
  $("retained-detail").replaceChildren(element("h3", {}, topic), element("pre", {}, message.payload ?? message.payload_hex));
}

// Recorder

async function why() {
  const form = $("why").elements;
  if (!form.client.value && !form.topic.value) throw new Error("Say a client or a topic.");
  const answer = await ask(query("v1/why", { client: form.client.value, topic: form.topic.value, last_s: form.minutes.value * 60, limit: 1000 }));
  const outcome = (row) => row.cause || (row.deliveries !== null ? `matched ${row.deliveries} here${row.other_shards ? ", and other shards" : ""}` : row.packet_identifier ? `identifier ${row.packet_identifier}` : "");
  table($("why-table"), [["Time", (row) => new Date(row.at_unix_ms).toISOString().slice(11, 23)], ["Shard", "shard", "n"], ["What", "what"], ["Topic", "topic"],
    ["Client", "client_identifier"], ["QoS", "qos", "n"], ["", outcome]], answer.decisions);
  $("why-note").textContent = answer.left_out ? `${answer.left_out} earlier ones are left out` : "";
}

// The MQTT client

let mqtt = null;
const decode = (payload) => { try { return new TextDecoder("utf-8", { fatal: true }).decode(payload); } catch { return [...payload].map((byte) => byte.toString(16).padStart(2, "0")).join(" "); } };
const shownProperties = (properties) => Object.entries(properties).map(([name, value]) => `${name}: ${value instanceof Uint8Array ? decode(value) : JSON.stringify(value)}`).join(", ");
function logLine(title, text, properties = {}) {
  const line = element("li", {}, element("strong", {}, title), " ", element("code", {}, text));
  const shown = shownProperties(properties);
  if (shown) line.append(element("br"), element("small", {}, shown));
  $("mqtt-messages").prepend(line);
  while ($("mqtt-messages").children.length > 500) $("mqtt-messages").lastChild.remove();
}
const number = (field) => field.value === "" ? undefined : Number(field.value);
function mqttState(text, connected) {
  $("mqtt-state").textContent = text;
  $("mqtt-work").disabled = !connected;
  $("mqtt-disconnect").disabled = !mqtt;
}
function mqttConnect() {
  mqtt?.disconnect();
  const form = $("mqtt-connect").elements;
  const client = new MqttClient({
    url: form.url.value, version: Number(form.version.value), clientId: form.clientId.value, keepAlive: Number(form.keepAlive.value), cleanStart: form.cleanStart.checked,
    userName: form.userName.value, password: form.password.value,
    properties: { sessionExpiryInterval: number(form.sessionExpiry), receiveMaximum: number(form.receiveMaximum) },
  });
  mqtt = client;
  mqttState("connecting", false);
  const on = (type, take) => client.addEventListener(type, (event) => take(event.detail));
  const code = (value) => "0x" + value.toString(16).padStart(2, "0");
  on("connack", ({ code: reason, present, properties }) => {
    logLine("CONNACK", `${code(reason)}${present ? ", session present" : ""}`, properties);
    mqttState(reason === 0 ? "connected" : `refused: ${code(reason)}`, reason === 0);
  });
  on("message", ({ topic, qos, retain, properties, payload }) => logLine(topic, decode(payload), { QoS: qos, ...(retain ? { retain: true } : {}), ...properties }));
  on("suback", ({ codes, properties }) => logLine("SUBACK", codes.map(code).join(" "), properties));
  on("unsuback", ({ codes, properties }) => logLine("UNSUBACK", codes.map(code).join(" "), properties));
  on("puback", ({ code: reason }) => logLine("acknowledged", code(reason)));
  on("disconnect", ({ code: reason, properties }) => logLine("DISCONNECT", code(reason), properties));
  on("problem", ({ text }) => logLine("problem", text));
  on("close", () => { if (mqtt === client) { mqtt = null; mqttState("not connected", false); } });
}
function mqttPublish() {
  const form = $("mqtt-publish").elements;
  const property = form.userProperty.value.split("=");
  mqtt?.publish(form.topic.value, new TextEncoder().encode(form.payload.value), Number(form.qos.value), form.retain.checked, {
    contentType: form.contentType.value, responseTopic: form.responseTopic.value, messageExpiryInterval: number(form.messageExpiry),
    correlationData: form.correlationData.value ? new TextEncoder().encode(form.correlationData.value) : undefined,
    userProperty: property.length > 1 ? [[property[0], property.slice(1).join("=")]] : undefined,
  });
}
function versionChosen() {
  const v5 = $("mqtt-connect").elements.version.value === "5";
  document.querySelectorAll(".v5").forEach((label) => { label.hidden = !v5; });
}

// Which section is shown

const ENTER = { clients: () => clients(false), topics, retained: () => retained(false) };
function show() {
  const wanted = location.hash.slice(1) || "overview";
  const sections = [...document.querySelectorAll("main > section")];
  const chosen = sections.some((section) => section.id === wanted) ? wanted : "overview";
  for (const section of sections) section.hidden = section.id !== chosen;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === "#" + chosen) link.setAttribute("aria-current", "page"); else link.removeAttribute("aria-current");
  }
  window.scrollTo(0, 0);
  if (ENTER[chosen]) guard(ENTER[chosen])();
}

$("token-form").onsubmit = guard(() => { token = $("token").value; sessionStorage.setItem("token", token); $("token").value = ""; history = []; show(); });
$("client-search").onsubmit = guard(() => clients(false));
$("client-more").onclick = guard(() => clients(true));
$("topic-search").onsubmit = guard(topics);
$("retained-search").onsubmit = guard(() => retained(false));
$("retained-more").onclick = guard(() => retained(true));
$("why").onsubmit = guard(why);
$("mqtt-connect").onsubmit = guard(mqttConnect);
$("mqtt-connect").elements.version.onchange = versionChosen;
$("mqtt-connect").elements.url.value = `${location.protocol === "https:" ? "wss" : "ws"}://${location.hostname || "localhost"}:8083/mqtt`;
$("mqtt-disconnect").onclick = () => mqtt?.disconnect();
$("mqtt-subscribe").onsubmit = guard(() => {
  const form = $("mqtt-subscribe").elements;
  mqtt?.subscribe(form.filter.value, Number(form.qos.value), { noLocal: form.noLocal.checked, retainAsPublished: form.retainAsPublished.checked }, { subscriptionIdentifier: number(form.subscriptionIdentifier) });
});
$("mqtt-unsubscribe").onclick = () => mqtt?.unsubscribe($("mqtt-subscribe").elements.filter.value);
$("mqtt-publish").onsubmit = guard(mqttPublish);
window.onhashchange = show;
versionChosen();
show();
poll();
