/** Members and streams as engines get them: the SDK's face over the parts of a mesh. */
import { expect, test } from "bun:test";
import { Hub } from "../kernel/hub.ts";
import type { NodeId } from "../kernel/ids.ts";
import type { MemberRow } from "../membership/members.ts";
import type { MeshEvents } from "../mesh/events.ts";
import type { Mesh } from "../mesh/mesh.ts";
import { StreamNet } from "../stream/testing.ts";
import { createMembersBackend } from "./members-for-plugins.ts";
import { createStreamsBackend } from "./streams-for-plugins.ts";

const idOf = (letter: string) => letter.repeat(52) as NodeId;
const rowOf = (letter: string): MemberRow => ({
  id: idOf(letter),
  state: "suspect",
  incarnation: 3,
  sinceWallMs: 5,
  reason: "heard of",
  source: "self",
  heardWallMs: 0,
});

function setup(letters: readonly string[]) {
  const rows = new Map(letters.map((letter) => [idOf(letter), rowOf(letter)]));
  const refused = new Set<NodeId>();
  const hub = new Hub<MeshEvents>(() => {});
  const mesh = {
    members: { rows: () => rows.values(), row: (id: NodeId) => rows.get(id) },
    records: { get: (id: NodeId) => (id === idOf("b") ? { record: { callsign: "LON-B" } } : undefined) },
    isRefused: (id: NodeId) => refused.has(id),
  } as unknown as Mesh;
  return { hub, refused, backend: createMembersBackend(mesh, hub) };
}

test("members come in the order of their ids, a page at a time; whom this node refuses is none", () => {
  const { backend, refused } = setup(["d", "b", "c", "e"]);
  refused.add(idOf("c"));
  expect(backend.list(2, undefined).map(({ id }) => id)).toEqual([idOf("b"), idOf("d")]);
  expect(backend.list(2, idOf("c")).map(({ id }) => id)).toEqual([idOf("d"), idOf("e")]);
  expect(backend.get(idOf("b"))).toStrictEqual({
    id: idOf("b"),
    callsign: "LON-B",
    state: "suspect",
    incarnation: 3,
    sinceMs: 5,
  });
  expect([backend.get(idOf("c")), backend.get(idOf("z"))]).toEqual([undefined, undefined]);
});

test("whatever changes what is known of a member is told until nobody listens any more", () => {
  const { backend, hub } = setup(["b"]);
  const told: string[] = [];
  const end = backend.watch((id) => told.push(id[0]!));
  const tell = () => {
    hub.emit("memberChanged", { row: rowOf("b"), previous: undefined });
    hub.emit("memberForgotten", idOf("c"));
    hub.emit("trustChanged", { id: idOf("d"), grant: {} as MeshEvents["trustChanged"]["grant"] });
    hub.emit("revoked", { id: idOf("e") } as MeshEvents["revoked"]);
    hub.emit("recordChanged", idOf("f"));
  };
  tell();
  end();
  tell();
  expect(told.join("")).toBe("bcdef");
});

test("services and engines never meet, whatever names they choose", async () => {
  const net = new StreamNet(1);
  const [near, far] = [net.a, net.b].map(
    ({ streams }) => ({ streams, custody: { directory: { nodeOf: (id: string) => id } } }) as unknown as Mesh,
  );
  const heard: string[] = [];
  createStreamsBackend(far!, "plugin:").onStream("raft:log", (stream) => {
    heard.push(`service ${stream.service}`);
    stream.accept();
  });
  const asEngine = createStreamsBackend(near!, "engine:");
  for (const name of ["raft:log", "plugin:raft:log"])
    expect(
      await net.settle(asEngine.openStream(net.b.id, name).catch((error: unknown) => error)),
    ).toMatchObject({
      code: "GODWIT_STREAM_REFUSED",
    });
  createStreamsBackend(far!, "engine:").onStream("raft:log", (stream) => {
    heard.push(`engine ${stream.service}`);
    stream.accept();
  });
  const stream = await net.settle(asEngine.openStream(net.b.id, "raft:log"));
  expect([stream.service, ...heard]).toEqual(["raft:log", "engine raft:log"]);
});
