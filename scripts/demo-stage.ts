/** What the stories of scripts/demo.ts have in common: where they speak, and a telex from sending it to its receipt. */
import type { Colours } from "../runtime/kernel/colours.ts";
import type { LabNode } from "./lab.ts";

export interface Stage {
  readonly say: (text: string) => void;
  readonly colours: Colours;
  /** Ctrl-C. */
  readonly stop: AbortSignal;
}

export interface Message {
  readonly id: string;
  readonly state: string;
  readonly reason: string | null;
  readonly receipt: { readonly by: string; readonly at: string; readonly signature: string } | null;
  readonly trace: readonly { readonly node: string; readonly at: string }[];
}

export interface TelexReport {
  readonly id: string;
  readonly from: string;
  readonly to: string;
  readonly state: string;
  readonly trace: readonly string[];
  readonly seconds: number;
}

export interface Telex {
  readonly id: string;
  readonly to: string;
  readonly atMs: number;
}

export const secondsSince = (fromMs: number): number => Math.round(performance.now() - fromMs) / 1000;

export async function sendTelex(from: LabNode, to: string, body: string): Promise<Telex> {
  const atMs = performance.now();
  return { id: await from.send({ to, body, subject: "TELEX" }), to, atMs };
}

export const idOf = async (node: LabNode): Promise<string> =>
  (await node.json<{ node: { id: string } }>("/mesh/status")).node.id;

/** Waits for the receipt. `callsigns` are told by id. */
export async function finishTelex(
  { say, colours, stop }: Stage,
  from: LabNode,
  sent: Telex,
  callsigns: ReadonlyMap<string, string>,
  timeoutMs: number,
): Promise<TelexReport> {
  let message: Message | undefined;
  await from.until(
    "the receipt",
    async () => {
      stop.throwIfAborted();
      message = await from.json<Message>(`/messages/${sent.id}`);
      return message.state === "delivered" && message.receipt !== null;
    },
    timeoutMs,
  );
  const seconds = secondsSince(sent.atMs);
  const trace = message!.trace.map(({ node }) => callsigns.get(node) ?? node);
  say(`  ${colours.good("delivered")} in ${seconds} s by ${trace.join(" > ")}`);
  const { by, signature } = message!.receipt!;
  say(`  receipt signed by ${callsigns.get(by)}: ${signature.slice(0, 32)}...`);
  return { id: sent.id, from: from.callsign, to: sent.to, state: message!.state, trace, seconds };
}
