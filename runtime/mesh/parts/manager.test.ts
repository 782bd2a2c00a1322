import { expect, test } from "bun:test";
import type { HostAddress } from "@godwit/sdk";
import { formatNodeId, type NodeId } from "../../kernel/ids.ts";
import { createDialable } from "./manager.ts";

type Given = Parameters<typeof createDialable>;

function world() {
  const state = { looks: 0, addresses: [] as readonly HostAddress[], isLocal: false };
  const idOf = (n: number): NodeId => {
    const bytes = new Uint8Array(32);
    new DataView(bytes.buffer).setUint32(0, n);
    return formatNodeId(bytes);
  };
  const all = Array.from({ length: 500 }, (_, n) => ({
    record: {
      id: idOf(n + 1),
      endpoints: ["tcp://10.0.0.1:1", "tcp://192.0.2.1:1", "udp://192.0.2.1:1", "tcp://127.0.0.1:1"],
    },
  }));
  const mesh = {
    records: { all },
    isRefused: () => false,
    router: { reachable: () => true },
    book: { trustOf: () => "member" },
    places: {
      allowedOf(endpoints: readonly string[]) {
        return endpoints.filter((endpoint) => this.refusalOfEndpoint(endpoint) === undefined);
      },
      refusalOfEndpoint(endpoint: string) {
        state.looks++;
        const isRefused =
          (endpoint.includes("//127.") && !state.isLocal) ||
          (endpoint.includes("//10.") && state.addresses.length === 0);
        return isRefused ? { reason: "private", why: "" } : undefined;
      },
    },
  } as unknown as Given[0];
  const deps = {
    identity: { id: idOf(0) },
    addresses: () => state.addresses,
    canDial: (endpoint: string) => endpoint.startsWith("tcp:"),
  } as unknown as Given[1];
  return { state, dialable: createDialable(mesh, deps) };
}

const first = (members: ReturnType<ReturnType<typeof createDialable>>) => [...members][0]!.endpoints;

test("thousands of members with many addresses are not judged address by address each time that links are sought", () => {
  const { state, dialable } = world();
  expect(first(dialable())).toEqual(["tcp://192.0.2.1:1"]);
  state.looks = 0;
  for (let times = 0; times < 10; times++) expect([...dialable()].length).toBe(500);
  // One of its own machine's addresses may be another thing by now.
  expect(state.looks).toBe(10 * 500);
});

test("what may be dialled follows the addresses of this machine, and who is on it", () => {
  const { state, dialable } = world();
  expect(first(dialable())).toEqual(["tcp://192.0.2.1:1"]);
  state.addresses = [{} as HostAddress];
  expect(first(dialable())).toEqual(["tcp://10.0.0.1:1", "tcp://192.0.2.1:1"]);
  state.isLocal = true;
  expect(first(dialable())).toEqual(["tcp://10.0.0.1:1", "tcp://192.0.2.1:1", "tcp://127.0.0.1:1"]);
  state.isLocal = false;
  expect(first(dialable())).toEqual(["tcp://10.0.0.1:1", "tcp://192.0.2.1:1"]);
});
