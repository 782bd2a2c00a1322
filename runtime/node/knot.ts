/**
 * What is made late and asked for by what is made early: a mesh dials through the plugin host, the host hands pipes to the
 * mesh, and a closed mesh stands on both. Each field is set once, by the step that makes it; whoever reads it says what
 * holds while it is not there yet.
 */
import type { ApiServers } from "../api/server.ts";
import type { ClosedMesh } from "../closed/closed-mesh.ts";
import type { Mesh } from "../mesh/mesh.ts";
import type { PluginHost } from "../plugin/host/host.ts";

export interface Knot {
  mesh?: Mesh;
  host?: PluginHost;
  closed?: ClosedMesh;
  api?: ApiServers;
  forwards?: { readonly waiting: readonly string[] };
}
