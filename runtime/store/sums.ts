/** Sums of what a row holds, made when it is written. They find rot, no forgery: whoever can write the file can write sums as well. */

/** Of a sum: what a JavaScript number holds without loss. */
const SUM_BITS = 52;

const sumOf = (content: string | Uint8Array): number =>
  Number(BigInt.asUintN(SUM_BITS, Bun.hash.xxHash3(content)));
/** With the key, so that two rows do not change places. */
export const metaSum = (key: string, meta: string): number => sumOf(`${key}\n${meta}`);
export const bodySum = (body: Uint8Array): number => sumOf(body);
