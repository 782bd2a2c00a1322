/** Mail for who is not there, of which the source keeps a part in memory. For tests only. */
import { sendNumbers, TestMesh, type TestNode } from "../testing.ts";

export const SECOND_MS = 1_000;
/** What the forwarder of a node holds at most for one lane. */
export const UNREACHABLE_MAX = 32;
export const AWAKE_MAX = 256;

export const get = (node: TestNode, id: string) => node.settle(node.custody!.outbox.get(id as never));

export async function pair(): Promise<{ mesh: TestMesh; a: TestNode; b: TestNode }> {
  const mesh = new TestMesh();
  const [a, b] = (await mesh.line(["a", "b"], { laneAwakeMax: AWAKE_MAX })) as [TestNode, TestNode];
  return { mesh, a, b };
}

/** A relay whose way on is cut. */
export async function withRelay() {
  const mesh = new TestMesh();
  const nodes = await mesh.line(["a", "b", "c"], { laneAwakeMax: AWAKE_MAX });
  const [a, b, c] = nodes as [TestNode, TestNode, TestNode];
  mesh.cut(b, c);
  return { mesh, a, b, c };
}

/** `b` cannot be reached any more, or again. */
export function setRoute(a: TestNode, b: TestNode, isThere: boolean): void {
  if (isThere) a.mesh.connect(a, b);
  else a.mesh.cut(a, b);
  a.custody!.onRoute(b.id);
}

export async function absent(count: number, more = {}) {
  const { mesh, a, b } = await pair();
  setRoute(a, b, false);
  const ids = await sendNumbers(a, b.id, count, more);
  return { mesh, a, b, ids };
}
