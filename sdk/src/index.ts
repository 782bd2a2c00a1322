/**
 * The one door between Godwit and its plugins, built-in ones included. Types, one error class, `definePlugin` and what
 * every transport reads and writes of endpoints; no behaviour of the runtime lives here, so that a plugin's tests need nothing but this package.
 */
export { SDK_VERSION } from "./version.ts";
/** zod 4, the very copy that the node runs: a plugin that takes it from here carries none of its own. */
export { z } from "zod";
export type { Clock, Timer } from "./clock.ts";
export type { Random } from "./random.ts";
export type { Log, LogFields } from "./log.ts";
export { BoundedMap, BoundedSet, type Bound } from "./bounded.ts";
export { GodwitError, type ErrorKind, type RetryAdvice } from "./errors.ts";
export { STORAGE_LIMITS, type PluginStorage } from "./storage.ts";
export type { Pipe, PipeHandlers, LinkClass, PipeDirection } from "./pipe.ts";
export type { Medium, MediumHeard, Urgency } from "./medium.ts";
export {
  StreamCore,
  StreamPipe,
  type StreamCoreOptions,
  type StreamHandlers,
  type StreamMedium,
  type StreamPipeFacts,
  type StreamPipeOptions,
} from "./stream-pipe.ts";
export {
  advertisedHosts,
  formatEndpoint,
  isListen,
  isWildcard,
  parseHostPort,
  planListen,
  sourceGroup,
  type HostPort,
  type ListenAddress,
} from "./endpoint.ts";
export type { Overlay, OverlayPeer } from "./overlay.ts";
export { PEER_MESSAGE_BYTES_MAX, type PeerFacts, type Peers } from "./peers.ts";
export {
  isOpenPath,
  opensPath,
  PAGE_REQUEST_HEADERS,
  PAGE_RESPONSE_HEADERS,
  pageResponseFault,
  PAGES_LIMITS,
  type PageHandler,
  type PageRequest,
  type PageResponse,
  type PagesOptions,
  type PluginHttp,
} from "./pages.ts";
export {
  ITEM_LABEL_BYTES_MAX,
  ITEM_VALUE_BYTES_MAX,
  itemMessage,
  itemSalt,
  SELF_MESSAGE_BYTES_MAX,
  type Self,
  type SelfItem,
} from "./self.ts";
export { TokenBucket } from "./token-bucket.ts";
export type { AddressScope, HostAddress, HostNetwork } from "./network.ts";
export type { PluginSerial, SerialLine, SerialLineHandlers, SerialLineOptions } from "./serial-door.ts";
export type { NetDatagrams, NetListener, NetStream, NetStreamHandlers, PluginNet } from "./net.ts";
export type {
  DialTerms,
  Hint,
  TransportDriver,
  EngineContext,
  HealContext,
  PluginContext,
  ServiceContext,
  PluginHealth,
  MetricCounter,
  MetricGauge,
} from "./context.ts";
export type {
  IncomingMessage,
  Mesh,
  MeshHop,
  MeshInbox,
  MeshSelf,
  MeshStation,
  MessagePriority,
  OutgoingMessage,
  SentMessage,
  SentState,
} from "./mesh.ts";
export {
  ENGINE_LIMITS,
  type Engine,
  type EngineEntry,
  type EngineGuarantee,
  type EngineLease,
} from "./engine.ts";
export { ENGINE_STREAM_LIMITS, type EngineStreams } from "./engine-streams.ts";
export {
  MEMBERS_PAGE_MAX,
  type Member,
  type MemberChange,
  type Members,
  type MemberState,
} from "./members.ts";
export type { HealAction, HealBudget } from "./heal.ts";
export {
  SERVICE_LIMITS,
  type OfferedService,
  type ServiceCallOptions,
  type ServiceChannel,
  type ServiceChannelHandlers,
  type ServiceMessage,
  type ServiceRequest,
  type Services,
  type ServiceSending,
  type UsedService,
} from "./services.ts";
export type { IncomingMeshStream, MeshStream, MeshStreamHandlers, StreamOptions } from "./stream.ts";
export {
  definePlugin,
  type ContextOf,
  type Plugin,
  type PluginDefinition,
  type PluginNamespace,
  type StandardSchema,
} from "./plugin.ts";
export { endpointRefused, withinTerms } from "./terms.ts";
