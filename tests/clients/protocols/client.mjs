// usage: node client.mjs DIRECTORY HOST PORT CA_BUNDLE TOKEN
//
// Drives the app of this directory through an endpoint with the clients of Node.js that are installed in DIRECTORY. Prints
// one JSON object a line: protocol, client, and what went wrong (null if nothing did).
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import assert from "node:assert/strict";

const [directory, host, port, bundle, token] = process.argv.slice(2);
const require = createRequire(join(directory, "package.json"));
const undici = require("undici");
const WebSocket = require("ws");
const grpc = require("@grpc/grpc-js");

const ca = readFileSync(bundle);
const auth = { "x-aws-proxy-auth": token };
const url = `https://${host}:${port}`;
const MIB = 1 << 20;
// All endpoints are on loopback; nobody needs to resolve their names.
const lookup = (_name, options, done) =>
  options.all ? done(null, [{ address: "127.0.0.1", family: 4 }]) : done(null, "127.0.0.1", 4);
const checks = [];
const check = (protocol, client, run) => checks.push({ protocol, client, run });

function agent(allowH2) {
  return new undici.Agent({ allowH2, connect: { ca, lookup } });
}

async function withAgent(allowH2, run) {
  const dispatcher = agent(allowH2);
  try {
    await run((path, options = {}) =>
      undici.request(url + path, { dispatcher, ...options, headers: { ...auth, ...options.headers } }), dispatcher);
  } finally {
    await dispatcher.destroy();
  }
}

for (const [name, allowH2] of [["HTTP/1.1", false], ["HTTP/2", true]]) {
  check(name, "undici", () => withAgent(allowH2, async (request) => {
    const answer = await request("/describe");
    assert.equal(answer.statusCode, 200);
    assert.equal(await answer.body.text(), `GET /describe HTTP/1.1 ${host}:${port}`);
  }));
  check(`Bodies over ${name}`, "undici", () => withAgent(allowH2, async (request) => {
    const up = await request("/count", { method: "POST", body: Buffer.alloc(16 * MIB) });
    assert.equal(await up.body.text(), String(16 * MIB));
    const down = await request(`/bytes?${16 * MIB}`);
    const bytes = Buffer.from(await down.body.arrayBuffer());
    assert.ok(bytes.equals(Buffer.alloc(16 * MIB, 7)));
  }));
}

check("Server-Sent Events over HTTP/1.1", "undici", () => withAgent(false, async (_request, dispatcher) => {
  const answer = await undici.fetch(`${url}/events`, { dispatcher, headers: auth });
  const lines = (await answer.text()).split("\n").filter((line) => line.startsWith("data:"));
  assert.deepEqual(lines, [0, 1, 2, 3, 4].map((number) => `data: event ${number}`));
}));

function opened(socket) {
  return new Promise((resolve, reject) => {
    socket.onopen = resolve;
    socket.onerror = (event) => reject(event.error ?? new Error(event.message));
  });
}

/** Echoes of sizes of each length form, text and bytes; then a close with a code of one's own. */
async function frames(socket, chosen) {
  socket.binaryType = "arraybuffer";
  await opened(socket);
  assert.equal(socket.protocol, chosen);
  for (const message of ["", "ä€𝄞", "x".repeat(126), "x".repeat(65536), Buffer.alloc(2 * MIB, 5)]) {
    const echo = new Promise((resolve) => { socket.onmessage = resolve; });
    socket.send(message);
    const { data } = await echo;
    if (typeof message === "string") assert.equal(data, message);
    else assert.ok(Buffer.from(data).equals(message));
  }
  const closed = new Promise((resolve) => { socket.onclose = resolve; });
  socket.close(4001, "of one's own");
  const { code, reason } = await closed;
  assert.deepEqual([code, reason], [4001, "of one's own"]);
}

const ours = ["lambda-microvms", `lambda-microvms.authentication.${token}`, "lambda-microvms.port.8080"];
const wss = `wss://${host}:${port}/ws`;

