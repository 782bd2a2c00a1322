/** What a sandboxed process is told before it locks itself in: plain JSON, on its command line. */
import type { Permission } from "../permissions.ts";

export interface SandboxOrder {
  /** Absolute path of the plugin's own folder. */
  readonly folder: string;
  readonly granted: readonly Permission[];
  /** Names of protections that the operator does without where the kernel lacks them. */
  readonly acceptMissing: readonly string[];
  /** Who dies with whom. */
  readonly nodePid: number;
  /** Absolute path of the program to run instead of this one. */
  readonly exec?: string;
}
