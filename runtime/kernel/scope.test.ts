import { describe, expect, test } from "bun:test";
import { ManualClock, sleep } from "./clock.ts";
import { Scope } from "./scope.ts";

describe("close", () => {
  test("aborts, waits for every task, then disposes in reverse order", async () => {
    const scope = new Scope("s");
    const log: string[] = [];
    const slow = Promise.withResolvers<void>();
    scope.own(() => void log.push("first"));
    scope.own(async () => {
      await Promise.resolve();
      log.push("second");
    });
    scope.spawn("slow", async (signal) => {
      signal.addEventListener("abort", () => log.push("aborted"));
      await slow.promise;
      log.push("task ended");
    });
    const closing = scope.close();
    expect(scope.close()).toBe(closing);
    expect(log).toEqual(["aborted"]);
    slow.resolve();
    await closing;
    expect(log).toEqual(["aborted", "task ended", "second", "first"]);
  });

  test("from an abort listener disposes everything once", async () => {
    const scope = new Scope("s");
    const log: string[] = [];
    for (const name of ["a", "b", "c"])
      scope.own(async () => {
        await Promise.resolve();
        log.push(name);
      });
    scope.signal.addEventListener("abort", () => void scope.close());
    await scope.close();
    expect(log).toEqual(["c", "b", "a"]);
  });

  test("goes on after a disposer threw, and rejects with the first error", async () => {
    const scope = new Scope("s");
    const log: string[] = [];
    scope.own(() => void log.push("last"));
    scope.own(() => Promise.reject(new Error("later")));
    scope.own(() => {
      throw new Error("first");
    });
    expect(await scope.close().catch((error: Error) => error.message)).toBe("first");
    expect(log).toEqual(["last"]);
  });

  test("a task that spawns while it ends is refused, what is owned then goes at once", async () => {
    const scope = new Scope("s");
    const log: string[] = [];
    scope.spawn("t", async (signal) => {
      await sleep(new ManualClock(), 1e9, signal).catch(() => {});
      scope.spawn("late", async () => void log.push("late task"));
      scope.own(() => void log.push("late dispose"));
      scope.own(() => {
        throw new Error("nobody hears this");
      });
    });
    await scope.close();
    expect(log).toEqual(["late dispose"]);
  });
});

describe("failure", () => {
  test("of a task closes the scope with its error", async () => {
    const scope = new Scope("s");
    let isDisposed = false;
    scope.own(() => void (isDisposed = true));
    const wrong = new Error("wrong");
    scope.spawn("t", () => Promise.reject(wrong));
    await Promise.resolve();
    expect(await scope.close().catch((error: unknown) => error)).toBe(wrong);
    expect([isDisposed, scope.signal.reason]).toEqual([true, wrong]);
  });

  test("goes to onFailure where there is one; an abort is none", async () => {
    const failures: string[] = [];
    const scope = new Scope("s", {
      onFailure: (error, task) => failures.push(`${task}: ${(error as Error).message}`),
    });
    scope.spawn("bad", () => Promise.reject(new Error("no")));
    scope.spawn("waits", (signal) => sleep(new ManualClock(), 5, signal));
    await Promise.resolve();
    await scope.close();
    expect(failures).toEqual(["bad: no"]);
  });
});

describe("timers of a scope", () => {
  test("fire and are cancelled as those of the clock beneath, and none fires after close", async () => {
    const beneath = new ManualClock();
    const scope = new Scope("s");
    const clock = scope.clock(beneath);
    const fired: string[] = [];
    clock.after(10, () => fired.push("due"));
    clock.after(20, () => fired.push("cancelled")).cancel();
    clock.after(30, () => fired.push("too late"));
    await beneath.advance(25);
    expect([clock.monotonicMs(), clock.wallMs()]).toEqual([beneath.monotonicMs(), beneath.wallMs()]);
    await scope.close();
    clock.after(1, () => fired.push("set after close")).cancel();
    clock.after(1, () => fired.push("set after close"));
    expect(beneath.nextAtMs()).toBeUndefined();
    await beneath.advance(100);
    expect(fired).toEqual(["due"]);
  });

  test("are gone before anything is disposed, and a listener of the abort sets none", async () => {
    const beneath = new ManualClock();
    const scope = new Scope("s");
    const clock = scope.clock(beneath);
    clock.after(10, () => {});
    scope.signal.addEventListener("abort", () => clock.after(5, () => {}));
    let left: number | undefined = 0;
    scope.own(() => void (left = beneath.nextAtMs()));
    await scope.close();
    expect(left).toBeUndefined();
  });
});

describe("children", () => {
  test("close in reverse, among what else is owned, each alive until its turn", async () => {
    const parent = new Scope("p");
    const log: string[] = [];
    const first = parent.child("first");
    first.own(() => void log.push(`first: second is ${second.isClosed ? "closed" : "open"}`));
    parent.own(() => void log.push(`between: first is ${first.isClosed ? "closed" : "open"}`));
    const second = parent.child("second");
    second.spawn("waits", async (signal) => {
      await sleep(new ManualClock(), 1e9, signal).catch(() => {});
      log.push("task of second");
    });
    await parent.close();
    expect(second.name).toBe("p.second");
    expect(log).toEqual(["task of second", "between: first is open", "first: second is closed"]);
  });

  test("one that ended by itself is let go, and one of a closed scope is closed", async () => {
    const parent = new Scope("p");
    let ended = 0;
    for (let i = 0; i < 3; i++) {
      const child = parent.child("c");
      child.own(() => void ended++);
      await child.close();
    }
    const failing = parent.child("failing");
    failing.spawn("t", () => Promise.reject(new Error("its own affair")));
    await failing.close().catch(() => {});
    await parent.close();
    expect(ended).toBe(3);
    expect(parent.child("late").isClosed).toBe(true);
  });
});

test("a parent's abort closes the child, also when it came first", async () => {
  for (const isEarly of [true, false]) {
    const parent = new AbortController();
    if (isEarly) parent.abort();
    const scope = new Scope("child", { parent: parent.signal });
    const disposed = Promise.withResolvers<void>();
    scope.own(disposed.resolve);
    parent.abort();
    await disposed.promise;
    expect(scope.isClosed).toBe(true);
  }
});

test("await using closes", async () => {
  let isDisposed = false;
  {
    await using scope = new Scope("s");
    scope.own(() => void (isDisposed = true));
  }
  expect(isDisposed).toBe(true);
});
