/**
 * A store of an earlier release with mail in every state: opened here and killed at random moments until it is converted, converted back and
 * killed at random moments until that is through, and opened by the earlier release, which delivers what is open. Made by the real binaries:
 * what the earlier release can be brought to do stands in its rows by its own hand; many more of the inbox are copies of its rows.
 */
import { Database } from "bun:sqlite";
import { join } from "node:path";
import { seededRandom } from "../../runtime/kernel/random.ts";
import { binaryPath, type Lab, type LabNode } from "../../scripts/lab.ts";
import { throughKills } from "./killed.ts";

export interface WayBackOptions {
  readonly lab: Lab;
  /** Begins the names of its nodes. */
  readonly prefix: string;
  /** The earlier release, and what the converter calls it. */
  readonly old: string;
  readonly to: string;
  /** Messages in all, about. */
  readonly messages: number;
  /** Of the node while it converts forward, and of the conversion back. */
  readonly kills: number;
  readonly seed: number;
  readonly deliveryMs: number;
}

export interface WayBackReport {
  readonly messages: number;
  readonly killsForward: number;
  readonly killsBack: number;
  readonly lost: string[];
  readonly twice: string[];
}

const FIRST = "the first";
/** Sends at once. */
const SENDERS = 32;
/** Parts of all messages, in each state. */
const PARTS = {
  delivered: 0.1,
  queued: 0.35,
  unsealed: 0.1,
  withdrawn: 0.03,
  expired: 0.02,
  transit: 0.1,
  received: 0.1,
  planted: 0.2,
} as const;
type Kind = keyof typeof PARTS;

export async function wayBack(options: WayBackOptions): Promise<WayBackReport> {
  const { lab, prefix, old, to, kills, seed, deliveryMs } = options;
  const network = prefix.toLowerCase();
  // One sender may have half of it.
  const extra = "[delivery]\ninbox_messages_max = 200000\n";
  const oldOptions = { command: [old], linksWanted: null, extra } as const;
  const nowOptions = { command: [binaryPath], linksWanted: 0, extra } as const;
  const many = (kind: Kind): number => Math.max(2, Math.round(options.messages * PARTS[kind]));
  const self = await lab.add({ callsign: `${prefix}-A`, network, ...oldOptions });
  const peers = [self.endpoint];
  const far = await lab.add({ callsign: `${prefix}-B`, network, peers, ...nowOptions });
  const beyond = await lab.add({ callsign: `${prefix}-C`, network, peers, ...nowOptions });
  const newcomer = await lab.add({ callsign: `${prefix}-N`, network, peers, ...nowOptions });
  const ids = new Map<string, string>();
  const send = async (
    from: LabNode,
    callsign: string,
    kind: Kind,
    more: Record<string, unknown> = {},
  ): Promise<string[]> => {
    const sent: string[] = [];
    await inParallel(many(kind), async (index) => {
      const body = bodyOf(kind, index);
      const id = await from.send({ to: callsign, body, idempotency_key: `${kind} ${index}`, ...more });
      sent.push(id);
      if (from === self) ids.set(`${kind} ${index}`, id);
    });
    return sent;
  };

  await Promise.all([self, far, beyond].map((node) => node.start()));
  const delivered = await send(self, `${prefix}-B`, "delivered");
  await until(self, "receipts", delivered, "delivered", deliveryMs);
  const received = await send(far, `${prefix}-A`, "received");
  await until(far, "receipts", received, "delivered", deliveryMs);
  // So that the node beyond is known, and its mail is sealed and carried.
  const first = await far.send({ to: `${prefix}-C`, body: FIRST });
  await until(far, "a way to the node beyond", [first], "delivered", deliveryMs);
  // It hears nothing from now on, and until that shows mail goes as far as to its neighbour. The rest stays where it came from.
  beyond.signal("SIGSTOP");
  await send(far, `${prefix}-C`, "transit");
  const inTransit = async (): Promise<number> => (await self.box("transit")).length;
  await self.until("bundles", async () => (await inTransit()) >= many("transit") / 2, deliveryMs);
  await beyond.kill("SIGKILL");
  await far.kill("SIGTERM");
  await send(self, `${prefix}-B`, "queued");
  await send(self, `${prefix}-N`, "unsealed");
  const withdrawn = await send(self, `${prefix}-N`, "withdrawn");
  await inParallel(withdrawn.length, async (index) => {
    await self.api(`/messages/${withdrawn[index]}`, { method: "DELETE" });
  });
  const expired = await send(self, `${prefix}-N`, "expired", { ttl_seconds: 1 });
  await until(self, "the end of lives", expired, "expired", 20_000);
  await self.kill("SIGTERM");
  plant(join(self.stateDir, "godwit.db"), many("planted"));

  const killsForward = await openedUnderKills(self, nowOptions, kills, seed);
  const leftToConvert = async (): Promise<number> =>
    (await self.json<{ conversions: unknown[] }>("/mesh/status")).conversions.length;
  await self.until("the conversion", async () => (await leftToConvert()) === 0, deliveryMs);
  await self.kill("SIGKILL");
  expectConverted(join(self.stateDir, "godwit.db"));
  const command = [binaryPath, "store", "convert", "--to", to, "--config", self.configPath, "--json"];
  const startMs = performance.now();
  await throughKills([...command, "--dry-run"], 0, { seed, withinMs: 0 });
  // It takes less than the conversion: the moments at which that is killed lie within it.
  const back = await throughKills(command, kills, { seed, withinMs: performance.now() - startMs });

  await self.reconfigure(oldOptions);
  await self.start(60_000);
  const lost: string[] = [];
  const twice: string[] = [];
  for (const [key, id] of [...ids].filter((_, index) => index % 7 === 0)) {
    const kind = key.split(" ")[0] as Kind;
    const callsign = kind === "queued" || kind === "delivered" ? `${prefix}-B` : `${prefix}-N`;
    const more = kind === "expired" ? { ttl_seconds: 1 } : {};
    const again = await self.send({
      to: callsign,
      body: bodyOf(kind, Number(key.split(" ")[1])),
      idempotency_key: key,
      ...more,
    });
    if (again !== id) twice.push(`idempotency ${key}`);
  }
  for (const [kind, state] of [
    ["delivered", "delivered"],
    ["withdrawn", "withdrawn"],
    ["expired", "expired"],
  ] as const)
    for (let index = 0; index < many(kind); index++)
      if ((await self.json<{ state: string }>(`/messages/${ids.get(`${kind} ${index}`)}`)).state !== state)
        lost.push(`${kind} ${index}`);
  await Promise.all([far, beyond, newcomer].map((node) => node.start()));
  const open = [...ids].filter(([key]) => /^(queued|unsealed)/.test(key)).map(([, id]) => id);
  await until(self, "receipts of all that was open", open, "delivered", deliveryMs);
  await beyond.until(
    "what was in transit",
    async () => (await beyond.box("inbox")).length > many("transit"),
    deliveryMs,
  );
  const compare = async (node: LabNode, kinds: readonly Kind[]): Promise<void> => {
    const found = await bodiesOf(node);
    found.delete(FIRST);
    for (const kind of kinds)
      for (let index = 0; index < many(kind); index++) {
        const body = bodyOf(kind, index);
        const count = found.get(body) ?? 0;
        if (count === 0) lost.push(body.slice(0, 40));
        if (count > 1) twice.push(body.slice(0, 40));
        found.delete(body);
      }
    twice.push(...[...found.keys()].map((body) => `unknown ${body.slice(0, 40)}`));
  };
  await compare(self, ["received", "planted"]);
  await compare(far, ["delivered", "queued"]);
  await compare(beyond, ["transit"]);
  await compare(newcomer, ["unsealed"]);
  const messages = (Object.keys(PARTS) as Kind[]).reduce((total, kind) => total + many(kind), 0);
  return { messages, killsForward, killsBack: back.kills, lost, twice };
}

