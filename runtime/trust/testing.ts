/** A node that knows nobody: for tests of tables that ask. */
import { EARLIER_RUN } from "../kernel/room.ts";
import type { Regard } from "./acquaintances.ts";

export const noRegard: Regard = { worthOf: () => "none", shareOf: () => EARLIER_RUN };
