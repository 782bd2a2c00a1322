/** What the tests of the API share: origins of requests, one good request for each route, problem documents checked. */
import { expect } from "bun:test";
import type { Connection } from "./access.ts";
import { problem } from "./schemas.ts";
import { messageId1, nodeC, type Rig } from "./testing.ts";

export const socket: Connection = { authority: "socket", peer: undefined, hosts: new Set() };
export const loopback: Connection = { authority: "tcp", peer: "127.0.0.1", hosts: new Set(["192.0.2.7"]) };
export const remote: Connection = { authority: "tcp", peer: "198.51.100.9", hosts: new Set(["192.0.2.7"]) };

export const call = async (
  rig: Rig,
  method: string,
  path: string,
  init: RequestInit = {},
  connection = socket,
) => await rig.app.request(path, { method, ...init }, { connection });
export const json = (value: unknown): RequestInit => ({
  body: JSON.stringify(value),
  headers: { "content-type": "application/json" },
});
export const problemIn = async (response: Response) => {
  expect(response.headers.get("content-type")).toBe("application/problem+json");
  const body = problem.strict().parse(await response.json());
  expect(body.status).toBe(response.status);
  return body;
};

/** One good request for each route of the table. */
export const requests: Record<string, { path?: string; init?: RequestInit }> = {
  "get /health": {},
  "get /mesh/status": {},
  "get /mesh/members": {},
  "get /mesh/peers": {},
  "get /mesh/routes": {},
  "get /mesh/routes/{node}/why": { path: "/mesh/routes/NYC-C/why" },
  "get /mesh/names": {},
  "get /mesh/discovery": {},
  "post /mesh/invites": { init: json({ uses: 2 }) },
  "post /mesh/join": { init: json({ token: "godwit1test" }) },
  "get /metrics": {},
  "get /events": {},
  "get /openapi.json": {},
  "post /mesh/trace/{node}": { path: "/mesh/trace/NYC-C" },
  "post /mesh/peers/{id}/trust": {
    path: `/mesh/peers/${nodeC}/trust`,
    init: json({ level: "trusted", reason: "mine" }),
  },
  "post /plugins/{plugin}/requests": {
    path: "/plugins/wireguard/requests",
    init: json({ request: "show" }),
  },
  "post /reload": { init: { method: "POST" } },
  "post /mesh/names/{name}/resolve": { path: "/mesh/names/NYC-C/resolve", init: json({ node: nodeC }) },
  "get /mesh/revocations": {},
  "post /mesh/revocations": { init: json({ revocation: "godwit-revocation:aa" }) },
  "get /mesh/secrets": {},
  "post /mesh/secrets/rotate": {
    init: json({ generation: 1, secret_base64: "AAAAAAAAAAAAAAAAAAAAAA==" }),
  },
  "post /mesh/secrets/retire": {},
  "post /mesh/names/adopt": { init: json({ proof: "godwit-name:DUN-A" }) },
  "post /mesh/names/{name}/forget": { path: "/mesh/names/NYC-C/forget" },
  "post /messages": { init: json({ to: "DUN-A", body: "hi" }) },
  "get /messages": {},
  "get /messages/{id}": { path: `/messages/${messageId1}` },
  "delete /messages/{id}": { path: `/messages/${messageId1}` },
  "get /messages/{id}/body": { path: `/messages/${messageId1}/body` },
  "get /logs": {},
  "get /profile": { path: "/profile?seconds=0.05" },
  "get /forwards": {},
  "post /forwards": { init: json({ listen: "127.0.0.1:0", to: "DUN-A", target: "127.0.0.1:80" }) },
  "delete /forwards/{id}": { path: "/forwards/f0" },
  "get /mesh/plugins": {},
  "get /engines/{engine}/keys/{key}": { path: "/engines/e/keys/k" },
  "post /engines/{engine}/keys/{key}": { path: "/engines/e/keys/k", init: json({ value_base64: "aGk=" }) },
  "post /heal/{action}": { path: "/heal/restart-radio", init: json({ dry_run: true }) },
  "get /tokens": {},
  "post /tokens": { init: json({ scopes: ["send"], label: "bot" }) },
  "delete /tokens/{id}": { path: "/tokens/t1" },
};
