/** Randomness for the whole runtime: the operating system's, or a seed's for simulations. */
import { randomFillSync } from "node:crypto";
import type { Random } from "@godwit/sdk";

export type { Random };

export const systemRandom: Random = {
  bytes: (length) => randomFillSync(new Uint8Array(length)),
  float: () => randomFillSync(scratch)[0]! / 2 ** 32,
  below: (bound) => Math.floor(systemRandom.float() * bound),
};
const scratch = new Uint32Array(1);

/** A deterministic generator (sfc32, seeded through splitmix32). Not for keys that leave a test. */
export function seededRandom(seed: number): Random {
  let state = seed >>> 0;
  const splitmix = () => {
    state = (state + 0x9e3779b9) >>> 0;
    let z = state;
    z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
    return (z ^ (z >>> 15)) >>> 0;
  };
  let a = splitmix();
  let b = splitmix();
  let c = splitmix();
  let counter = 1;
  /** 32 bits as a signed number: those of the processor, which simulations draw by the million. */
  const next32 = () => {
    const t = (((a + b) | 0) + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (((c << 21) | (c >>> 11)) + t) | 0;
    return t;
  };
  const float = () => (next32() >>> 0) / 2 ** 32;
  for (let i = 0; i < 12; i++) next32();
  return {
    bytes(length) {
      const out = new Uint8Array(length);
      for (let i = 0; i < length; i++) out[i] = next32() & 255;
      return out;
    },
    float,
    below: (bound) => Math.floor(float() * bound),
  };
}
