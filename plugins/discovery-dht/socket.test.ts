/** What stands between strangers and the library: who is heard, how often, and whom this node asks on another's word. Real datagrams over loopback. */
import { afterEach, expect, test } from "bun:test";
import type { Clock } from "@godwit/sdk";
import { ManualClock, seededRandom } from "@godwit/sdk/testkit";
import { decodeBencode, encodeBencode } from "./bencode.ts";
import { compactOf, contactsOf } from "./krpc.ts";
import { GuardedSocket, type Outcome } from "./socket.ts";

const OWN = new Uint8Array(20).fill(1);
const THEIR = new Uint8Array(20).fill(2);
const cleanups: (() => void)[] = [];
afterEach(() => {
  for (const cleanup of cleanups.splice(0).reverse()) cleanup();
});
const until = async (isSo: () => boolean): Promise<void> => {
  while (!isSo()) await new Promise<void>((resolve) => setTimeout(resolve, 1));
};

async function guarded(refused: readonly string[] = []) {
  const clock: Clock & ManualClock = new ManualClock();
  const seen = { outcomes: [] as Outcome[], messages: [] as ReadonlyMap<string, unknown>[], strangers: 0 };
  const socket = new GuardedSocket({
    ...{ clock, random: seededRandom(1), ownId: OWN },
    refusal: (host) => (refused.includes(host) ? "not to be asked" : undefined),
    isKnown: () => false,
    onStranger: () => void seen.strangers++,
    judgePut: () => undefined,
    wasPut() {},
    counted: (outcome) => void seen.outcomes.push(outcome),
    carried() {},
  });
  cleanups.push(() => socket.close());
  socket.on(
    "message",
    (bytes: Buffer) => void seen.messages.push(decodeBencode(bytes) as ReadonlyMap<string, unknown>),
  );
  expect(await socket.listen([{ host: "127.0.0.1", port: 0, isIpv6Only: false }])).toBe("");
  const { port } = socket.ports[0]!;
  return { clock, socket, port, seen };
}
async function far(hostname = "127.0.0.1") {
  const got: Uint8Array[] = [];
  const socket = await Bun.udpSocket({
    hostname,
    port: 0,
    socket: { data: (_socket, bytes) => void got.push(new Uint8Array(bytes)) },
  });
  cleanups.push(() => socket.close());
  return {
    got,
    port: socket.port,
    say: (bytes: Uint8Array, to: number) => socket.send(bytes, to, "127.0.0.1"),
  };
}
const ping = encodeBencode({ t: Uint8Array.of(9), y: "q", q: "ping", a: { id: THEIR } });
/** Asks as the library does; resolves with the transaction that left. */
async function ask({ socket }: Awaited<ReturnType<typeof guarded>>, to: Awaited<ReturnType<typeof far>>) {
  const query = encodeBencode({ t: Uint8Array.of(7), y: "q", q: "find_node", a: { id: OWN, target: THEIR } });
  const before = to.got.length;
  socket.send(query, 0, query.length, to.port, "127.0.0.1", () => {});
  await until(() => to.got.length > before);
  return (decodeBencode(Buffer.from(to.got.at(-1)!)) as ReadonlyMap<string, Uint8Array>).get("t")!;
}
const answerOf = (t: Uint8Array, nodes: Uint8Array = new Uint8Array(0)) =>
  encodeBencode({ t, y: "r", r: { id: THEIR, nodes } });

test("only who was asked answers: the same words from another port are answers to nothing", async () => {
  const node = await guarded();
  const [asked, other] = [await far(), await far()];
  const t = await ask(node, asked);
  other.say(answerOf(t), node.port);
  await until(() => node.seen.outcomes.length === 1);
  expect([node.seen.outcomes, node.seen.messages]).toEqual([["unasked"], []]);
  asked.say(answerOf(t), node.port);
  await until(() => node.seen.outcomes.length === 2);
  expect([node.seen.outcomes[1], node.seen.messages.length]).toEqual(["taken", 1]);
  // Once.
  asked.say(answerOf(t), node.port);
  await until(() => node.seen.outcomes.length === 3);
  expect(node.seen.outcomes[2]).toBe("unasked");
});

test("an answer that comes too late is none", async () => {
  const node = await guarded();
  const asked = await far();
  const t = await ask(node, asked);
  await node.clock.advance(5_001);
  asked.say(answerOf(t), node.port);
  await until(() => node.seen.outcomes.length === 1);
  expect([node.seen.outcomes, node.seen.messages]).toEqual([["unasked"], []]);
});

test("what one source may cost is bounded", async () => {
  const node = await guarded();
  const one = await far();
  for (let n = 0; n < 300; n++) {
    one.say(ping, node.port);
    // The kernel's buffer is small.
    if (n % 50 === 49) await until(() => node.seen.outcomes.length === n + 1);
  }
  const counts = Object.groupBy(node.seen.outcomes, (outcome) => outcome);
  expect([counts.taken?.length, counts.limited?.length]).toEqual([150, 150]);
  await node.clock.advance(1_000);
  for (let n = 0; n < 40; n++) one.say(ping, node.port);
  await until(() => node.seen.outcomes.length === 340);
  expect(node.seen.outcomes.filter((outcome) => outcome === "taken").length).toBe(170);
});

test("what all strangers together may cost is bounded, and who was asked is heard all the same", async () => {
  const node = await guarded();
  for (let source = 0; source < 11; source++) {
    const one = await far(`127.0.1.${source + 1}`);
    for (let n = 0; n < 100; n += 50) {
      for (let i = 0; i < 50; i++) one.say(ping, node.port);
      await until(() => node.seen.outcomes.length === source * 100 + n + 50);
    }
  }
  expect(node.seen.outcomes.filter((outcome) => outcome === "taken").length).toBe(1_000);
  const asked = await far();
  asked.say(answerOf(await ask(node, asked)), node.port);
  await until(() => node.seen.outcomes.length === 1_101);
  expect(node.seen.outcomes.at(-1)).toBe("taken");
});

test("one answer names four nodes of one source, and none that is not to be asked", async () => {
  const node = await guarded(["192.0.2.66"]);
  const asked = await far();
  const t = await ask(node, asked);
  const contact = (host: string, port: number) => ({ id: new Uint8Array(20).fill(port), host, port });
  const named = [
    ...Array.from({ length: 10 }, (_, n) => contact("198.51.100.7", n + 1)),
    ...[contact("192.0.2.66", 20), contact("203.0.113.5", 21), contact("192.0.2.1", 22)],
  ];
  asked.say(answerOf(t, Uint8Array.from(compactOf(named))), node.port);
  await until(() => node.seen.messages.length === 1);
  const nodes = (node.seen.messages[0]!.get("r") as ReadonlyMap<string, Uint8Array>).get("nodes");
  expect(contactsOf(nodes, 4).map(({ host, port }) => `${host} ${port}`)).toEqual([
    ...["198.51.100.7 1", "198.51.100.7 2", "198.51.100.7 3", "198.51.100.7 4"],
    ...["203.0.113.5 21", "192.0.2.1 22"],
  ]);
});

test("whoever only asks is told as somebody of this node's own id, which gets into no table", async () => {
  const node = await guarded();
  const one = await far();
  one.say(ping, node.port);
  await until(() => node.seen.messages.length === 1);
  const given = node.seen.messages[0]!.get("a") as ReadonlyMap<string, Uint8Array>;
  expect([Buffer.from(given.get("id")!).equals(OWN), node.seen.strangers]).toEqual([true, 1]);
});
