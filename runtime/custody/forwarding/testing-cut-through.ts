/** A source, a relay and a next hop, and what went between them. For tests only. */
import { decodeCustodyRefuse } from "../../wire/bundle.ts";
import { FrameType } from "../../wire/constants.ts";
import { TestMesh, type TestNode } from "../testing.ts";

export const MEGABYTE = 1_048_576;
/** No block is like another: one in the place of another is noticed. */
export const chunkBytes = (mesh: TestMesh, between: string) =>
  mesh.log
    .filter(({ type, from, to }) => type === FrameType.chunk && `${from}>${to}` === between)
    .reduce((total, { bytes }) => total + bytes.length, 0);
export const refusals = (mesh: TestMesh, between: string) =>
  mesh.log
    .filter(({ type, from, to }) => type === FrameType.custodyRefuse && `${from}>${to}` === between)
    .map(({ bytes }) => decodeCustodyRefuse(bytes).reason);
export const received = async (node: TestNode, index = 0): Promise<Uint8Array> =>
  node.settle(node.custody!.inbox.body(node.delivered[index]!.entry.id));

export async function line(limits = {}): Promise<{ mesh: TestMesh; a: TestNode; b: TestNode; c: TestNode }> {
  const mesh = new TestMesh();
  const [a, b, c] = (await mesh.line(["a", "b", "c"], limits)) as [TestNode, TestNode, TestNode];
  return { mesh, a, b, c };
}
