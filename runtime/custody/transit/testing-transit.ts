/** A relay whose way on is cut, with bundles for who is behind it. For tests only. */
import { sendNumbers, TestMesh, type TestNode } from "../testing.ts";

export const SECOND_MS = 1_000;
export const AWAKE_MAX = 256;

export const heldOf = ({ custody }: TestNode) => {
  const { transit, forwarder } = custody!;
  return { count: transit.count, awake: forwarder.count };
};

/** A relay whose way on is cut, with so many bundles for who is behind it. */
export async function full(count: number, limits = {}, more = {}) {
  const mesh = new TestMesh();
  const nodes = await mesh.line(["a", "b", "c"], { laneAwakeMax: AWAKE_MAX, ...limits });
  const [a, b, c] = nodes as [TestNode, TestNode, TestNode];
  mesh.cut(b, c);
  b.custody!.onRoute(c.id);
  const ids = await sendNumbers(a, c.id, count, more);
  await mesh.clock.advance(10 * SECOND_MS);
  return { mesh, a, b, c, ids };
}

export function open({ mesh, b, c }: { mesh: TestMesh; b: TestNode; c: TestNode }): void {
  mesh.connect(b, c);
  b.custody!.onRoute(c.id);
}
