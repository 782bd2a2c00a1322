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
