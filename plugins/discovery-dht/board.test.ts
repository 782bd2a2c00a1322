import { expect, test } from "bun:test";
import { itemSalt, type PluginContext } from "@godwit/sdk";
import { FakeSelf, seededRandom } from "@godwit/sdk/testkit";
import { Board, placeOf } from "./board.ts";
import type { SignedItem } from "./client.ts";
import { idBytes, MeshKeys, PLUGIN } from "./keys.ts";
import { encodeRecord } from "./record.ts";

const random = seededRandom(5);
const keys = new MeshKeys(random.bytes(32));

async function itemOf(self: FakeSelf, seq: number, endpoint: string, under = keys): Promise<SignedItem> {
  const key = idBytes(self.id)!;
  const salt = itemSalt(PLUGIN, keys.label);
  const record = encodeRecord({ callsign: undefined, endpoints: [endpoint] });
  const value = under.seal(placeOf(key, salt), record, random);
  return { key, salt, seq, value, signature: await self.signItem({ label: keys.label, seq, value }) };
}

test("an older item, a forged one and one of no member change nothing; a place that two name is nobody's by name", async () => {
  const hints = new Map<string, string | undefined>();
  const board = new Board({
    counter: () => ({ add() {} }),
    discovery: {
      hint: ({ endpoint, nodeId }) => void hints.set(endpoint, nodeId),
      withdraw: (endpoint) => void hints.delete(endpoint),
    },
  } as Partial<PluginContext> as PluginContext);
  const [one, other] = [new FakeSelf({ plugin: PLUGIN }), new FakeSelf({ plugin: PLUGIN })];
  const newer = await itemOf(one, 5, "tcp://new:1");
  expect(board.judge(newer, keys)).toBe("new");
  expect(board.judge(await itemOf(one, 4, "tcp://old:1"), keys)).toBe("stale");
  expect(board.judge({ ...newer, seq: 6 }, keys)).toBe("forged");
  expect(board.judge({ ...newer, key: idBytes(other.id)! }, keys)).toBe("forged");
  expect(board.judge(await itemOf(one, 7, "tcp://x:1", new MeshKeys(random.bytes(32))), keys)).toBe(
    "unsealed",
  );
  expect([...hints]).toEqual([["tcp://new:1", one.id]]);
  expect(board.judge(await itemOf(other, 1, "tcp://new:1"), keys)).toBe("new");
  expect([...hints]).toEqual([["tcp://new:1", undefined]]);
  expect(board.judge(await itemOf(other, 2, "tcp://else:1"), keys)).toBe("known");
  expect(hints.get("tcp://new:1")).toBe(one.id);
});

test("one node has four hints, however many places it names", async () => {
  const hints: string[] = [];
  const board = new Board({
    counter: () => ({ add() {} }),
    discovery: { hint: ({ endpoint }) => void hints.push(endpoint), withdraw() {} },
  } as Partial<PluginContext> as PluginContext);
  const self = new FakeSelf({ plugin: PLUGIN });
  const key = idBytes(self.id)!;
  const salt = itemSalt(PLUGIN, keys.label);
  const endpoints = Array.from({ length: 20 }, (_, n) => `tcp://a:${n + 1}`);
  const value = keys.seal(placeOf(key, salt), encodeRecord({ callsign: undefined, endpoints }), random);
  const signature = await self.signItem({ label: keys.label, seq: 1, value });
  expect(board.judge({ key, salt, seq: 1, value, signature }, keys)).toBe("new");
  expect(hints).toEqual(endpoints.slice(0, 4));
});
