// MQTT.js in a real browser: node browser.js WS_URL WSS_URL. CHROMIUM names the browser (chromium if it is not set).
//
// A page of the host that the broker listens on does what a web application does, with 3.1.1 and 5.0; a page of
// another host must not get in. The browser takes any certificate: Node checks the chain in mqttjs.js.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import http from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

const PATIENCE_MS = 60_000;
const urls = process.argv.slice(2);
assert.equal(urls.length, 2, "usage: node browser.js WS_URL WSS_URL");
const here = path.dirname(fileURLToPath(import.meta.url));
const library = readFileSync(path.join(here, "node_modules/mqtt/dist/mqtt.min.js"));

/** Runs in the page: all QoS, a retained message and a large one, with each version over each URL. */
async function inPage(urls, allowed) {
  const done = [];
  const wait = (check) =>
    new Promise((resolve, reject) => {
      const start = Date.now();
      const timer = setInterval(() => {
        const value = check();
        if (value || Date.now() - start > 10_000) {
          clearInterval(timer);
          value ? resolve(value) : reject(new Error(`waited for ${check}`));
        }
      }, 5);
    });
  for (const url of urls) {
    for (const protocolVersion of [4, 5]) {
      const options = { protocolVersion, reconnectPeriod: 0, connectTimeout: 5_000 };
      if (!allowed) {
        const client = mqtt.connect(url, options);
        let connected = false;
        client.on("connect", () => (connected = true));
        client.on("error", () => {});
        await new Promise((resolve) => client.on("close", resolve));
        if (connected) throw new Error("a page of another host got in");
        client.end(true);
        done.push(`${url} ${protocolVersion} refused`);
        continue;
      }
      const client = await mqtt.connectAsync(url, options);
      const got = [];
      client.on("message", (topic, payload, packet) => got.push([topic, payload.toString(), packet.qos]));
      const topic = `browser/${protocolVersion}/${Math.random()}`;
      await client.subscribeAsync(`${topic}/#`, { qos: 2 });
      for (const qos of [0, 1, 2]) {
        await client.publishAsync(`${topic}/${qos}`, `message ${qos}`, { qos });
        const message = await wait(() => got.shift());
        if (message.join() !== `${topic}/${qos},message ${qos},${qos}`) throw new Error(message.join());
      }
      const large = "x".repeat(200_000);
      await client.publishAsync(`${topic}/large`, large, { qos: 1, retain: true });
      const message = await wait(() => got.shift());
      if (message[1] !== large) throw new Error("the large message is another");
      await client.publishAsync(`${topic}/large`, "", { qos: 1, retain: true });
      await wait(() => got.shift());
      await client.endAsync();
      done.push(`${url} ${protocolVersion}`);
    }
  }
  return done;
}

function page(allowed) {
  return `<!doctype html><title>MQTT</title><script src="/mqtt.js"></script><script>
    const report = (result) => fetch("/result", { method: "POST", body: JSON.stringify(result) });
    (${inPage})(${JSON.stringify(urls)}, ${allowed}).then((done) => report({ done }), (error) => report({ error: String(error) }));
  </script>`;
}

const results = [];
let arrived = () => {};
const server = http.createServer((request, response) => {
  if (request.url === "/mqtt.js") {
    response.setHeader("Content-Type", "text/javascript");
    response.end(library);
  } else if (request.url === "/result") {
    let body = "";
    request.on("data", (chunk) => (body += chunk));
    request.on("end", () => {
      results.push(JSON.parse(body));
      response.end();
      arrived();
    });
  } else if (request.url === "/allowed" || request.url === "/refused") {
    response.setHeader("Content-Type", "text/html");
    response.end(page(request.url === "/allowed"));
  } else {
    response.statusCode = 404;
    response.end();
  }
});
await new Promise((resolve) => server.listen(0, resolve));
const { port } = server.address();

/** Opens a page and gives what it reports. */
async function open(address) {
  const profile = mkdtempSync(path.join(tmpdir(), "ringmq-browser-"));
  const flags = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--ignore-certificate-errors",
    `--user-data-dir=${profile}`,
    address,
  ];
  const browser = spawn(process.env.CHROMIUM ?? "chromium", flags, { stdio: ["ignore", "ignore", "pipe"] });
  let said = "";
  browser.stderr.on("data", (chunk) => (said += chunk));
  const ended = new Promise((resolve) => browser.on("exit", resolve));
  const result = new Promise((resolve) => (arrived = resolve));
  const timeout = new Promise((resolve) => setTimeout(resolve, PATIENCE_MS).unref());
  await Promise.race([result, ended, timeout]);
  browser.kill();
  await ended;
  rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
  const report = results.shift();
  assert.ok(report, `no result from the page; the browser says:\n${said}`);
  assert.equal(report.error, undefined);
  return report.done;
}

// The broker's own host, and another name for this machine.
const allowed = await open(`http://127.0.0.1:${port}/allowed`);
assert.equal(allowed.length, 4, allowed.join());
const refused = await open(`http://localhost:${port}/refused`);
assert.equal(refused.length, 4, refused.join());
console.log("ok: MQTT.js in a browser, ws and wss, versions 311 and 5; pages of another host are refused");
process.exit(0);
