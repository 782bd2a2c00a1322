/** What joins a connection and the one who speaks on it: a person (console.ts) or a program (program.ts). */
import type { Clock, IncomingMessage, Mesh, SentMessage } from "@godwit/sdk";
import type { Item } from "./lines.ts";

/** A message that has just come. */
export interface Arrival {
  readonly message: IncomingMessage;
  /** The body where it is text and short enough to be shown at once. */
  readonly text: string | undefined;
}

/** The connection as a session sees it. */
export interface Line {
  print(text: string): void;
  /** More is waiting for the caller than he takes: nothing that can be left out should be printed. */
  readonly isBacklogged: boolean;
  /** Resolves when the backlog is gone or the connection is. */
  drained(): Promise<void>;
  /** The caller has begun a line and not ended it. */
  readonly isTyping: boolean;
  readonly isOpen: boolean;
  /** After what is printed has left. */
  hangUp(): void;
}

export interface Session {
  handle(item: Item): Promise<void>;
  onArrival(arrival: Arrival): void;
  onSent(message: SentMessage): void;
  /** In this session's own form. */
  farewell(reason: string): void;
}

/** What all sessions share. */
export interface SessionDeps {
  readonly mesh: Mesh;
  readonly clock: Clock;
  readonly line: Line;
  /** Bytes of a body. */
  readonly messageMax: number;
  /** Counts what became of a message that was handed in. */
  readonly count: (result: "accepted" | "refused") => void;
}

/** `DUN-A/DUN/abcdefghij`: who is there, as a teletype's answerback drum would say it. */
export const answerback = ({ self }: Mesh): string =>
  [self.callsign, self.location, self.id.slice(0, 10)].filter((part) => part !== undefined).join("/");

/** The code and words of whatever was thrown. */
export function faultOf(error: unknown): { readonly code: string; readonly message: string } {
  if (error instanceof Error && "code" in error && typeof error.code === "string")
    return { code: error.code, message: error.message };
  return { code: "GODWIT_BUG", message: error instanceof Error ? error.message : String(error) };
}
