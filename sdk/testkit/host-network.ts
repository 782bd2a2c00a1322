import type { HostAddress, HostNetwork } from "../src/index.ts";

/** Addresses that a test sets. Loopback is there from the start. */
export class FakeHostNetwork implements HostNetwork {
  #addresses: readonly HostAddress[] = [loopback("127.0.0.1", 4), loopback("::1", 6)];
  readonly #listeners = new Set<() => void>();

  addresses(): readonly HostAddress[] {
    return this.#addresses;
  }

  /** Addresses that `ctx.network.refusal` refuses, with why. */
  readonly refused = new Map<string, string>();

  refusal(address: string): string | undefined {
    return this.refused.get(address);
  }

  onChange(fn: () => void): void {
    this.#listeners.add(fn);
  }

  get listenerCount(): number {
    return this.#listeners.size;
  }

  /** Replaces all addresses and tells who listens. */
  set(addresses: readonly HostAddress[]): void {
    this.#addresses = addresses;
    for (const listener of [...this.#listeners]) listener();
  }

  /** The plugin stopped: the host forgets its listeners. */
  stop(): void {
    this.#listeners.clear();
  }
}

const loopback = (address: string, family: 4 | 6): HostAddress => ({
  address,
  family,
  prefixLength: family === 4 ? 8 : 128,
  interface: "lo",
  scope: "host",
  isAdvertisable: false,
});
