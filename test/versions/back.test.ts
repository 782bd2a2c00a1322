/**
 * A store of this build goes back to an earlier release, whose real binary goes on with it, and comes forward again: mail in every state is
 * there, is delivered once, its receipts and idempotency keys hold; what that release could not name alike waits aside and is delivered then.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { buildGodwit } from "../../scripts/build.ts";
import { binaryPath, Lab, type LabNode } from "../../scripts/lab.ts";
import { lastOfSchemaTwo, previousRelease, type Release, releaseBinary } from "../../scripts/releases.ts";
import { throughKills } from "./killed.ts";

const DELIVERY_MS = 30_000;
const LARGE = "x".repeat(100_000);
let lab: Lab;

beforeAll(async () => {
  if (!existsSync(binaryPath)) await buildGodwit(undefined, binaryPath);
  for (const release of [previousRelease, lastOfSchemaTwo]) await releaseBinary(release);
  lab = await Lab.create();
}, 480_000);

afterAll(async () => {
  await lab?.close();
});

interface Health {
  readonly status: string;
  readonly checks: { readonly status: string; readonly reason: string }[];
}

const stateOf = async (node: LabNode, id: string): Promise<string> =>
  (await node.json<{ state: string }>(`/messages/${id}`)).state;
const areDelivered = async (node: LabNode, ids: readonly string[]): Promise<boolean> => {
  for (const id of ids) if ((await stateOf(node, id)) !== "delivered") return false;
  return true;
};
const bodiesOf = async (node: LabNode): Promise<string[]> => {
  const bodies: string[] = [];
  for (const { id } of await node.box<{ id: string }>("inbox"))
    bodies.push(await (await node.api(`/messages/${id}/body`)).text());
  return bodies.sort();
};

const releases: readonly (readonly [string, Release])[] = [
  ["0.1", previousRelease],
  ["0.2", lastOfSchemaTwo],
];
for (const [to, release] of releases)
  test(`a store goes back to ${to} under kill -9, and comes forward again`, async () => {
    const old = await releaseBinary(release);
    const name = `B${to.replace(".", "")}`;
    const oldOptions = { command: [old], linksWanted: null } as const;
    const nowOptions = { command: [binaryPath], linksWanted: 0 } as const;
    const network = name.toLowerCase();
    const sender = await lab.add({ callsign: `${name}-A`, network, ...oldOptions });
    const peers = [sender.endpoint];
    const recipient = await lab.add({ callsign: `${name}-B`, network, peers, ...oldOptions });
    const newcomer = await lab.add({ callsign: `${name}-N`, network, peers, ...nowOptions });
    const sent = new Map<string, string>();
    const send = async (body: string, toName = `${name}-B`): Promise<string> => {
      const id = await sender.send({ to: toName, body, idempotency_key: body.slice(0, 40) });
      sent.set(body, id);
      return id;
    };

    // With the earlier release: delivered, received, and waiting under the name that its store gives.
    await Promise.all([sender.start(), recipient.start()]);
    const first = await send("delivered before");
    await recipient.send({ to: `${name}-A`, body: `received ${LARGE}` });
    await sender.until("its receipt", () => areDelivered(sender, [first]), DELIVERY_MS);
    await sender.until("its mail", async () => (await bodiesOf(sender)).length === 1, DELIVERY_MS);
    await recipient.kill("SIGTERM");
    const waiting = [await send("old 1"), await send(`old ${LARGE}`)];

    // With this one: sealed under its own names, sealed to nobody yet, and withdrawn.
    await sender.kill("SIGKILL");
    await sender.reconfigure(nowOptions);
    await sender.start();
    const aside = [await send("new 1"), await send(`new ${LARGE}`)];
    const unsealed = [
      await send("for the newcomer 1", `${name}-N`),
      await send("for the newcomer 2", `${name}-N`),
    ];
    const withdrawn = await send("withdrawn");
    expect((await sender.api(`/messages/${withdrawn}`, { method: "DELETE" })).ok).toBe(true);
    await sender.kill("SIGKILL");

    const convert = [binaryPath, "store", "convert", "--to", to, "--config", sender.configPath, "--json"];
    const startMs = performance.now();
    const dry = await throughKills([...convert, "--dry-run"], 0, { seed: 1, withinMs: 0 });
    // It takes about as long as the conversion: the moments at which that is killed lie within it.
    const withinMs = performance.now() - startMs;
    const noted = (JSON.parse(dry.stdout) as { noted: { key: string; aside: boolean }[] }).noted;
    expect(noted.filter((row) => row.aside).map(({ key }) => key)).toEqual([...aside].sort());
    const { stdout, kills } = await throughKills(convert, 12, { seed: Bun.hash.crc32(to), withinMs });
    expect(kills).toBeGreaterThan(0);
    const { aside_file: asideFile } = JSON.parse(stdout) as { aside_file: string | null };

    await sender.reconfigure(oldOptions);
    await sender.start();
    expect(await stateOf(sender, first)).toBe("delivered");
    expect(await stateOf(sender, withdrawn)).toBe("withdrawn");
    expect(await bodiesOf(sender)).toEqual([`received ${LARGE}`]);
    for (const [body, id] of sent) {
      const toName = body.startsWith("for") ? `${name}-N` : `${name}-B`;
      expect(await sender.send({ to: toName, body, idempotency_key: body.slice(0, 40) })).toBe(id);
    }
    await Promise.all([recipient.start(), newcomer.start()]);
    await sender.until("receipts", () => areDelivered(sender, [...waiting, ...unsealed]), DELIVERY_MS);
    const later = await send("later");
    await sender.until("its receipt", () => areDelivered(sender, [later]), DELIVERY_MS);

    await sender.kill("SIGKILL");
    const file = asideFile ?? asideOf(sender.stateDir);
    // Whoever forgets it is told.
    await sender.reconfigure(nowOptions);
    await sender.start();
    const { status, checks } = await sender.json<Health>("/health");
    expect([status, checks.find(({ reason }) => reason.includes("take-in"))?.status]).toEqual(["ok", "ok"]);
    await sender.kill("SIGTERM");
    const takeIn = [binaryPath, "store", "take-in", file, "--config", sender.configPath, "--json"];
    const taken = await throughKills(takeIn, 0, { seed: 3, withinMs: 0 });
    expect(JSON.parse(taken.stdout)).toEqual({ taken: 2, known: 0 });
    await sender.reconfigure(nowOptions);
    await sender.start();
    const all = [...sent.values()].filter((id) => id !== withdrawn);
    await sender.until("receipts of what was aside", () => areDelivered(sender, all), DELIVERY_MS);
    const bodies = [...sent.keys()].filter((body) => body !== "withdrawn");
    expect(await bodiesOf(recipient)).toEqual(bodies.filter((body) => !body.startsWith("for")).sort());
    expect(await bodiesOf(newcomer)).toEqual(bodies.filter((body) => body.startsWith("for")).sort());
    expect(sender.errorLines).toEqual([]);
  }, 120_000);

/** A run that was killed behind its last rename said nothing. */
function asideOf(stateDir: string): string {
  const names = [...new Bun.Glob("godwit.db.aside-*").scanSync({ cwd: stateDir })];
  expect(names.length).toBe(1);
  return `${stateDir}/${names[0]!}`;
}
