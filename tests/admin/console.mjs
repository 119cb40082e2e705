// The web console in a real browser: every section, kick, the recorder and the MQTT client over WebSocket.
// Usage: node console.mjs CONSOLE_URL MQTT_PORT TOKEN [FOLDER_FOR_SCREENSHOTS]
// A bridge stands in for a WebSocket listener unless WEBSOCKET_URL names one.
import { chromium } from "playwright-core";
import { WebSocketServer } from "ws";
import net from "node:net";
import assert from "node:assert/strict";

const [url, mqttPort, token, folder] = process.argv.slice(2);

function bridge() {
  const server = new WebSocketServer({ port: 0, host: "127.0.0.1", handleProtocols: () => "mqtt" });
  server.on("connection", (socket) => {
    const broker = net.connect(Number(mqttPort), "127.0.0.1");
    socket.on("message", (bytes) => broker.write(bytes));
    broker.on("data", (bytes) => socket.send(bytes));
    broker.on("close", () => socket.close());
    socket.on("close", () => broker.destroy());
    broker.on("error", () => socket.close());
  });
  return new Promise((resolve) => server.on("listening", () => resolve(server)));
}

const server = process.env.WEBSOCKET_URL ? null : await bridge();
const websocket = process.env.WEBSOCKET_URL || `ws://127.0.0.1:${server.address().port}/mqtt`;
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
  args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});

async function look(scheme, width) {
  const page = await browser.newPage({ viewport: { width, height: 900 }, colorScheme: scheme });
  const faults = [];
  const elsewhere = [];
  page.on("pageerror", (error) => faults.push(error.message));
  page.on("console", (message) => { if (message.type() === "error" && !message.text().includes("401")) faults.push(message.text()); });
  page.on("request", (request) => { if (!request.url().startsWith(url)) elsewhere.push(request.url()); });
  page.on("dialog", (dialog) => dialog.accept());
  const shot = (name) => folder && page.screenshot({ path: `${folder}/${name}-${scheme}-${width}.png`, fullPage: true });
  await page.goto(url);
  await page.getByText("The broker asks for a token.").first().waitFor();
  await page.getByLabel("Token").fill(token);
  await page.getByRole("button", { name: "Use" }).click();
  await page.getByRole("status").filter({ hasText: "RingMQ" }).waitFor();

  // The MQTT client, in both versions.
  for (const version of ["5", "4"]) {
    await page.getByRole("link", { name: "MQTT client" }).click();
    await page.getByLabel("URL").fill(websocket);
    await page.getByLabel("Version").selectOption(version);
    await page.getByLabel("Client Identifier").last().fill(`browser-${scheme}-${width}`);
    await page.getByRole("button", { name: "Connect", exact: true }).click();
    await page.locator("#mqtt-state", { hasText: /^connected$/ }).waitFor();
    await page.locator("#mqtt-subscribe [name=filter]").fill("browser/#");
    await page.locator("#mqtt-subscribe [name=qos]").selectOption("2");
    await page.getByRole("button", { name: "Subscribe", exact: true }).click();
    await page.locator("#mqtt-messages", { hasText: "SUBACK" }).waitFor();
    await page.locator("#mqtt-publish [name=topic]").fill("browser/topic");
    for (const qos of ["0", "1", "2"]) {
      await page.locator("#mqtt-publish [name=qos]").selectOption(qos);
      await page.locator("#mqtt-publish [name=payload]").fill(`<b>v${version} qos ${qos}</b>`);
      if (version === "5") await page.locator("#mqtt-publish [name=userProperty]").fill("from=browser");
      await page.getByRole("button", { name: "Publish" }).click();
      // A payload is a text, and never markup.
      await page.locator("#mqtt-messages code", { hasText: `<b>v${version} qos ${qos}</b>` }).first().waitFor();
    }
    if (version === "5") assert.match(await page.locator("#mqtt-messages").innerText(), /userProperty: \[\["from","browser"\]\]/);
    await shot(`mqtt-v${version}`);
    if (version === "5") {
      await page.getByRole("button", { name: "Disconnect" }).click();
      await page.locator("#mqtt-state", { hasText: "not connected" }).waitFor();
    }
  }
  await page.getByRole("link", { name: "Recorder" }).click();
  await page.getByLabel("Topic Name or Filter").fill("browser/topic");
  await page.getByRole("button", { name: "Ask" }).click();
  await page.locator("#why-table td", { hasText: "acknowledged" }).first().waitFor();
  await shot("recorder");
  await page.getByRole("link", { name: "Subscriptions" }).click();
  await page.locator("#topic-tree summary", { hasText: "browser" }).first().waitFor();
  await shot("subscriptions");
  await page.getByRole("link", { name: "Retained" }).click();
  await page.locator("#retained-table tbody tr").first().waitFor();
  await shot("retained");
  await page.getByRole("link", { name: "Clients" }).click();
  const row = page.locator("#client-table tr", { hasText: `browser-${scheme}-${width}` });
  await row.getByRole("button").first().click();
  await page.locator("#client-detail", { hasText: "browser/#" }).waitFor();
  await shot("clients");
  await row.getByRole("button", { name: /Kick/ }).click();
  await row.waitFor({ state: "detached" });
  await page.getByRole("link", { name: "Overview" }).click();
  await page.locator("#plots figure").nth(5).waitFor();
  await page.waitForTimeout(4500);
  await shot("overview");

  // Nothing is wider than the window, everything that takes input has a name.
  for (const section of ["Overview", "Clients", "Subscriptions", "Retained", "Recorder", "MQTT client"]) {
    await page.getByRole("link", { name: section }).click();
    const wide = await page.evaluate(() => document.documentElement.scrollWidth > window.innerWidth + 1);
    assert.equal(wide, false, `${section} is wider than ${width} pixels`);
  }
  const nameless = await page.evaluate(() => [...document.querySelectorAll("input, select, textarea")].filter((field) => field.labels.length === 0).length);
  assert.equal(nameless, 0, "every field has a label");
  assert.deepEqual(faults, []);
  assert.deepEqual(elsewhere, [], "nothing is loaded from elsewhere");
  await page.close();
}

try {
  await look("light", 1280);
  await look("dark", 390);
  console.log("the console works: light and dark, 1280 and 390 pixels");
} finally {
  await browser.close();
  server?.close();
}
