/** Plain WireGuard devices (phones, routers) that this node lets in: their names and public keys, kept in a file. */
import { GodwitError } from "@godwit/sdk";
import { formatIp } from "@godwit/sdk/netlink";
import { guestAddress } from "./addresses.ts";
import type { Guest } from "./plan.ts";
import { parseKey } from "./keys.ts";
import { loadDevices, saveDevices, type StoredDevices } from "./state.ts";

export const GUESTS_MAX = 64;
const NAME = /^[a-z0-9-]{1,32}$/;

const refused = (what: string) => new GodwitError("GODWIT_REQUEST_INVALID", what, { kind: "config" });

export class Guests {
  readonly #folder: string;
  readonly #network: string;
  readonly #self: string;
  #held: StoredDevices;

  private constructor(folder: string, network: string, self: string, held: StoredDevices) {
    this.#folder = folder;
    this.#network = network;
    this.#self = self;
    this.#held = held;
  }

  static async open(folder: string, network: string, self: string): Promise<Guests> {
    return new Guests(folder, network, self, await loadDevices(folder));
  }

  get list(): readonly Guest[] {
    return Object.entries(this.#held).map(([name, publicKey]) => ({
      name,
      publicKey,
      address: this.#addressOf(name),
    }));
  }

  /** A device of that name gets the new key. Rejects with GODWIT_REQUEST_INVALID, or when it cannot be kept. */
  async add(name: unknown, publicKey: unknown, taken: ReadonlySet<string>): Promise<Guest> {
    if (typeof name !== "string" || !NAME.test(name))
      throw refused("a device has a name of 1 to 32 letters, digits and hyphens");
    if (typeof publicKey !== "string" || parseKey(publicKey) === undefined)
      throw refused("a device has a public key of 44 characters");
    const address = this.#addressOf(name);
    const others = this.list.filter((guest) => guest.name !== name);
    if (taken.has(publicKey) || others.some((guest) => guest.publicKey === publicKey))
      throw refused("that public key is another's");
    if (others.some((guest) => guest.address === address))
      throw refused(`the address of ${name} is another device's: take another name`);
    if (others.length >= GUESTS_MAX) throw refused(`more than ${GUESTS_MAX} devices: remove one`);
    await this.#keep({ ...this.#held, [name]: publicKey });
    return { name, publicKey, address };
  }

  async remove(name: unknown): Promise<void> {
    if (typeof name !== "string" || !Object.hasOwn(this.#held, name))
      throw refused("no device has that name");
    const { [name]: _, ...rest } = this.#held;
    await this.#keep(rest);
  }

  async #keep(next: StoredDevices): Promise<void> {
    await saveDevices(this.#folder, next);
    this.#held = next;
  }

  #addressOf(name: string): string {
    return formatIp(guestAddress(this.#network, this.#self, name));
  }
}
