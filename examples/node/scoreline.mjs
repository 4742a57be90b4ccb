// Scoreline from Node, without a dependency: predict, job, describe, status, over the wire format (docs/wire-format.md).
//
//     node scoreline.mjs redis://127.0.0.1:6379/0 loans '{"income": 1800.0, "debts": 50}'
//
// One connection writes, another one waits for answers. With a client library of your choice `command` is its own.

import { randomBytes } from "node:crypto";
import { connect as connectTcp } from "node:net";
import { connect as connectTls } from "node:tls";
import { pathToFileURL } from "node:url";

export class ScorelineError extends Error {
  constructor(code, message, details = {}) {
    super(message);
    Object.assign(this, { code, ...details });
  }
}

// A connection to Redis: RESP2 in some forty lines.
class Connection {
  #socket;
  #waiting = [];
  #bytes = Buffer.alloc(0);

  static async open(url) {
    const { protocol, hostname, port, username, password, pathname } = new URL(url);
    const connection = new Connection();
    const connect = protocol === "rediss:" ? connectTls : connectTcp;
    connection.#socket = connect({ host: hostname, port: Number(port || 6379), servername: hostname });
    connection.#socket.setNoDelay(true);
    connection.#socket.on("data", (data) => connection.#read(data));
    const end = (error) => {
      for (const { reject } of connection.#waiting.splice(0)) {
        reject(new ScorelineError("E_SERVER", `the connection to Redis ended: ${error?.message ?? "closed"}`));
      }
    };
    connection.#socket.on("error", end).on("close", end);
    if (password) {
      await connection.command("AUTH", decodeURIComponent(username) || "default", decodeURIComponent(password));
    }
    await connection.command("SELECT", pathname.slice(1) || "0");
    return connection;
  }

  command(...parts) {
    const encoded = parts.map((part) => (Buffer.isBuffer(part) ? part : Buffer.from(String(part))));
    const lines = encoded.flatMap((part) => [Buffer.from(`$${part.length}\r\n`), part, Buffer.from("\r\n")]);
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject });
      this.#socket.write(Buffer.concat([Buffer.from(`*${parts.length}\r\n`), ...lines]));
    });
  }

  close() {
    this.#socket.destroy();
  }

  #read(data) {
    this.#bytes = Buffer.concat([this.#bytes, data]);
    for (let parsed; (parsed = parse(this.#bytes, 0)); ) {
      this.#bytes = this.#bytes.subarray(parsed.end);
      const { resolve, reject } = this.#waiting.shift();
      if (parsed.value instanceof Error) reject(parsed.value);
      else resolve(parsed.value);
    }
  }
}

// A reply that begins at a place and the place behind it, or null while it is not whole.
function parse(bytes, start) {
  const lineEnd = bytes.indexOf("\r\n", start);
  if (lineEnd < 0) return null;
  const text = bytes.toString("utf8", start + 1, lineEnd);
  let end = lineEnd + 2;
  switch (String.fromCharCode(bytes[start])) {
    case "+":
      return { value: text, end };
    case "-":
      return { value: new ScorelineError("E_SERVER", text), end };
    case ":":
      return { value: Number(text), end };
    case "$":
      if (text === "-1") return { value: null, end };
      if (bytes.length < end + Number(text) + 2) return null;
      return { value: bytes.subarray(end, end + Number(text)), end: end + Number(text) + 2 };
    default: {
      if (text === "-1") return { value: null, end };
      const items = [];
      for (let left = Number(text); left > 0; left--) {
        const item = parse(bytes, end);
        if (!item) return null;
        items.push(item.value);
        end = item.end;
      }
      return { value: items, end };
    }
  }
}

const LARGEST_LANE = 2_000_000; // as SCORELINE_QUEUE_LIMIT
const newId = () => randomBytes(16).toString("hex");

export class Scoreline {
  #url;
  #queue;
  #me = newId(); // names this client's reply list
  #writes;
  #reads;
  #pending = new Map();

  constructor(url, queue = "default") {
    this.#url = url;
    this.#queue = queue;
  }

  static async open(url, queue) {
    const client = new Scoreline(url, queue);
    client.#writes = await Connection.open(url);
    client.#reads = await Connection.open(url);
    client.#listen();
    return client;
  }

  // One record: its value and probabilities. Throws its error.
  async predict(model, record, options = {}) {
    const [prediction] = await this.predictMany(model, [record], options);
    if (prediction.error) throw new ScorelineError(prediction.error.code, prediction.error.message, prediction.error);
    return prediction;
  }

