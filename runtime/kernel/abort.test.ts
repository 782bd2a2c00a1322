import { expect, test } from "bun:test";
import { forwardAborts, orAborted } from "./abort.ts";

/** A signal that counts who listens. */
class Counted {
  readonly controller = new AbortController();
  listening = 0;

  get signal(): AbortSignal {
    const { signal } = this.controller;
    const add = signal.addEventListener.bind(signal);
    const remove = signal.removeEventListener.bind(signal);
    const count =
      (
        by: number,
        call: (type: string, listener: EventListener, options?: AddEventListenerOptions) => void,
      ) =>
      (type: string, listener: EventListener, options?: AddEventListenerOptions) => {
        this.listening += by;
        call(type, listener, options);
      };
    return Object.assign(signal, { addEventListener: count(1, add), removeEventListener: count(-1, remove) });
  }
}
function counted() {
  const of = new Counted();
  return { controller: of.controller, signal: of.signal, listening: () => of.listening };
}

test("a wait ends with the promise or with the signal's reason, and leaves nothing on the signal", async () => {
  const { controller, signal, listening } = counted();
  expect(await orAborted(Promise.resolve(1), signal)).toBe(1);
  await expect(orAborted(Promise.reject(new Error("own")), signal)).rejects.toThrow("own");
  expect(listening()).toBe(0);
  const waiting = orAborted(new Promise(() => {}), signal);
  controller.abort(new Error("enough"));
  await expect(waiting).rejects.toThrow("enough");
  await expect(orAborted(new Promise(() => {}), signal)).rejects.toThrow("enough");
  expect(await orAborted(Promise.resolve(2), undefined)).toBe(2);
});

test("the first signal that aborts is passed on with its reason; after the end none is, and nobody listens", () => {
  const [one, two] = [counted(), counted()];
  const to = new AbortController();
  const end = forwardAborts(to, one.signal, two.signal);
  two.controller.abort("two");
  expect([to.signal.aborted, to.signal.reason]).toEqual([true, "two"]);
  const later = new AbortController();
  forwardAborts(later, one.signal)();
  end();
  expect(one.listening()).toBe(0);
  one.controller.abort("one");
  expect(later.signal.aborted).toBe(false);
});