/** Now and then one that has a place of its own. */
const bodyOf = (kind: Kind, index: number): string =>
  index % 50 === 7 ? `${kind} ${index} ${"x".repeat(40_000)}` : `${kind} ${index}`;

/** Throws where a row has no sum yet. */
function expectConverted(path: string): void {
  const db = new Database(path);
  try {
    for (const name of ["inbox", "outbox", "transit", "setting", "idempotency", "seen"]) {
      const [left] = db.query(`SELECT count(*) FROM "${name}" WHERE meta_sum IS NULL`).values()[0]!;
      if (left !== 0) throw new Error(`${String(left)} rows of ${name} are in the form of before`);
    }
  } finally {
    db.close();
  }
}

/** Copies of what the release itself wrote, under other ids. */
function plant(path: string, count: number): void {
  const db = new Database(path);
  const [key, meta] = db.query("SELECT key, meta FROM inbox LIMIT 1").values()[0] as [string, string];
  const put = db.prepare("INSERT INTO inbox (key, meta, body) VALUES (?, ?, ?)");
  db.transaction(() => {
    for (let index = 0; index < count; index++) {
      const body = Buffer.from(bodyOf("planted", index));
      const id = (index + 1).toString(16).padStart(key.length, "0");
      put.run(id, JSON.stringify({ ...JSON.parse(meta), id, size: body.length }), body);
    }
  })();
  put.finalize();
  db.close();
}

/** Started and killed at random moments, the first ones within the start itself; running at the end. */
async function openedUnderKills(
  node: LabNode,
  options: { readonly command: readonly string[]; readonly linksWanted: number },
  kills: number,
  seed: number,
): Promise<number> {
  await node.reconfigure(options);
  const random = seededRandom(seed);
  for (let kill = 0; kill < kills; kill++) {
    const child = Bun.spawn([...options.command, "run", "--config", node.configPath], {
      stdout: "ignore",
      stderr: "ignore",
    });
    // From before the store is open to well into the conversion of its rows.
    await Bun.sleep(50 + random.float() * 2_500);
    child.kill("SIGKILL");
    await child.exited;
  }
  await node.start(60_000);
  return kills;
}

async function inParallel(count: number, work: (index: number) => Promise<void>): Promise<void> {
  let next = 0;
  await Promise.all(
    Array.from({ length: SENDERS }, async () => {
      while (next < count) await work(next++);
    }),
  );
}

/** Asks for those alone that were not there yet. */
async function until(
  node: LabNode,
  what: string,
  ids: readonly string[],
  state: string,
  timeoutMs: number,
): Promise<void> {
  let left = [...ids];
  await node.until(
    what,
    async () => {
      while (left.length > 0) {
        if ((await node.json<{ state: string }>(`/messages/${left.at(-1)}`)).state !== state) return false;
        left.pop();
      }
      return true;
    },
    timeoutMs,
  );
}

async function bodiesOf(node: LabNode): Promise<Map<string, number>> {
  const counts = new Map<string, number>();
  const entries = await node.box<{ id: string }>("inbox");
  await inParallel(entries.length, async (index) => {
    const body = await (await node.api(`/messages/${entries[index]!.id}/body`)).text();
    counts.set(body, (counts.get(body) ?? 0) + 1);
  });
  return counts;
}
