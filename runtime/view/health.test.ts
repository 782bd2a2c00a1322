/** Which causes make a node degraded, which down, and which are only told. */
import { expect, test } from "bun:test";
import { healthOf, reasonOf, type Trouble } from "./health.ts";

type Plugins = Parameters<typeof healthOf>[0];
type State = Plugins[number]["health"]["state"];
const plugin = (namespace: "transport" | "discovery", state: State, name: string): Plugins[number] => ({
  instance: { namespace, name },
  health: { state, ...(state === "running" ? {} : { reason: `${name} is ${state}` }) },
  overlay: undefined,
  refusals: [],
});
const confirmed = { state: "confirmed", reason: "a neighbour says the same" } as const;
const of = (
  plugins: Plugins,
  troubles: readonly Trouble[] = [],
  clock: Parameters<typeof healthOf>[1] = confirmed,
) => healthOf(plugins, clock, troubles, "anybody");
const well = [plugin("transport", "running", "a"), plugin("transport", "running", "b")];

test("a node whose parts are well is ok", () => {
  expect(of(well).status).toBe("ok");
  expect(of([]).status).toBe("ok");
});

test("a plugin that is down or degraded makes it degraded, and says why", () => {
  for (const state of ["down", "degraded", "starting"] as const) {
    const { status, checks } = of([...well, plugin("discovery", state, "lan")]);
    expect(status).toBe("degraded");
    expect(checks).toContainEqual(
      expect.objectContaining({ name: "discovery.lan", reason: `lan is ${state}` }),
    );
  }
});

test("one transport of two that is down is degraded, all of them are down", () => {
  const down = plugin("transport", "down", "b");
  expect(of([well[0]!, down]).status).toBe("degraded");
  expect(of([down, plugin("transport", "down", "c"), plugin("discovery", "running", "d")]).status).toBe(
    "down",
  );
});

test("a clock that is in doubt is degraded, one that nobody confirms is not", () => {
  expect(of(well, [], { state: "doubted", reason: "it stands before 2026" }).status).toBe("degraded");
  expect(of(well, [], { state: "unconfirmed", reason: "nobody said anything" }).status).toBe("ok");
});

test("a trouble makes it degraded, a notice is told and does not", () => {
  const { status, checks } = of(well, [{ name: "names", reason: "claimed twice", isNotice: true }]);
  expect([status, checks.at(-1)]).toEqual(["ok", { name: "names", status: "ok", reason: "claimed twice" }]);
  expect(of(well, [{ name: "names", reason: "nobody holds it" }]).status).toBe("degraded");
});

test("what a plugin was refused is told beside how it is, once, and makes no node ill", () => {
  const why = "the plugin was not granted net.tcp";
  const running = { ...plugin("transport", "running", "a"), refusals: [why] };
  expect(of([running])).toMatchObject({ status: "ok", checks: [{ reason: `running; ${why}` }, {}] });
  const failed = {
    ...plugin("discovery", "down", "b"),
    health: { state: "down", reason: `task x: ${why}` } as const,
    refusals: [why],
  };
  expect(of([failed]).checks[0]!.reason).toBe(`task x: ${why}`);
  expect([running, failed, well[0]!].map(reasonOf)).toEqual([why, `task x: ${why}`, undefined]);
});

test("details are for the operator alone", () => {
  const troubles = [{ name: "mail", reason: "mail waits", detail: "mail to LON-B waits" }];
  const reasons = (["anybody", "operator"] as const).map(
    (forWhom) => healthOf(well, confirmed, troubles, forWhom).checks.at(-1)!.reason,
  );
  expect(reasons).toEqual(["mail waits", "mail to LON-B waits"]);
});

test("whoever asks without a token is not told which programs run on this machine", () => {
  const taken = { ...plugin("transport", "down", "a") };
  const reason =
    "port 80 of 0.0.0.0 is taken by PID 4711 (nginx): end that, or choose another port in listen";
  const plugins = [{ ...taken, health: { state: "down" as const, reason } }];
  const troubles = [{ name: "api", reason }];
  const reasons = (forWhom: "anybody" | "operator") =>
    healthOf(plugins, confirmed, troubles, forWhom).checks.map((check) => check.reason);
  expect(reasons("operator").filter((text) => text === reason)).toHaveLength(2);
  const short = "port 80 of 0.0.0.0 is taken: end that, or choose another port in listen";
  expect(reasons("anybody").filter((text) => text === short)).toHaveLength(2);
});
