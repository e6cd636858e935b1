// usage: node browser.mjs DIRECTORY CHROMIUM HOME HOST PORT TOKEN SHELL_TOKEN FORWARDED
//
// Drives Chromium, which reads the certificates that it trusts from HOME, by the puppeteer of DIRECTORY. Its pages talk to
// the app of this directory: one that the app itself serves, at the address FORWARDED of `hearth forward`, and the same
// from another origin, which talks to the endpoint. Prints one JSON object a line: protocol, client, and what went wrong
// (null if nothing did).
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import assert from "node:assert/strict";

const [directory, chromium, home, host, port, token, shellToken, forwarded] = process.argv.slice(2);
const require = createRequire(join(directory, "package.json"));
const puppeteer = require("puppeteer-core");

const files = new Map([
  ["/", ["text/html", readFileSync(new URL("app/src/page.html", import.meta.url))]],
  ["/xterm.mjs", ["text/javascript", readFileSync(require.resolve("@xterm/xterm/lib/xterm.mjs"))]],
]);

/** Another origin than the endpoint's and the forwarded one. */
async function otherOrigin() {
  const server = createServer((request, response) => {
    const [type, content] = files.get(request.url) ?? ["text/plain", ""];
    response.writeHead(content ? 200 : 404, { "content-type": type }).end(content);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { server, url: `http://localhost:${server.address().port}/` };
}

const offered = (token) => ["lambda-microvms", `lambda-microvms.authentication.${token}`];
const ours = [...offered(token), "lambda-microvms.port.8080"];
const wss = `wss://${host}:${port}`;
const checks = [];
const check = (protocol, run) => checks.push({ protocol, run });

check("EventSource, by `hearth forward`", async ({ open }) => {
  const page = await open(`${forwarded}/page`);
  await page.evaluate(() => events("/events"));
});

check("WebSocket, by `hearth forward`", async ({ open }) => {
  const page = await open(`${forwarded}/page`);
  await page.evaluate(() => echo("/ws", [], ""));
  await page.evaluate(() => echo("/ws", ["other", "chat"], "chat"));
});

check("WebSocket, token in a subprotocol", async ({ open, other }) => {
  const page = await open(other);
  await page.evaluate((url, ours) => echo(url, ours, "lambda-microvms"), `${wss}/ws`, ours);
  await page.evaluate((url, ours) => echo(url, [...ours, "chat"], "chat"), `${wss}/ws`, ours);
  // Compressed: this app accepts what Chromium offers.
  await page.evaluate((url, ours) => echo(url, ours, "lambda-microvms"), `${wss}/deflate`, ours);
  for (const wrong of [ours.slice(1), ours.slice(0, 1), [...offered(`${token}x`), "chat"], []]) {
    await page.evaluate((url, wrong) => refused(url, wrong), `${wss}/ws`, wrong);
  }
});

// Chromium opens a WebSocket on a connection of HTTP/2 that it has already and whose settings allow it.
check("WebSocket over HTTP/2", async ({ open, other }) => {
  const page = await open(other);
  const statuses = [];
  const session = await page.createCDPSession();
  await session.send("Network.enable");
  session.on("Network.webSocketHandshakeResponseReceived", ({ response }) => statuses.push(response.status));
  await page.evaluate((url) => fetch(url, { mode: "no-cors", credentials: "include" }), `https://${host}:${port}/`);
  await page.evaluate((url, ours) => echo(url, ours, "lambda-microvms"), `${wss}/ws`, ours);
  assert.deepEqual(statuses, [200]);
});

check("Shell", async ({ open, other }) => {
  const page = await open(other);
  await page.evaluate((url, ours) => shell(url, ours), `${wss}/shell`, offered(shellToken));
  const shows = async (text) => {
    try {
      await page.waitForFunction((text) => `\n${shown()}\n`.includes(text), { timeout: 60_000 }, text);
    } catch (error) {
      throw new Error(`${JSON.stringify(text)} is not shown: ${await page.evaluate(() => shown())}`, { cause: error });
    }
  };
  const type = (text) => page.keyboard.type(text);
  await type("stty size; printf '%s \\342\\202\\254\\n' $((6 * 7))\n");
  await shows("30 100\n42 €\n");
  await page.evaluate(() => terminal.resize(120, 40));
  await type("stty size\n");
  await shows("40 120\n");
  await type("clear; printf '\\033[31mred\\033[0m\\n'\n");
  await shows("\nred\n");
  await page.evaluate(() => {
    const row = shown().split("\n").lastIndexOf("red");
    const cell = (column) => terminal.buffer.active.getLine(row).getCell(column);
    equal([0, 1, 2, 3].map((column) => cell(column).getFgColor()), [1, 1, 1, -1]);
  });
  // It says so when the terminal is its own.
  await type("sh -c 'echo rea''dy; exec sleep 1000'\n");
  await shows("\nready\n");
  await page.keyboard.down("Control");
  await page.keyboard.press("c");
  await page.keyboard.up("Control");
  await type("echo in''terrupted\n");
  await shows("\ninterrupted\n");
  await type("exit\n");
  assert.deepEqual(await page.evaluate(() => ended), [1000, "shell exited", true]);
});

const browser = await puppeteer.launch({
  executablePath: chromium,
  headless: true,
  // Chromium's own sandbox does not start for root; the pages are ours.
  args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--no-proxy-server"],
  env: { ...process.env, HOME: home },
  userDataDir: join(home, "profile"),
});
const { server, url: other } = await otherOrigin();
for (const { protocol, run } of checks) {
  const context = await browser.createBrowserContext();
  const said = [];
  const open = async (url) => {
    const page = await context.newPage();
    page.on("console", (message) => said.push(message.text()));
    await page.goto(url);
    return page;
  };
  let error = null;
  try {
    await run({ open, other });
  } catch (thrown) {
    error = [thrown.stack ?? String(thrown), ...said].join("\n");
  }
  console.log(JSON.stringify({ protocol, client: "chromium", error }));
  await context.close();
}
await browser.close();
server.close();