  // Many records, in their order; a bad one has an `error` in its place.
  async predictMany(model, records, { timeoutMs = 5000 } = {}) {
    return predictionsOf(await this.#ask({ model, body: JSON.stringify(records) }, timeoutMs));
  }

  // What a version takes and gives.
  async describe(model, { timeoutMs = 5000 } = {}) {
    const { version, description } = await this.#ask({ model, operation: "describe" }, timeoutMs);
    return { version, ...description };
  }

  // A job: its id, for `result` and `cancel`, now or in another process. Repeated with the same id, it is scored once.
  async submit(model, records, { id = newId(), expiresMs = 3_600_000 } = {}) {
    await this.#append("bulk", { id, model, body: JSON.stringify(records), expires_ms: expiresMs, notify: this.#me });
    return id;
  }

  // The predictions of a job, or null while there are none. The key stays for an hour.
  async result(id) {
    const stored = await this.#writes.command("GET", this.#key("result", id));
    return stored && predictionsOf(JSON.parse(stored));
  }

  // Nobody scores it any more, unless somebody has already: false. The user needs the right to SET results.
  async cancel(id) {
    const error = { code: "E_CANCELLED", message: `job ${id} was cancelled` };
    const answer = JSON.stringify({ wire: 1, id, status: "error", error });
    return (await this.#writes.command("SET", this.#key("result", id), answer, "NX", "PX", 3_600_000)) === "OK";
  }

  // The processes that answer requests, and the versions that they serve by `model@alias`.
  async status() {
    const names = await this.#writes.command("ZRANGE", this.#key("processes"), 0, -1);
    const keys = names.map((name) => this.#key("process", name));
    const stored = keys.length ? await this.#writes.command("MGET", ...keys) : [];
    const reports = stored.filter(Boolean).map((report) => JSON.parse(report));
    const scoring = reports.filter((report) => !report.children);
    const models = {};
    for (const report of scoring) {
      for (const [name, { serving }] of Object.entries(report.models ?? {})) {
        if (serving != null) (models[name] ??= new Set()).add(serving);
      }
    }
    return {
      processes: scoring.length,
      models: Object.fromEntries(Object.entries(models).map(([name, versions]) => [name, [...versions].sort()])),
    };
  }

  async close() {
    this.#reads.close();
    this.#writes.close();
  }

  #key(...parts) {
    return ["scoreline:{" + this.#queue + "}", ...parts].join(":");
  }

  async #append(lane, fields) {
    const waiting = await this.#writes.command("XLEN", this.#key(lane));
    if (waiting >= LARGEST_LANE) throw new ScorelineError("QUEUE_FULL", `${waiting} requests wait; ask again later`);
    await this.#writes.command("XADD", this.#key(lane), "*", "wire", "1", ...Object.entries(fields).flat());
  }

  #ask(fields, timeoutMs) {
    const id = newId();
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#pending.delete(id);
        reject(new ScorelineError("NO_ANSWER", `no answer to request ${id} within ${timeoutMs} ms`));
      }, timeoutMs);
      const end = (settle) => (value) => {
        clearTimeout(timer);
        this.#pending.delete(id);
        settle(value);
      };
      // Answers come in any order, late ones of requests that were given up, too: they are told apart by their ids.
      this.#pending.set(id, { resolve: end(resolve), reject: end(reject) });
      this.#append("online", { id, reply_to: this.#me, expires_ms: timeoutMs, ...fields }).catch(end(reject));
    });
  }

  async #listen() {
    try {
      for (;;) {
        const popped = await this.#reads.command("BLPOP", this.#key("reply", this.#me), 5);
        if (popped) await this.#receive(JSON.parse(popped[1]));
      }
    } catch (error) {
      for (const { reject } of [...this.#pending.values()]) reject(error);
    }
  }

  async #receive(answer) {
    const asked = this.#pending.get(answer.id);
    if (!asked) return;
    if (answer.stored) answer = JSON.parse(await this.#writes.command("GET", this.#key("result", answer.id)));
    if (answer.status === "error") asked.reject(new ScorelineError(answer.error.code, answer.error.message, answer.error));
    else asked.resolve(answer);
  }
}

function predictionsOf(answer) {
  const { status, error, model, version, values = [], classes, outputs, errors = {}, warnings = {} } = answer;
  if (status === "error") throw new ScorelineError(error.code, error.message, error);
  const named = (labels, shares) => Object.fromEntries(labels.map((label, at) => [label, shares[at]]));
  return values.map((value, place) => {
    const shares = answer.probabilities?.[place];
    let probabilities = {};
    if (shares && classes) probabilities = named(classes, shares);
    else if (shares && outputs) {
      let at = 0; // those of the first output's classes, then those of the second's
      for (const output of outputs) {
        const labels = output.classes ?? [];
        probabilities[output.name] = named(labels, shares.slice(at, (at += labels.length)));
      }
    }
    return { model, version, value, probabilities, error: errors[place] ?? null, warnings: warnings[place] ?? [] };
  });
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  const [url, model, text] = process.argv.slice(2);
  const client = await Scoreline.open(url);
  try {
    const given = JSON.parse(text);
    const records = Array.isArray(given) ? given : [given];
    console.log(JSON.stringify(await client.predictMany(model, records)));
  } finally {
    await client.close();
  }
}
