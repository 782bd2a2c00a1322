/** `ctx.members` over frames. */
import type { Member, MemberChange, Members } from "@godwit/sdk";
import { godwitError } from "../../kernel/errors.ts";
import type { ContextParts } from "./parts.ts";

/** JSON leaves out what is undefined, and `callsign` is always there. */
const memberOf = ({ callsign, ...rest }: Member): Member => ({ ...rest, callsign });

export function createMembers({ calls, scope }: ContextParts): Members {
  const handlers = new Map<number, Parameters<Members["onChange"]>[0]>();
  let next = 1;
  const now = (method: string, args: object): unknown => {
    if (scope.isClosed) throw godwitError("GODWIT_STOPPED", "the plugin has stopped");
    return calls.askNow(method, args);
  };
  calls.add("members.changed", async (args) => {
    const { handler, changes } = args as { handler: number; changes: readonly Partial<MemberChange>[] };
    await handlers.get(handler)?.(
      changes.map(({ id, member }) => ({
        id: id!,
        member: member === undefined ? undefined : memberOf(member),
      })),
    );
    return {};
  });
  return {
    get(id) {
      const member = now("members.get", { id }) as Member | null;
      return member === null ? undefined : memberOf(member);
    },
    list: (page = {}) => (now("members.list", page) as Member[]).map(memberOf),
    onChange(fn) {
      handlers.set(next, fn);
      now("members.onChange", { handler: next++ });
    },
  };
}
