/** That the peer manager remembers what trials prove; the trials themselves are tested in trust/quarantine.test.ts. */
import { expect, test } from "bun:test";
import { ManualClock } from "../../kernel/clock.ts";
import { Hub } from "../../kernel/hub.ts";
import { formatNodeId } from "../../kernel/ids.ts";
import { silentLog } from "../../kernel/log.ts";
import { Metrics } from "../../kernel/metrics.ts";
import { Scope } from "../../kernel/scope.ts";
import type { MeshEvents } from "../events.ts";
import type { PartContext } from "../part.ts";
import { quarantinePart } from "./quarantine.ts";

test("what trials prove of a neighbour is the peer manager's to remember, for as long as the part lives", async () => {
  const [neighbour, destination] = [1, 2].map((n) => formatNodeId(new Uint8Array(32).fill(n)));
  const events = new Hub<MeshEvents>((_, error) => {
    throw error;
  });
  const reports: string[] = [];
  const scope = new Scope("quarantine");
  quarantinePart({
    mesh: {
      manager: { report: (id: string, what: string) => reports.push(`${id === neighbour} ${what}`) },
      custody: {},
      peers: { get: () => undefined },
    },
    deps: { clock: new ManualClock(), log: silentLog, metrics: new Metrics(), events },
    kept: {},
    scope,
  } as unknown as PartContext);
  const tell = () => {
    events.emit("lostDelivery", { neighbour: neighbour!, destination: destination! });
    events.emit("honestRoute", { neighbour: neighbour!, destination: destination! });
    events.emit("peerQuarantined", { neighbour: neighbour!, reason: "lost mail", forMs: 1 });
  };
  tell();
  expect(reports).toEqual(["true lost", "true delivered", "true lied"]);
  await scope.close();
  tell();
  expect(reports).toHaveLength(3);
});
