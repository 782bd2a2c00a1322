/**
 * Tests for plugins: fakes of what the host hands out, and conformance suites on the bare interfaces. Runs under Bun,
 * needs nothing of Godwit but the SDK, and is never part of a running node.
 */
export { ManualClock } from "./clock.ts";
export { dialOutcome, LOOPBACK_RESOLVED, LOOPBACK_SPELLINGS, RefusingTerms } from "./named.ts";
export { seededRandom } from "./random.ts";
export {
  configIssues,
  TestHost,
  type RecordedLog,
  type RecordedTask,
  type TestHostOptions,
} from "./context.ts";
export { FakeStorage } from "./storage.ts";
export { storageChecks, storageConformance, type StorageSetup } from "./conformance/storage.ts";
export { FakeMembers } from "./members.ts";
export { FakeMesh } from "./network.ts";
export { FakePages, type TestPage, type TestPageRequest } from "./pages.ts";
export { FakePeers } from "./peers.ts";
export { FakeSelf } from "./self.ts";
export { FakeServices } from "./services.ts";
export { FakeHostNetwork } from "./host-network.ts";
export { describeSocket, openSockets, timerLeaks, WatchedAbort } from "./leak.ts";
export {
  type Check,
  CheckFailure,
  type ClockStep,
  type Runner,
  runCheck,
  type Subject,
} from "./conformance/check.ts";
export { lifecycleChecks, type PluginSetup } from "./conformance/lifecycle.ts";
export { Observer, type TransportSetup } from "./conformance/bench.ts";
export { transportChecks, transportConformance, type TransportSubject } from "./conformance/transport.ts";
export { discoveryChecks, discoveryConformance, type DiscoverySetup } from "./conformance/discovery.ts";
export { serviceChecks, serviceConformance, type ServiceSetup } from "./conformance/service.ts";
export { pagesChecks, pagesConformance, type PagesSetup, type SamplePage } from "./conformance/pages.ts";
export {
  providerChecks,
  providerConformance,
  type ProviderSetup,
  type ServiceSample,
} from "./conformance/provider.ts";
export { radioChecks, radioConformance, type RadioSetup } from "./conformance/radio.ts";
export { FakeRadioDoor, type RadioPacket, type RadioSend } from "./radio-door.ts";
export { consumerChecks, consumerConformance, type ConsumerSetup } from "./conformance/consumer.ts";
export { engineChecks, engineConformance, type EngineSetup } from "./conformance/engine.ts";
export {
  healActionChecks,
  healActionConformance,
  type HealActionSetup,
  testBudget,
} from "./conformance/heal-action.ts";
export { FakeStreams } from "./engine-streams.ts";
export { FakeStream, fakeStreamPair } from "./streams.ts";
