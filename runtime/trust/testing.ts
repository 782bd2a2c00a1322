/** A node that knows nobody: for tests of tables that ask. */
import { EARLIER_RUN, type Regard } from "../kernel/room.ts";

export const noRegard: Regard = { worthOf: () => "none", shareOf: () => EARLIER_RUN };
