/** What the parts of a guest's context share. */
import type { Scope } from "../../kernel/scope.ts";
import type { Calls } from "../frames/calls.ts";
import type { Flows } from "../frames/flow.ts";
import type { FramePort } from "../frames/port.ts";
import type { HostAddress, MeshSelf, PluginNamespace } from "@godwit/sdk";

export interface ContextParts {
  readonly configure: Configure;
  readonly port: FramePort;
  readonly flows: Flows;
  readonly calls: Calls;
  readonly scope: Scope;
  readonly folder: string | undefined;
}

export interface Configure {
  readonly protocol: number;
  readonly id: string;
  readonly namespace: PluginNamespace;
  readonly instance: string;
  readonly level: "contained" | "untrusted";
  readonly table: unknown;
  readonly addresses: readonly HostAddress[];
  readonly self?: MeshSelf;
}
