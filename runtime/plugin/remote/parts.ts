/** What the node's sides of a plugin's doors share. */
import type { EngineContext, HealContext, ServiceContext } from "@godwit/sdk";
import type { Calls } from "../frames/calls.ts";
import type { Flows } from "../frames/flow.ts";
import type { FramePort } from "../frames/port.ts";

/** What the host hands to whatever runs there. */
export type RemoteContext = ServiceContext &
  EngineContext &
  HealContext & {
    /** It asked for something that was not granted. */
    refused(why: string): void;
  };

export interface RemoteParts {
  readonly ctx: RemoteContext;
  readonly port: FramePort;
  readonly flows: Flows;
  readonly calls: Calls;
}
