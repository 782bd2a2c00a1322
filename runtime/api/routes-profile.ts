/** Where the process spends its time and what its memory is full of: for who looks for a cause, not for monitoring. */
import { godwitError } from "../kernel/errors.ts";
import { goneOf } from "./access.ts";
import { defineRoute, jsonResponse, schemasOf, type Route } from "./route.ts";

const schemas = schemasOf(() => import("./schemas-profile.ts"));

export function profileRoutes(): Route[] {
  return [
    defineRoute({
      method: "get",
      path: "/profile",
      operation: "getProfile",
      summary:
        "Samples this process for `seconds` and answers where it spent its time, as a .cpuprofile, and what its heap holds, in counts. Over TCP only with `api.profile`.",
      access: { scope: "admin" },
      query: schemas.profileQuery,
      answers: [{ status: 200, description: "profile", schema: schemas.profile }],
      async handle({ parts, request, connection, query: { seconds } }) {
        // It slows the node down, and names of functions tell of its insides: whoever opens that says so in the configuration.
        if (connection.authority !== "socket" && !parts.profiler.isOverTcp)
          throw godwitError(
            "GODWIT_FORBIDDEN",
            "profiles are made through the control socket alone: godwit profile on the machine itself, or api.profile = true",
          );
        connection.holdOpen?.();
        const ended = AbortSignal.any([goneOf(request, connection), parts.signal]);
        return jsonResponse({ seconds, ...(await parts.profiler.take(seconds, ended)) });
      },
    }),
  ];
}
