/** What Godwit expects of every heal action: it says first, does no more than it may, and is done when it is done. */
import { GodwitError, type HealAction, type HealBudget } from "../../src/index.ts";
import type { TestHost } from "../context.ts";
import { type Check, demand, isGodwitError, register, type Runner, settled, type Subject } from "./check.ts";
import { lifecycleChecks, onHost, type PluginSetup, succeeds } from "./lifecycle.ts";

export interface HealActionSetup extends PluginSetup {
  /** Name of the action that is tried. */
  readonly action: string;
  /** Brings about what it heals, on a started plugin. */
  trouble(host: TestHost): void | Promise<void>;
  /** Whether the trouble is gone. */
  isHealed(host: TestHost): boolean | Promise<boolean>;
}

const STEPS = 1_000;
const never = new AbortController().signal;

/** The budget that the host gives, and how much of it was used. */
export function testBudget(steps: number): HealBudget & { readonly spent: number } {
  let spent = 0;
  return {
    get spent() {
      return spent;
    },
    get stepsLeft() {
      return steps - spent;
    },
    spend() {
      if (spent >= steps)
        throw new GodwitError("GODWIT_HEAL_BUDGET", "all steps are used up", { kind: "capacity" });
      spent++;
    },
  };
}

const onAction =
  (body: (action: HealAction, host: TestHost, setup: HealActionSetup, step: () => void) => Promise<void>) =>
  (setup: HealActionSetup): Promise<void> =>
    onHost(setup, async (host, step) => {
      const action = host.healActions.find(({ name }) => name === setup.action);
      demand(action !== undefined, `it registers no action "${setup.action}"`);
      await body(action, host, setup, step);
    });

const checkWords = onAction(async (action, host, setup, step) => {
  demand(/^[a-z][a-z0-9-]{0,63}$/.test(action.name), `"${action.name}" is no name`);
  demand(/^[^\n]{1,200}$/.test(action.summary), "its summary is not one line of at most 200 characters");
  await setup.trouble(host);
  for (const step1 of await succeeds(action.plan(never), "plan", step))
    demand(/^[^\n]{1,500}$/.test(step1), "a step is not one line of at most 500 characters");
});

const checkPlan = onAction(async (action, host, setup, step) => {
  demand(
    (await succeeds(action.plan(never), "plan", step)).length === 0,
    "without any trouble it plans something",
  );
  await setup.trouble(host);
  const [first, second] = [
    await succeeds(action.plan(never), "plan", step),
    await succeeds(action.plan(never), "plan", step),
  ];
  demand(first.length > 0, "there is trouble, and it plans nothing");
  demand(first.join("\n") === second.join("\n"), "a second plan is another: the first has changed something");
  demand(!(await setup.isHealed(host)), "plan heals; it must change nothing");
});

const checkRun = onAction(async (action, host, setup, step) => {
  await setup.trouble(host);
  const budget = testBudget(STEPS);
  const done = await succeeds(action.run(budget, never), "run", step);
  demand(await setup.isHealed(host), "it ran, and the trouble is still there");
  demand(done.length > 0, "it healed and does not say what it did");
  demand(budget.spent > 0, "it healed without spending a step of its budget");
  demand(
    (await succeeds(action.plan(never), "plan", step)).length === 0,
    "after it healed it still plans something",
  );
  const again = testBudget(STEPS);
  await succeeds(action.run(again, never), "a run with nothing to do", step);
  demand(again.spent === 0, "a run with nothing to do spends steps");
});

const checkBudget = onAction(async (action, host, setup, step) => {
  await setup.trouble(host);
  const end = await settled(
    action.run(testBudget(0), never),
    "a run without any budget comes to an end",
    step,
  );
  demand(!end.isFulfilled, "it ran with no step left");
  const code = isGodwitError(end.error) ? end.error.code : String(end.error);
  demand(
    code === "GODWIT_HEAL_BUDGET",
    `without any budget it rejects with ${code}, not with what spend() threw`,
  );
  demand(!(await setup.isHealed(host)), "it healed with no step left");
});

const checkAbort = onAction(async (action, host, setup, step) => {
  await setup.trouble(host);
  const controller = new AbortController();
  const reason = new Error("no longer wanted");
  controller.abort(reason);
  const end = await settled(action.run(testBudget(STEPS), controller.signal), "an aborted run", step);
  demand(!end.isFulfilled && end.error === reason, "an aborted run does not reject with the signal's reason");
  demand(!(await setup.isHealed(host)), "it healed although it was aborted before it began");
});

export const healActionChecks: readonly Check<HealActionSetup>[] = [
  { name: "its words are one line each", run: checkWords },
  { name: "plan says what would be done and changes nothing", run: checkPlan },
  { name: "run heals, says so, and then has nothing to do", run: checkRun },
  { name: "run stays within its budget", run: checkBudget },
  { name: "a run that was aborted does nothing", run: checkAbort },
  ...lifecycleChecks,
];

/** Registers the suite with bun:test, or with the runner given. */
export const healActionConformance = (subject: Subject<HealActionSetup>, runner?: Runner): void =>
  register("heal-action conformance", healActionChecks, subject, runner);
