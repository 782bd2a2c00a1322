/** Randomness as a plugin sees it: the operating system's in production, a seed's in a simulation. */
export interface Random {
  /** `length` fresh bytes, owned by the caller. Cryptographically strong in production. */
  bytes(length: number): Uint8Array;
  /** Uniform in [0, 1). */
  float(): number;
  /** Uniform integer in [0, bound), `bound` from 1 to 2^32. */
  below(bound: number): number;
}
