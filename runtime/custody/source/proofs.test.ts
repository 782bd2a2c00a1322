/** Proofs of receipts in a running outbox: where they lie, and that none is lost or left. */
import { expect, test } from "bun:test";
import { formatHex } from "../../kernel/ids.ts";
import { RECEIPT_HASH_BYTES, receiptHash, RECEIPTS_MAX, receiptSigningBytes } from "../../wire/message.ts";
import { parseProof, proofOf, shownProof } from "./proofs.ts";
import { TestMesh, testSign, type TestNode } from "../testing.ts";

async function delivered(count: number, limits = {}): Promise<{ mesh: TestMesh; a: TestNode; b: TestNode }> {
  const mesh = new TestMesh();
  const [a, b] = (await mesh.line(["a", "b"], limits)) as [TestNode, TestNode];
  await Promise.all(Array.from({ length: count }, (_, i) => a.send(b.id, `message ${i}`)));
  await mesh.clock.advance(5_000);
  return { mesh, a, b };
}

const proofs = async (node: TestNode): Promise<string[]> =>
  (await node.settle(node.store!.load("proof"))).map(({ key }) => key);

const all = (node: TestNode) =>
  node.settle(node.custody!.outbox.page({ order: "oldest-first", limit: 1_000 }));

test("receipts that were signed together lie beside one proof, and each is proven after a restart", async () => {
  const { mesh, a, b } = await delivered(40);
  const names = await proofs(a);
  expect(names.length).toBeGreaterThan(0);
  expect(names.length).toBeLessThan(20);
  a.crash();
  await a.start();
  await mesh.clock.advance(1_000);
  const entries = await all(a);
  expect(entries.map(({ state }) => state)).toEqual(Array.from({ length: 40 }, () => "delivered"));
  for (const { receipt } of entries) {
    const { hashes, signature } = receipt!.proof!;
    expect(hashes.map(formatHex)).toContain(formatHex(receiptHash(receipt!.encoded)));
    const signed = receiptSigningBytes("test", b.id, a.id, hashes);
    expect(formatHex(testSign(b.id, signed))).toBe(formatHex(signature));
  }
  expect(await proofs(a)).toEqual(names);
});

test("a proof goes with the last message that refers to it", async () => {
  const { mesh, a, b } = await delivered(40, { historyMessagesMax: 30 });
  expect((await all(a)).length).toBe(30);
  const used = async () =>
    [...new Set((await all(a)).map(({ receipt }) => receipt?.proof?.name))].filter(Boolean).toSorted();
  expect(await proofs(a)).toEqual((await used()) as string[]);
  for (let i = 0; i < 30; i++) {
    await a.send(b.id, `later ${i}`);
    await mesh.clock.advance(1_000);
  }
  expect(await used()).toEqual([]);
  expect(await proofs(a)).toEqual([]);
});

test("a proof that nothing refers to is gone with the next start, and one that rotted costs no message", async () => {
  const { mesh, a } = await delivered(40);
  const [first, ...rest] = await proofs(a);
  const row = (await a.settle(a.store!.load("proof")))[1]!;
  const ids = (await all(a)).filter(({ receipt }) => receipt!.proof!.name === first);
  await a.settle(
    a.store!.commit([
      ...ids.map(({ id }) => ({ op: "delete", in: "outbox", key: id }) as const),
      { op: "put", in: "proof", key: row.key, meta: row.meta.slice(0, -4) },
    ]),
  );
  a.crash();
  await a.start();
  await mesh.clock.advance(1_000);
  expect((await all(a)).length).toBe(40 - ids.length);
  expect(a.store!.state.damage.map(({ key }) => key)).toEqual([row.key]);
  expect(await proofs(a)).toEqual(rest.filter((name) => name !== row.key));
  const unproven = (await all(a)).filter(({ receipt }) => receipt!.proof === undefined);
  expect(unproven.length).toBeGreaterThan(0);
  expect(unproven.every(({ state }) => state === "delivered")).toBe(true);
  expect(unproven.map(({ receipt }) => shownProof(receipt!))).toEqual(
    unproven.map(() => ({ proof: "lost", signature: undefined })),
  );
});

test("clients are told what shows a receipt, and get a signature where that does", () => {
  const proof = proofOf(new Uint8Array(64).fill(0x5b), [new Uint8Array(16)]);
  const shown = [
    { isSession: false, proof },
    { isSession: true, proof: undefined },
    { isSession: false, proof: undefined },
  ].map((receipt) => shownProof(receipt));
  expect(shown).toEqual([
    { proof: "signature", signature: "5b".repeat(64) },
    { proof: "session", signature: undefined },
    { proof: "lost", signature: undefined },
  ]);
});

test("what is longer than the receipts of one bundle, or no whole number of them, is no proof", () => {
  const written = (count: number, more = 0) =>
    Buffer.alloc(64 + count * RECEIPT_HASH_BYTES + more, 1).toString("base64url");
  expect(parseProof(written(RECEIPTS_MAX))?.hashes).toHaveLength(RECEIPTS_MAX);
  for (const none of [written(RECEIPTS_MAX + 1), written(0), written(1, 1), ""])
    expect(parseProof(none)).toBeUndefined();
});
