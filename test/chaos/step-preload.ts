/**
 * Loaded in front of a node that runs from source: kills it with SIGKILL at the named step of the custody protocol, the
 * n-th time it gets there. Wraps the store, the peers and custody from outside, so that production code has no hooks.
 *
 *   commit:<what>:before|after   around a commit; `after` is durable, and nobody has been told
 *   send:<frame>:after           a frame of custody has left this process
 *   frame:<frame>:before         a frame of custody has arrived and nothing was done yet
 */
import { Custody } from "../../runtime/custody/custody.ts";
import { decodeEntry } from "../../runtime/custody/source/entry-row.ts";
import { Peer } from "../../runtime/peer/peer.ts";
import { SqliteStore } from "../../runtime/store/sqlite.ts";
import type { StoreOp } from "../../runtime/store/types.ts";
import { FrameType } from "../../runtime/wire/constants.ts";

const wanted = process.env["CHAOS_STEP"] ?? "";
let left = Number(process.env["CHAOS_STEP_COUNT"] ?? 1);

function reach(step: string): void {
  if (step !== wanted || --left > 0) return;
  process.kill(process.pid, "SIGKILL");
}

/** The first that applies names a commit. */
function nameOf(ops: readonly StoreOp[]): string {
  const has = (op: "put" | "delete", collection: string) =>
    ops.find((one) => one.op === op && one.in === collection);
  const outbox = has("put", "outbox");
  if (has("put", "inbox")) return "inbox";
  if (has("put", "transit")) return "transit";
  if (has("put", "chunk")) return "chunk";
  if (outbox?.op === "put")
    return `outbox-${decodeEntry(outbox.key, outbox.meta, () => undefined)?.state ?? "unknown"}`;
  if (has("delete", "transit")) return "release";
  return "other";
}

const frames: Readonly<Record<number, string>> = {
  [FrameType.bundle]: "bundle",
  [FrameType.custodyAck]: "ack",
  [FrameType.offer]: "offer",
  [FrameType.want]: "want",
  [FrameType.chunk]: "chunk",
};

const { commit } = SqliteStore.prototype;
SqliteStore.prototype.commit = async function (this: SqliteStore, ops) {
  const name = nameOf(ops);
  reach(`commit:${name}:before`);
  await commit.call(this, ops);
  reach(`commit:${name}:after`);
};

const { send } = Peer.prototype;
Peer.prototype.send = function (this: Peer, lane, frame) {
  const isSent = send.call(this, lane, frame);
  const name = frames[frame[0] ?? 0];
  if (name !== undefined && isSent) {
    this.best?.session.flush();
    reach(`send:${name}:after`);
  }
  return isSent;
};

const { onFrame } = Custody.prototype;
Custody.prototype.onFrame = function (this: Custody, from, type, frame) {
  const name = frames[type];
  if (name !== undefined) reach(`frame:${name}:before`);
  onFrame.call(this, from, type, frame);
};
