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

const SILENT_MS = 15_000; // longer than any command here takes: a server that says nothing for so long is gone
const REPEATS = 5; // of what may arrive twice, with pauses of 1.5 seconds together
const sleep = (ms) => new Promise((wake) => setTimeout(wake, ms));

// A connection to Redis: RESP2 in some sixty lines. A command that finds it lost opens another one. What was on its way
// is rejected, as `lost`: nobody knows whether it arrived, so only who sent it knows whether to send it again.
class Connection {
  #url;
  #socket;
  #opened = null; // a promise of what sends a command
  #closed = false;

  constructor(url) {
    this.#url = new URL(url);
  }

  open() {
    return (this.#opened ??= this.#connect());
  }

  async command(...parts) {
    const send = await this.open();
    return send(...parts);
  }

  // A command that does no harm when it arrives twice.
  async repeat(...parts) {
    for (let attempt = 0; ; attempt++) {
      try {
        return await this.command(...parts);
      } catch (error) {
        if (!error.lost || this.#closed || attempt === REPEATS) throw error;
        await sleep(50 * 2 ** attempt);
      }
    }
  }

  close() {
    this.#closed = true;
    this.#socket?.destroy();
  }

  async #connect() {
    const { protocol, hostname, port, username, password, pathname } = this.#url;
    const lost = (why) => new ScorelineError("E_SERVER", `the connection to Redis ended: ${why}`, { lost: true });
    if (this.#closed) throw lost("closed");
    const connect = protocol === "rediss:" ? connectTls : connectTcp;
    const socket = connect({ host: hostname, port: Number(port || 6379), servername: hostname });
    const waiting = []; // for replies, which come in the order of the commands
    let bytes = Buffer.alloc(0);
    let why = "closed";
    socket.setNoDelay(true).setTimeout(SILENT_MS, () => socket.destroy());
    socket.on("error", (error) => (why = error.message));
    socket.on("close", () => {
      this.#opened = null;
      for (const { reject } of waiting) reject(lost(why));
    });
    socket.on("data", (data) => {
      bytes = Buffer.concat([bytes, data]);
      for (let parsed; (parsed = parse(bytes, 0)); ) {
        bytes = bytes.subarray(parsed.end);
        const { resolve, reject } = waiting.shift();
        if (parsed.value instanceof Error) reject(parsed.value);
        else resolve(parsed.value);
      }
    });
    const send = (...parts) => {
      const encoded = parts.map((part) => (Buffer.isBuffer(part) ? part : Buffer.from(String(part))));
      const lines = encoded.flatMap((part) => [Buffer.from(`$${part.length}\r\n`), part, Buffer.from("\r\n")]);
      return new Promise((resolve, reject) => {
        if (socket.destroyed) return reject(lost(why));
        waiting.push({ resolve, reject });
        socket.write(Buffer.concat([Buffer.from(`*${parts.length}\r\n`), ...lines]));
      });
    };
    this.#socket = socket;
    try {
      if (password) await send("AUTH", decodeURIComponent(username) || "default", decodeURIComponent(password));
      await send("SELECT", pathname.slice(1) || "0");
    } catch (error) {
      socket.destroy();
      throw error;
    }
    return send;
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
  #queue;
  #me = newId(); // names this client's reply list
  #writes;
  #reads;
  #pending = new Map(); // requests that wait for their answers, by id
  #closed = false;

  constructor(url, queue = "default") {
    this.#queue = queue;
    this.#writes = new Connection(url);
    this.#reads = new Connection(url);
  }

  static async open(url, queue) {
    const client = new Scoreline(url, queue);
    try {
      await Promise.all([client.#writes.open(), client.#reads.open()]);
    } catch (error) {
      await client.close();
      throw error;
    }
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
    const answer = await this.#stored(id);
    return answer && predictionsOf(answer);
  }

  // Nobody scores it any more, unless somebody has already: false. The user needs the right to SET results.
  // It is not repeated after a lost connection: a second `SET NX` does not say whose answer the first one is.
  async cancel(id) {
    const error = { code: "E_CANCELLED", message: `job ${id} was cancelled` };
    const answer = JSON.stringify({ wire: 1, id, status: "error", error });
    return (await this.#writes.command("SET", this.#key("result", id), answer, "NX", "PX", 3_600_000)) === "OK";
  }

  // The processes that answer requests, and the versions that they serve by `model@alias`.
  async status() {
    const names = await this.#writes.repeat("ZRANGE", this.#key("processes"), 0, -1);
    const keys = names.map((name) => this.#key("process", name));
    const stored = keys.length ? await this.#writes.repeat("MGET", ...keys) : [];
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
    this.#closed = true;
    this.#reads.close();
    this.#writes.close();
    this.#rejectAll(new ScorelineError("E_SERVER", "the client is closed"));
  }

  #key(...parts) {
    return ["scoreline:{" + this.#queue + "}", ...parts].join(":");
  }

  async #stored(id) {
    const stored = await this.#writes.repeat("GET", this.#key("result", id));
    return stored && JSON.parse(stored);
  }

  // Repeated with the same id where the connection is lost: whether the first XADD arrived or not, there is one answer.
  async #append(lane, fields) {
    const waiting = await this.#writes.repeat("XLEN", this.#key(lane));
    if (waiting >= LARGEST_LANE) throw new ScorelineError("QUEUE_FULL", `${waiting} requests wait; ask again later`);
    await this.#writes.repeat("XADD", this.#key(lane), "*", "wire", "1", ...Object.entries(fields).flat());
  }

  #ask(fields, timeoutMs) {
    const id = newId();
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.#lookUp(id, `no answer to request ${id} within ${timeoutMs} ms`), timeoutMs);
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
    let lost = false;
    while (!this.#closed) {
      try {
        // The server may have taken answers from the list for a connection that was lost then. They are stored, too.
        if (lost) await Promise.all([...this.#pending.keys()].map((id) => this.#lookUp(id)));
        lost = false;
        const popped = await this.#reads.command("BLPOP", this.#key("reply", this.#me), 5);
        if (!popped) continue;
        const answer = JSON.parse(popped[1]);
        // Over 64 KiB it is stored only.
        if (answer.stored) await this.#lookUp(answer.id, `the answer to request ${answer.id} is not stored any more`);
        else this.#settle(answer);
      } catch (error) {
        lost = true;
        // What is lost may be found, or else ends with its time; a right that is missing would be missed for ever.
        if (!error.lost) this.#rejectAll(error);
        await sleep(50);
      }
    }
  }

  // Settle a request by what is stored under its id; with nothing there it goes on waiting, or ends because of `missing`.
  async #lookUp(id, missing) {
    const asked = this.#pending.get(id);
    if (!asked) return;
    try {
      const answer = await this.#stored(id);
      if (answer) this.#settle(answer);
      else if (missing) asked.reject(new ScorelineError("NO_ANSWER", missing));
    } catch (error) {
      asked.reject(error);
    }
  }

  #settle(answer) {
    const asked = this.#pending.get(answer.id);
    if (answer.status === "error") asked?.reject(new ScorelineError(answer.error.code, answer.error.message, answer.error));
    else asked?.resolve(answer);
  }

  #rejectAll(error) {
    for (const { reject } of [...this.#pending.values()]) reject(error);
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
