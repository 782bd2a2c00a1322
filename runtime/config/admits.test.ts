import { expect, test } from "bun:test";
import { formatNodeId } from "../kernel/ids.ts";
import { admitted } from "./admits.ts";

const id = formatNodeId(new Uint8Array(32).fill(7));
const none = {
  api: { listen: [{ host: "0.0.0.0", port: 8000 }], publicRead: false },
  forwardAllow: [],
  names: new Map(),
  trust: { trusted: [], rules: [] },
  authority: false,
};
const allow = (...from: string[]) => [{ from, targets: ["127.0.0.1:80"] }];

test("a rule says whom it admits: a pinned name and a promoted node are nobody", () => {
  const names = new Map([["LON-B", id]]);
  const lines = admitted({ ...none, names, forwardAllow: allow("DUN-A", "LON-B", id, "trusted") });
  expect(lines.length).toBe(4);
  expect(lines[0]).toContain("admits nobody before [names] binds it");
  expect(lines[1]).toContain(`admits node ${id}, by [names]`);
  expect(lines[2]).toContain("admits that node");
  expect(lines[3]).toContain("none that was promoted");
  expect(admitted({ ...none, authority: true, forwardAllow: allow("DUN-A") })[0]).toContain(
    "authority signed",
  );
});

test("an API that everybody may read is said with its addresses, where there are any", () => {
  const listen = [
    { host: "0.0.0.0", port: 8000 },
    { host: "::", port: 8001 },
  ];
  expect(admitted({ ...none, api: { listen, publicRead: true } })).toEqual([
    "api.public_read lets whoever reaches 0.0.0.0:8000 or [::]:8001 read /mesh and /metrics without a token",
  ]);
  expect(admitted({ ...none, api: { listen: [], publicRead: true } })).toEqual([]);
  expect(admitted(none)).toEqual([]);
});

test("rules about addresses give no rights, rules about names where they are bound", () => {
  const rule = { level: "trusted" as const, callsigns: [], transports: [], networks: ["10.0.0.0/8"] };
  const rules = [rule, { ...rule, callsigns: ["LON-*"] }, { ...rule, level: "blocked" as const }];
  const lines = admitted({ ...none, trust: { trusted: [], rules } });
  expect(lines.length).toBe(2);
  expect(lines[0]).toContain("gives no rights");
  expect(lines[1]).toContain("LON-*");
});
