/** What signals of different lives do to one wait: pure listening, and nothing stays on a signal that outlives it. */

/** The promise, or the signal's reason as soon as it aborts. */
export function orAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise;
  return new Promise<T>((resolve, reject) => {
    const onAbort = () => reject(signal.reason as Error);
    if (signal.aborted) onAbort();
    else signal.addEventListener("abort", onAbort, { once: true });
    const off = () => signal.removeEventListener("abort", onAbort);
    promise.then(
      (value) => (off(), resolve(value)),
      (error: unknown) => (off(), reject(error as Error)),
    );
  });
}

/** Aborts `to` with the reason of the first that aborts. Answers how to listen no more: `AbortSignal.any` has no such way. */
export function forwardAborts(to: AbortController, ...from: readonly AbortSignal[]): () => void {
  const listeners = from.map((signal) => {
    const onAbort = () => to.abort(signal.reason);
    if (signal.aborted) onAbort();
    else signal.addEventListener("abort", onAbort, { once: true });
    return () => signal.removeEventListener("abort", onAbort);
  });
  return () => {
    for (const off of listeners) off();
  };
}
