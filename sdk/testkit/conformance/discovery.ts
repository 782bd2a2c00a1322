/** What Godwit expects of every discovery: hints in the registered form, kept alive and withdrawn once. */
import type { Hint } from "../../src/index.ts";
import type { TestHost } from "../context.ts";
import {
  type Check,
  demand,
  demandNothing,
  quiet,
  register,
  type Runner,
  stopHost,
  type Subject,
  until,
} from "./check.ts";
import { hostOf, lifecycleChecks, type PluginSetup, start, stepOf } from "./lifecycle.ts";

const LIFETIME_MS_MAX = 86_400_000;
const ENDPOINT = /^[a-z][a-z0-9+.-]*:\/\/[^\s#]+$/;
/** 32 bytes in lower-case base32: the last character carries one bit. */
const NODE_ID = /^[a-z2-7]{51}[aq]$/;

export interface DiscoverySetup extends PluginSetup {
  /** Endpoints it hints at within `withinMs` of its start. */
  readonly expected: readonly string[];
  /** Real time, ms; default 2,000. For those that have to ask others first, and again. */
  readonly withinMs?: number;
}

async function onHost(setup: DiscoverySetup, body: (host: TestHost) => Promise<void>): Promise<void> {
  const host = hostOf(setup);
  const step = stepOf(host, setup);
  try {
    await start(host, setup.config, step);
    await until(
      () => setup.expected.every((endpoint) => host.hintCalls.some((hint) => hint.endpoint === endpoint)),
      `hints at ${setup.expected.join(", ")}`,
      step,
      setup.withinMs,
    );
    await quiet(step);
    await body(host);
  } finally {
    await stopHost(host, step).catch(() => {});
  }
}

function flawOf({ endpoint, nodeId, permanent, lifetimeMs }: Hint): string | undefined {
  if (!ENDPOINT.test(endpoint)) return `"${endpoint}" is no endpoint (scheme://where)`;
  if (nodeId !== undefined && !NODE_ID.test(nodeId)) return `"${nodeId}" is no node id in lower case`;
  if (lifetimeMs === undefined) return undefined;
  if (!(lifetimeMs > 0 && lifetimeMs <= LIFETIME_MS_MAX)) return `${lifetimeMs} ms is no lifetime up to 24 h`;
  return permanent === true ? "a permanent hint has a lifetime" : undefined;
}

const checkForm = (setup: DiscoverySetup) =>
  onHost(setup, async (host) => {
    for (const hint of host.hintCalls) {
      const flaw = flawOf(hint);
      demand(flaw === undefined, `hint at ${hint.endpoint}: ${flaw}`);
    }
    demandNothing(host.violations, "while it ran");
  });

const checkExpected = (setup: DiscoverySetup) =>
  onHost(setup, async (host) => {
    for (const endpoint of setup.expected)
      demand(host.hints.has(endpoint), `the hint at ${endpoint} did not last`);
  });

const checkWithdrawal = (setup: DiscoverySetup) =>
  onHost(setup, async (host) => {
    const step = stepOf(host, setup);
    await stopHost(host, step);
    host.clock.advance(LIFETIME_MS_MAX);
    await quiet(step);
    demandNothing(host.violations, "after stop, where the host has withdrawn every hint");
  });

export const discoveryChecks: readonly Check<DiscoverySetup>[] = [
  { name: "hints have the registered form and bounds", run: checkForm },
  { name: "what it knows is hinted at, and stays", run: checkExpected },
  { name: "stop withdraws nothing twice, and nothing is hinted at later", run: checkWithdrawal },
  ...lifecycleChecks,
];

/** Registers the suite with bun:test, or with the runner given. */
export const discoveryConformance = (subject: Subject<DiscoverySetup>, runner?: Runner): void =>
  register("discovery conformance", discoveryChecks, subject, runner);