check("WebSocket, token in a header", "ws", () => frames(new WebSocket(wss, { ca, lookup, headers: auth }), ""));
check("WebSocket, token in a subprotocol", "ws", async () => {
  await frames(new WebSocket(wss, ours, { ca, lookup }), "lambda-microvms");
  await frames(new WebSocket(wss, [...ours, "chat"], { ca, lookup }), "chat");
  // Fragments, and a ping in their midst.
  const socket = new WebSocket(wss, ours, { ca, lookup });
  await opened(socket);
  const echo = new Promise((resolve) => { socket.onmessage = resolve; });
  const pong = new Promise((resolve) => socket.once("pong", resolve));
  socket.send("one ", { fin: false });
  socket.ping("in between");
  socket.send("two", { fin: true });
  assert.equal((await echo).data, "one two");
  assert.equal(String(await pong), "in between");
  socket.terminate();
  await assert.rejects(opened(new WebSocket(wss, ours.slice(1), { ca, lookup })), /400/);
});
// As in a browser: no headers, and a connection that fails if none of its subprotocols is chosen.
check("WebSocket, token in a subprotocol", "undici", () => withAgent(false, async (_request, dispatcher) => {
  await frames(new undici.WebSocket(wss, { protocols: ours, dispatcher }), "lambda-microvms");
  await frames(new undici.WebSocket(wss, { protocols: [...ours, "chat"], dispatcher }), "chat");
}));

const bytes = (buffer) => buffer;

function grpcClient() {
  const options = { "grpc.ssl_target_name_override": host, "grpc.default_authority": `${host}:${port}` };
  return new grpc.Client(`127.0.0.1:${port}`, grpc.credentials.createSsl(ca), options);
}

async function withGrpc(run) {
  const client = grpcClient();
  const metadata = new grpc.Metadata();
  metadata.set("x-aws-proxy-auth", token);
  try {
    await run(client, metadata);
  } finally {
    client.close();
  }
}

function settled(begin) {
  return new Promise((resolve, reject) => begin((error, value) => (error ? reject(error) : resolve(value))));
}

const soon = () => ({ deadline: Date.now() + 30_000 });

check("gRPC: unary", "grpc-js", () => withGrpc(async (client, metadata) => {
  for (const message of ["", "hello", "x".repeat(3 * MIB)].map((text) => Buffer.from(text))) {
    const answer = await settled((done) =>
      client.makeUnaryRequest("/test.Echo/Unary", bytes, bytes, message, metadata, soon(), done));
    assert.ok(answer.equals(message));
  }
}));

check("gRPC: streams", "grpc-js", () => withGrpc(async (client, metadata) => {
  const all = await settled((done) => {
    const call = client.makeClientStreamRequest("/test.Echo/ClientStream", bytes, bytes, metadata, soon(), done);
    for (const piece of ["a", "b", "c"]) call.write(Buffer.from(piece));
    call.end();
  });
  assert.equal(String(all), "abc");
  const count = Buffer.from("100");
  const down = client.makeServerStreamRequest("/test.Echo/ServerStream", bytes, bytes, count, metadata, soon());
  const numbers = [];
  for await (const number of down) numbers.push(Number(String(number)));
  assert.deepEqual(numbers, [...Array(100).keys()]);
  const both = client.makeBidiStreamRequest("/test.Echo/Both", bytes, bytes, metadata, soon());
  const answers = both[Symbol.asyncIterator]();
  for (const message of ["one", "two", "three"]) {
    both.write(Buffer.from(message));
    assert.equal(String((await answers.next()).value), message);
  }
  both.end();
  assert.ok((await answers.next()).done);
}));

check("gRPC: deadline and status", "grpc-js", () => withGrpc(async (client, metadata) => {
  const call = (method, deadline) => settled((done) =>
    client.makeUnaryRequest(`/test.Echo/${method}`, bytes, bytes, Buffer.alloc(0), metadata, { deadline }, done));
  await assert.rejects(call("Slow", Date.now() + 1000), { code: grpc.status.DEADLINE_EXCEEDED });
  await assert.rejects(call("None", Date.now() + 30_000), { code: grpc.status.UNIMPLEMENTED });
}));

for (const { protocol, client, run } of checks) {
  let error = null;
  try {
    await run();
  } catch (thrown) {
    error = thrown.stack ?? String(thrown);
  }
  console.log(JSON.stringify({ protocol, client, error }));
}
