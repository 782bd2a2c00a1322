/** Streams as plugins get them: those of the mesh, under names that neither the node's own nor another kind of plugin can have. */
import type { IncomingMeshStream } from "@godwit/sdk";
import type { Mesh } from "../mesh/mesh.ts";
import type { StreamsBackend } from "../plugin/host/streams-door.ts";
import type { ByteStream } from "../stream/byte-stream.ts";

/** Each kind has its own, so that services and engines never meet. */
export function createStreamsBackend(mesh: Mesh, prefix: "plugin:" | "engine:"): StreamsBackend {
  const { custody, streams } = mesh;
  return {
    openStream: async (to, service, options = {}) =>
      meshStream(
        await streams.open(custody.directory.nodeOf(to), `${prefix}${service}`, options),
        prefix.length,
      ),
    onStream: (service, handler) =>
      streams.handle(`${prefix}${service}`, (stream) => handler(meshStream(stream, prefix.length))),
  };
}

const meshStream = (stream: ByteStream, prefixChars: number): IncomingMeshStream => ({
  remote: stream.remote,
  service: stream.service.slice(prefixChars),
  metadata: stream.metadata,
  accept: () => stream.accept(),
  open: (handlers) => stream.open(handlers),
  write: (bytes) => stream.write(bytes),
  end: () => stream.end(),
  pause: (paused) => stream.pause(paused),
  reset: () => stream.reset(),
});
