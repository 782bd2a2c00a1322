/** Mail that is sealed anew while something else happens to it: docs/protocol/sealing.md "A session that is not known". */
import { describe, expect, test } from "bun:test";
import type { MessageId } from "../kernel/ids.ts";
import { encodeBundleFrame } from "../wire/bundle.ts";
import type { Target } from "./source/entry.ts";
import { COMMIT_MS, numbers, stateOf, texts, type TestNode } from "./testing.ts";
import { SealingMesh, sessionUnknown } from "./testing-sessions.ts";

async function pair(): Promise<{ mesh: SealingMesh; a: TestNode; b: TestNode }> {
  const mesh = new SealingMesh();
  const [a, b] = (await mesh.sealingLine(["a", "b"])) as [TestNode, TestNode];
  b.known.add(a.id);
  await a.send(b.id, "proves it");
  await mesh.clock.advance(200);
  return { mesh, a, b };
}

/** `by` says that it does not know the session of that copy. */
function refuse(to: TestNode, by: TestNode, target: Target): void {
  const bundle = sessionUnknown(by, to, target);
  to.receive(by.id, encodeBundleFrame(bundle, { remainingMs: 60_000, hops: 1, trace: [] }));
}

describe("a session that ends", () => {
  test("while mail that waited for a name is being sealed in it loses none of that", async () => {
    for (let afterMs = 0; afterMs <= 2 * COMMIT_MS; afterMs++) {
      const { mesh, a, b } = await pair();
      mesh.cut(a, b);
      const ids = [await a.send(b.id, "names it")];
      for (const text of numbers(40)) ids.push(await a.send("late", text));
      await mesh.clock.advance(100);
      a.names.set("late", [b.id]);
      a.custody!.onDirectory();
      await mesh.clock.advance(afterMs);
      refuse(a, b, a.sent(ids[0]!)!.targets[0]!);
      await mesh.clock.advance(1_000);
      mesh.connect(a, b);
      await mesh.clock.advance(60_000);
      expect([afterMs, texts(b).sort()]).toEqual([afterMs, ["proves it", "names it", ...numbers(40)].sort()]);
      expect(ids.map((id) => stateOf(a, id))).toEqual(ids.map(() => "delivered"));
    }
  });

  test("while its mail is withdrawn leaves that withdrawn, over a restart as well", async () => {
    for (let afterMs = 0; afterMs <= 2 * COMMIT_MS; afterMs++)
      for (const [order, named] of [
        ["refused first", "other"],
        ["withdrawn first", "other"],
        ["refused first", "same"],
        ["withdrawn first", "same"],
      ] as const) {
        const { mesh, a, b } = await pair();
        mesh.cut(a, b);
        const one = await a.send(b.id, "names it");
        const two = await a.send(b.id, "is taken back");
        await mesh.clock.advance(100);
        const copy = a.sent(named === "same" ? two : one)!.targets[0]!;
        if (order === "refused first") refuse(a, b, copy);
        else void a.custody!.outbox.withdraw(two);
        await mesh.clock.advance(afterMs);
        if (order === "refused first") void a.custody!.outbox.withdraw(two);
        else refuse(a, b, copy);
        await mesh.clock.advance(15_000);
        expect([order, named, afterMs, stateOf(a, two)]).toEqual([order, named, afterMs, "withdrawn"]);
        await mesh.restart(a);
        mesh.connect(a, b);
        await mesh.clock.advance(60_000);
        expect([order, afterMs, stateOf(a, one), stateOf(a, two)]).toEqual([
          order,
          afterMs,
          "delivered",
          "withdrawn",
        ]);
        expect(texts(b)).toEqual(["proves it", "names it"]);
      }
  });
});

test("a withdrawal that the disk does not take, of mail whose session ends meanwhile, leaves it to be delivered", async () => {
  const { mesh, a, b } = await pair();
  mesh.cut(a, b);
  const id = await a.send(b.id, "stays");
  await mesh.clock.advance(100);
  a.disk.fail("full");
  const withdrawn = a.custody!.outbox.withdraw(id).then(
    () => "withdrawn",
    () => "failed",
  );
  refuse(a, b, a.sent(id)!.targets[0]!);
  await mesh.clock.advance(100);
  expect(await withdrawn).toBe("failed");
  a.disk.fail(undefined);
  mesh.connect(a, b);
  await mesh.clock.advance(60_000);
  expect([stateOf(a, id), texts(b)]).toEqual(["delivered", ["proves it", "stays"]]);
});

test("a resumed snapshot that draws what its other life drew writes to another prekey as well", async () => {
  const { mesh, a, b } = await pair();
  await mesh.restart(a, 5);
  await a.send(b.id, "one life");
  await mesh.clock.advance(200);
  mesh.of(b).rotate();
  await mesh.restart(a, 5);
  const ids: MessageId[] = [];
  for (const text of ["the other", "and on"]) {
    ids.push(await a.send(b.id, text));
    await mesh.clock.advance(2_000);
  }
  expect(texts(b)).toEqual(["proves it", "one life", "the other", "and on"]);
  expect(ids.map((id) => stateOf(a, id))).toEqual(["delivered", "delivered"]);
});
