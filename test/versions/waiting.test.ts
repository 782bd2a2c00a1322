/**
 * Mail that lies sealed in a store goes back with it: what is under way to a third node, and large bodies that the inbox keeps as they came. The
 * earlier release opens them by its own hand, and nobody who has them else runs meanwhile. What waits for the other machine of a location is sealed
 * in a session, which that release does not know: it is told, kept aside, and comes again from its sender.
 */
import { Database } from "bun:sqlite";
import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { buildGodwit } from "../../scripts/build.ts";
import { binaryPath, Lab, type LabNode } from "../../scripts/lab.ts";
import { lastOfSchemaTwo, previousRelease, type Release, releaseBinary } from "../../scripts/releases.ts";
import { throughKills } from "./killed.ts";

const DELIVERY_MS = 30_000;
/** In the row, in a place of its own, sealed in segments, and in more than one block. */
const SIZES = [40, 20_000, 100_000, 700_000] as const;
let lab: Lab;

beforeAll(async () => {
  if (!existsSync(binaryPath)) await buildGodwit(undefined, binaryPath);
  for (const release of [previousRelease, lastOfSchemaTwo]) await releaseBinary(release);
  lab = await Lab.create();
}, 480_000);

afterAll(async () => {
  await lab?.close();
});

const bodyOf = (what: string, bytes: number): string => `${what} ${bytes} `.padEnd(bytes, what);
const allOf = (...words: string[]): string[] =>
  words.flatMap((what) => SIZES.map((bytes) => bodyOf(what, bytes)));
const bodiesOf = async (node: LabNode): Promise<string[]> => {
  const bodies: string[] = [];
  for (const { id } of await node.box<{ id: string }>("inbox"))
    bodies.push(await (await node.api(`/messages/${id}/body`)).text());
  return bodies.sort();
};
const areAll = async (node: LabNode, ids: readonly string[], states: readonly string[]): Promise<boolean> => {
  for (const id of ids)
    if (!states.includes((await node.json<{ state: string }>(`/messages/${id}`)).state)) return false;
  return true;
};

/** Metas say whom a bundle is for in a form of their own; how many bytes lie there is told by the row. */
function transitSizes(stateDir: string): number[] {
  const db = new Database(join(stateDir, "godwit.db"), { readonly: true });
  try {
    return db.query("SELECT length(body) FROM transit ORDER BY length(body)").values().flat() as number[];
  } finally {
    db.close();
  }
}

const releases: readonly (readonly [string, Release])[] = [
  ["0.1", previousRelease],
  ["0.2", lastOfSchemaTwo],
];
for (const [to, release] of releases)
  test(`mail that waits for claims and large bodies are delivered and read by ${to}`, async () => {
    const old = await releaseBinary(release);
    const oldOptions = { command: [old], linksWanted: null } as const;
    const network = `w${to.replace(".", "")}`;
    const location = network.toUpperCase();
    const now = { network, command: [binaryPath], linksWanted: 0 } as const;
    const self = await lab.add({ callsign: `${location}-A`, ...now });
    const peers = [self.endpoint];
    const other = await lab.add({ callsign: `${location}-B`, peers, ...now });
    const beyond = await lab.add({ callsign: `${location}X-C`, peers, ...now });
    // So long that all of it lies there when the machines end; a claim that the other one cannot read is answered by nobody.
    const extra = '[delivery]\nfailover_delay = "10s"\n';
    const source = await lab.add({ callsign: `${location}Y-S`, peers, extra, ...now });
    const nodes = [self, other, beyond, source];
    await Promise.all(nodes.map((node) => node.start()));
    const sent: string[] = [];
    const send = async (whom: string, body: string): Promise<string> => {
      const id = await source.send({ to: whom, body });
      sent.push(id);
      return id;
    };
    // So that they are known, and mail is sealed to them while they are away.
    const first = [await send(other.callsign, "hello"), await send(beyond.callsign, "hello")];
    await source.until("ways", () => areAll(source, first, ["delivered"]), DELIVERY_MS);
    await other.kill("SIGKILL");
    beyond.signal("SIGSTOP");
    const received: string[] = [];
    for (const body of allOf("received")) received.push(await send(self.callsign, body));
    await source.until("receipts", () => areAll(source, received, ["delivered"]), DELIVERY_MS);
    const held: string[] = [];
    for (const body of allOf("claimed")) held.push(await send(location, body));
    for (const body of allOf("carried")) held.push(await send(beyond.callsign, body));
    await source.until("custody", () => areAll(source, held, ["relayed"]), DELIVERY_MS);
    for (const node of [beyond, source, self]) await node.kill("SIGKILL");

    const convert = [binaryPath, "store", "convert", "--to", to, "--config", self.configPath, "--json"];
    const { stdout } = await throughKills(convert, 0, { seed: 1, withinMs: 0 });
    const { noted, aside } = JSON.parse(stdout) as { noted: { in: string; why: string }[]; aside: number };
    expect([noted.length, aside]).toEqual([SIZES.length, SIZES.length]);
    for (const one of noted)
      expect([one.in, one.why.includes("its sender has it still")]).toEqual(["transit", true]);
    const sizes = transitSizes(self.stateDir);
    expect(sizes.length).toBeGreaterThanOrEqual(SIZES.length);
    expect(sizes.filter((bytes) => bytes > 700_000).length).toBe(1);

    await self.reconfigure(oldOptions);
    await self.start();
    expect(await bodiesOf(self)).toEqual(allOf("received").sort());
    await other.start();
    await beyond.start();
    await beyond.until(
      "what was carried",
      async () => (await bodiesOf(beyond)).length > SIZES.length,
      DELIVERY_MS,
    );
    await source.start();
    await source.until("receipts", () => areAll(source, sent, ["delivered"]), DELIVERY_MS);
    // One of the two machines has each.
    const atLocation = [...(await bodiesOf(self)), ...(await bodiesOf(other))].sort();
    expect(atLocation).toEqual([...allOf("received", "claimed"), "hello"].sort());
    expect(await bodiesOf(beyond)).toEqual([...allOf("carried"), "hello"].sort());
    expect(self.errorLines).toEqual([]);
  }, 120_000);
