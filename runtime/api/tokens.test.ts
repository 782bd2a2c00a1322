import { expect, test } from "bun:test";
import { ManualClock } from "../kernel/clock.ts";
import { godwitError } from "../kernel/errors.ts";
import { seededRandom } from "../kernel/random.ts";
import { emptyStore } from "../store/testing.ts";
import type { Store, StoreOp } from "../store/types.ts";
import { openTokenStore, TOKENS_MAX, type ConfiguredToken } from "./tokens.ts";

/** Just enough of a store: one collection in a map. */
function fakeStore() {
  const rows = new Map<string, string>();
  const state = { isFull: false };
  const store: Store = {
    ...emptyStore,
    load: async () => [...rows].map(([key, meta]) => ({ key, meta, bodyBytes: 0 })),
    async commit(ops: readonly StoreOp[]) {
      if (state.isFull) throw godwitError("GODWIT_STORE_FAILED", "disk full");
      for (const op of ops) {
        if (op.op === "put") rows.set(op.key, op.meta);
        else rows.delete(op.key);
      }
    },
  };
  return { rows, state, store };
}

const open = (store: Store, configured: ConfiguredToken[] = [], seed = 1) =>
  openTokenStore({ store, random: seededRandom(seed), clock: new ManualClock(), configured });
const bytes = (text: string) => new TextEncoder().encode(text);

test("a token opens its scopes, survives a restart, and is nowhere on disk", async () => {
  const { store, rows } = fakeStore();
  const tokens = await open(store);
  const { id, secret } = await tokens.create(["send", "read", "pages:board"], "bot");
  expect(secret).toMatch(/^gwt_[a-z2-7]{52}$/);
  const again = await open(store, [], 2);
  for (const one of [tokens, again]) {
    expect(one.scopesOf(secret)).toEqual(["send", "read", "pages:board"]);
    expect(one.scopesOf(`${secret}x`)).toBeUndefined();
    expect(one.scopesOf("")).toBeUndefined();
    expect(one.list()).toEqual([
      { id, label: "bot", scopes: ["send", "read", "pages:board"], created_at: "2023-11-14T22:13:20.000Z" },
    ]);
  }
  expect(JSON.stringify([...rows])).not.toContain(secret.slice(4, 20));
});

test("revoking shuts the door at once and for good, even before a full disk agrees", async () => {
  const { store, state } = fakeStore();
  const tokens = await open(store);
  const { id, secret } = await tokens.create(["read"], "a");
  const second = await tokens.create(["read"], "b");
  expect(await tokens.revoke(id)).toBe(true);
  expect(await tokens.revoke(id)).toBe(false);
  expect((await open(store)).scopesOf(secret)).toBeUndefined();
  state.isFull = true;
  await expect(tokens.revoke(second.id)).rejects.toThrow("disk full");
  expect(tokens.scopesOf(second.secret)).toBeUndefined();
  await expect(tokens.create(["read"], "c")).rejects.toThrow("disk full");
  expect(tokens.list()).toEqual([]);
});

test("configured tokens open, are listed, and are revoked in the configuration only", async () => {
  const { store, rows } = fakeStore();
  const tokens = await open(store, [{ secret: bytes("0123456789abcdef"), scopes: ["admin"], label: "ops" }]);
  expect(tokens.scopesOf("0123456789abcdef")).toEqual(["admin"]);
  expect(tokens.list()).toEqual([{ id: "config-0", label: "ops", scopes: ["admin"], created_at: null }]);
  await expect(tokens.revoke("config-0")).rejects.toThrow("api.tokens");
  expect(rows.size).toBe(0);
});

test("a configuration read anew ends what it does not list any more, or gives other rights, and nothing else", async () => {
  const { store } = fakeStore();
  const token = (secret: string, ...scopes: ConfiguredToken["scopes"]) => ({
    secret: bytes(secret),
    scopes,
    label: secret,
  });
  const [stays, narrows, goes] = ["stays-0123456789", "narrows-01234567", "goes-0123456789a"];
  const tokens = await open(store, [token(goes, "read"), token(narrows, "admin"), token(stays, "send")]);
  const made = await tokens.create(["read"], "made");
  const ended: string[] = [];
  for (const secret of [stays, narrows, goes, made.secret])
    tokens.watch(secret, () => ended.push(secret.split("-")[0]!));
  const over = tokens.watch(goes, () => ended.push("answered already"));
  over();
  tokens.configure([token(stays, "send"), token(narrows, "read")]);
  expect(ended.toSorted()).toEqual(["goes", "narrows"]);
  expect([stays, narrows, goes, made.secret].map((secret) => tokens.scopesOf(secret))).toEqual([
    ["send"],
    ["read"],
    undefined,
    ["read"],
  ]);
  expect(tokens.list().map(({ label }) => label)).toEqual(["made", stays, narrows]);
  expect(() => tokens.configure([token("short", "read")])).toThrow("has 5 bytes");
  expect(tokens.scopesOf(stays)).toEqual(["send"]);
  await tokens.revoke(made.id);
  expect(ended.at(-1)).toBe("gwt_" + made.secret.slice(4));
});

test.each([
  ["short", "has 5 bytes"],
  ["0123456789abcde\n0", "printable"],
  ["é".repeat(20), "printable"],
])("a configured secret %p is refused", async (secret, words) => {
  const { store } = fakeStore();
  await expect(open(store, [{ secret: bytes(secret), scopes: ["read"], label: "" }])).rejects.toThrow(words);
});

test("damaged rows are skipped, unknown scopes grant nothing, and the number is bounded", async () => {
  const { store, rows } = fakeStore();
  rows
    .set("a", "nonsense")
    .set("b", "null")
    .set("c", "{}")
    .set("d", '{"hash":"zz","scopes":[],"created_at":""}');
  const hash = new Bun.CryptoHasher("sha256").update("future").digest("hex");
  const meta = {
    hash,
    scopes: ["read", "teleport"],
    label: "l",
    created_at: "2030-01-01T00:00:00.000Z",
    new: 1,
  };
  rows.set("e", JSON.stringify(meta));
  const tokens = await open(store);
  expect(tokens.list().map(({ id }) => id)).toEqual(["e"]);
  expect(tokens.scopesOf("future")).toEqual(["read"]);
  for (let n = 1; n < TOKENS_MAX; n++) await tokens.create(["read"], "x");
  await expect(tokens.create(["read"], "x")).rejects.toThrow("revoke some");
});
