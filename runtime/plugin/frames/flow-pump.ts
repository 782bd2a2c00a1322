/** The end of a flow where the real thing is: what arrives goes to it, what it says is sent as far as there is room. */
import { type Flows, type FlowSource, Incoming, Outgoing } from "./flow.ts";
import { DATA_BYTES_MAX, encodeU32, PluginFrame, wireErrorOf } from "./frames.ts";

/** Joins something real to the flow of that number until both are over. */
export function openPump(flows: Flows, id: number, source: FlowSource, kind: "stream" | "datagram"): void {
  const { port } = flows;
  const out = new Outgoing(flows, id);
  const into = new Incoming(flows, id);
  let isSourceClosed = false;
  let isEnding = false;
  let isOver = false;
  let isSourcePaused = false;
  let error: Error | undefined;
  let told = JSON.stringify(source.properties?.() ?? {});
  const tellChange = () => {
    if (source.properties === undefined) return;
    const now = source.properties();
    const text = JSON.stringify(now);
    if (text === told) return;
    told = text;
    port.sendParts(PluginFrame.change, id, now);
  };
  const finish = () => {
    if (isOver || !isSourceClosed || out.waitingBytes > 0) return;
    isOver = true;
    flows.delete(id);
    if (error === undefined) port.send(PluginFrame.closed, id);
    else port.sendParts(PluginFrame.closed, id, { error: wireErrorOf(error) });
  };
  const relieve = () => {
    if (isEnding && out.waitingBytes === 0) {
      isEnding = false;
      port.send(PluginFrame.end, id);
    }
    if (isSourcePaused && out.waitingBytes === 0) {
      isSourcePaused = false;
      source.pause(false);
    }
    finish();
  };
  flows.add(id, {
    onData(body) {
      into.arrive(body.length);
      if (!isSourceClosed && !source.write(body) && kind === "stream") into.hold(true);
      into.take(body.length);
    },
    onCredit(bytes) {
      out.addCredit(bytes);
      relieve();
    },
    onProven(count) {
      // Only of what was handed over last: a pipe takes it as said of that.
      if (kind === "stream" || count === sentOut) source.proven?.();
      tellChange();
    },
    onLeft() {},
    onClose(isReset) {
      out.drop();
      if (isReset && source.reset !== undefined) source.reset();
      else source.close();
      finish();
    },
    onClosed() {},
    onEnd: () => source.end?.(),
    onChange() {},
  });
  let sentOut = 0;
  source.open({
    data(bytes) {
      if (isOver) return;
      if (kind === "datagram") {
        tellChange();
        if (bytes.length <= DATA_BYTES_MAX && out.datagram(bytes)) sentOut++;
        return;
      }
      out.stream(bytes);
      if (out.waitingBytes > 0 && !isSourcePaused) {
        isSourcePaused = true;
        source.pause(true);
      }
    },
    end() {
      isEnding = true;
      relieve();
    },
    drain: () => into.hold(false),
    left() {
      if (isOver) return;
      tellChange();
      port.send(PluginFrame.left, id, encodeU32(1));
    },
    closed(reason) {
      isSourceClosed = true;
      error = reason;
      finish();
    },
  });
}
