/** Something that is opened while the node may stop: nobody waits for what does not heed that. */

/** Rejects as soon as `stop` aborts; what comes after that is closed. */
export async function orStopped<T extends { close(): void }>(
  opening: Promise<T>,
  stop: AbortSignal,
): Promise<T> {
  const stopped = Promise.withResolvers<never>();
  const onStop = () => {
    stopped.reject(stop.reason);
    opening.then(
      (late) => late.close(),
      () => {},
    );
  };
  if (stop.aborted) onStop();
  else stop.addEventListener("abort", onStop, { once: true });
  try {
    return await Promise.race([opening, stopped.promise]);
  } finally {
    stop.removeEventListener("abort", onStop);
  }
}
