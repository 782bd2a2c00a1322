/** Streams as services get them: the SDK's face over the sessions of two nodes. */
import { expect, test } from "bun:test";
import type { IncomingMeshStream, MeshStream } from "@godwit/sdk";
import type { NodeId } from "../kernel/ids.ts";
import type { Names } from "../identity/names.ts";
import { createDirectory } from "../mesh/parts/directory.ts";
import type { Mesh } from "../mesh/mesh.ts";
import { createMeshBackend } from "./mesh-for-plugins.ts";
import { StreamNet, type End } from "../stream/testing.ts";

/** What a backend's streams need of a mesh: the sessions, and who a callsign is. */
function backendOf(end: End, callsigns: ReadonlyMap<string, NodeId>) {
  const names = {
    resolve: (name: string) => {
      const id = callsigns.get(name);
      return id === undefined ? { kind: "unknown" } : { kind: "node", id, source: "pinned" };
    },
  };
  const self = { id: end.id, callsign: undefined, location: undefined, network: "test", version: "0" };
  const directory = createDirectory(
    { ...self, self: end.id },
    {
      book: { isTrustedByOperator: () => false },
      names: names as unknown as Names,
      records: new Map() as never,
    },
  );
  const mesh = { streams: end.streams, custody: { directory } } as unknown as Mesh;
  return createMeshBackend(self, mesh, { on: () => () => {} });
}

function collect(stream: MeshStream) {
  const seen = { text: "", isEnded: false, isClosed: false };
  stream.open({
    data: (bytes) => (seen.text += Buffer.from(bytes).toString()),
    end: () => (seen.isEnded = true),
    drain() {},
    closed: () => (seen.isClosed = true),
  });
  return seen;
}

test("a stream to a callsign carries bytes and ends both ways; the far end sees who, what and the words with it", async () => {
  const net = new StreamNet(1);
  const [a, b] = [backendOf(net.a, new Map([["LON-B", net.b.id]])), backendOf(net.b, new Map())];
  let far: IncomingMeshStream | undefined;
  const stop = b.onStream("test:echo", (stream) => (far = stream));
  const opening = a.openStream("lon-b", "test:echo", { metadata: Buffer.from("hi") });
  await net.until(() => far !== undefined, 1_000);
  expect([far!.remote, far!.service, Buffer.from(far!.metadata).toString()]).toEqual([
    net.a.id,
    "test:echo",
    "hi",
  ]);
  far!.accept();
  const near = await net.settle(opening);
  const [atNear, atFar] = [collect(near), collect(far!)];
  near.write(Buffer.from("there"));
  near.end();
  far!.write(Buffer.from("back"));
  await net.until(() => atFar.isEnded && atNear.text === "back", 2_000);
  expect([atFar.text, atNear.isClosed]).toEqual(["there", false]);
  far!.end();
  await net.until(() => atNear.isClosed && atFar.isClosed, 2_000);
  stop();
  const late = net.settle(a.openStream("LON-B", "test:echo"));
  await expect(late).rejects.toMatchObject({ code: "GODWIT_STREAM_REFUSED" });
});

test("a plugin cannot take the name of a service of the node itself", async () => {
  const net = new StreamNet(2);
  const [a, b] = [backendOf(net.a, new Map()), backendOf(net.b, new Map())];
  const reached: string[] = [];
  net.b.streams.handle("forward", (stream) => {
    reached.push("the node's own");
    stream.reset();
  });
  b.onStream("forward", (stream) => {
    reached.push("the plugin's");
    stream.reset();
  });
  const opening = net.settle(a.openStream(net.b.id, "forward"));
  await expect(opening).rejects.toThrow();
  expect(reached).toEqual(["the plugin's"]);
});

test("names that mean nobody, or a place, are refused at once", async () => {
  const a = backendOf(new StreamNet(3).a, new Map());
  for (const to of ["LON-B", "LON"])
    await expect(a.openStream(to, "x")).rejects.toMatchObject({ code: "GODWIT_NAME_UNKNOWN" });
});

test("a station without a route of its own is reachable over the default route of an edge node, through its gateway", () => {
  const net = new StreamNet(1);
  const { id } = net.b;
  let hops = [{ neighbour: net.a.id, metric: 25 }];
  const mesh = {
    streams: net.a.streams,
    records: { all: [{ record: { id, callsign: "LON-B", isRevoked: false } }], get: () => undefined },
    names: { list: () => [] },
    router: { routes: () => [], nextHops: () => hops },
  } as unknown as Mesh;
  const self = { id: net.a.id, callsign: "LON-A", location: undefined, network: "test", version: "0" };
  const backend = createMeshBackend(self, mesh, { on: () => () => {} });
  const via = { id: net.a.id, callsign: "LON-A" };
  expect(backend.stations()).toEqual([{ id, callsign: "LON-B", isReachable: true, costMs: 2.5, via }]);
  hops = [];
  expect(backend.stations()).toMatchObject([{ id, isReachable: false, via: undefined }]);
});

test("a service is told how many hops of a message nobody noted, and 0 where each was", async () => {
  const entries = new Map<string, object>([
    ["whole", { id: "whole", trace: [] }],
    ["slow", { id: "slow", trace: [], hopsUntraced: 2 }],
  ]);
  const inbox = { get: async (id: string) => entries.get(id) };
  const mesh = { custody: { inbox }, records: new Map() } as unknown as Mesh;
  const self = { id: "a" as NodeId, callsign: undefined, location: undefined, network: "test", version: "0" };
  const backend = createMeshBackend(self, mesh, { on: () => () => {} });
  expect((await backend.inbox.get("whole"))!.hopsUntraced).toBe(0);
  expect((await backend.inbox.get("slow"))!.hopsUntraced).toBe(2);
});
