/** `godwit invite`: one line, and its QR code, that lets another machine into this mesh. */
import type { InviteView } from "../../view/contract/node.ts";
import { godwitError } from "../../kernel/errors.ts";
import { type CommandModule, exitCodes } from "../command.ts";
import { durationOf } from "../duration.ts";
import { renderQr } from "../qr.ts";
import * as render from "../render.ts";

/** What a node makes an invitation for (runtime/api/schemas-join.ts). */
const DAYS_MAX = 30;

export const invite: CommandModule = {
  async run(context) {
    const ttlMs = durationOf(context, "ttl", { daysMax: DAYS_MAX });
    const uses = context.option("uses");
    if (uses !== undefined && !/^\d{1,3}$/.test(uses))
      throw godwitError("GODWIT_USAGE", "--uses is a number from 1 to 255");
    const callsign = context.option("callsign");
    const json = {
      ...(ttlMs === undefined ? {} : { ttl_seconds: Math.round(ttlMs / 1_000) }),
      ...(uses === undefined ? {} : { uses: Number(uses) }),
      ...(callsign === undefined ? {} : { callsign }),
    };
    const { io, isJson, isSet } = context;
    const answer = await (await context.client()).call<InviteView>("POST", "/mesh/invites", { json });
    const { token, note, expires_at: expiresAt, uses: allowed, addresses, network } = answer.value;
    if (isJson) {
      io.stdout(`${answer.text}\n`);
      return exitCodes.fine;
    }
    // The token alone goes to a pipe, so that TOKEN=$(godwit invite) is all it takes.
    if (isSet("qr-only") || (io.isStdoutTty && !isSet("no-qr"))) io.stdout(renderQr(token, isSet("light")));
    if (!isSet("qr-only")) io.stdout(`${token}\n`);
    const limits =
      expiresAt === null || allowed === null
        ? "the mesh is open: the token holds addresses only and does not expire"
        : `for ${render.counted(allowed, "node")}, it ends ${context.paint.moment(expiresAt)}; whoever holds it can join, treat it like a key`;
    io.stderr(
      `network ${render.safeLine(network)}, ${render.counted(addresses.length, "address", "addresses")}; ${limits}\n`,
    );
    if (note !== null) io.stderr(`${render.safeLine(note)}\n`);
    io.stderr("on the other machine: godwit join -, and then the line\n");
    return exitCodes.fine;
  },
};
