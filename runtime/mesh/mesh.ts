/**
 * The mesh of one node without its doors: neighbours, routes, packets, custody, records and names, wired together.
 * Sessions come in through `adopt` and the dialer, so that the compiled node and the simulator run this very code.
 * Owns no socket, no plugin and no HTTP. docs/architecture.md "The eight rooms" follows a message through it.
 */
import type { NameProof, NodeRecord } from "../identity/record.ts";
import { Names } from "../identity/names.ts";
import { shortId, type NodeId } from "../kernel/ids.ts";
import type { Session } from "../link/types.ts";
import { LinkCosts } from "./costs.ts";
import { admission, createManager } from "./manager.ts";
import type { MeshDeps, PrekeySource } from "./deps.ts";
import { MembershipView } from "../membership/hints.ts";
import { createCarrier } from "./carrier.ts";
import { type Punching } from "../peer/punch.ts";
import { Enrolment } from "../join/enrolment.ts";
import { Quarantine } from "../trust/quarantine.ts";
import { RevocationSpread } from "../membership/revocations.ts";
import { MeshMembers } from "./members.ts";
import { PluginMessages } from "./plugin-messages.ts";
import { createStreams } from "./streams.ts";
import { OwnRecord } from "../membership/own-record.ts";
import { RecordBook } from "../membership/records.ts";
import { PeerBook, type TrustGrant } from "../trust/book.ts";
import { DIAL_TIMEOUT_MS, Dialer } from "../peer/dialer.ts";
import type { PeerManager } from "../trust/manager.ts";
import type { Peer } from "../peer/peer.ts";
import { Peers } from "../peer/peers.ts";
import { Packets } from "../route/packets.ts";
import { Router } from "../route/router.ts";
import { openBootState, type BootState } from "../store/boot-state.ts";
import type { Sealer } from "../custody/context.ts";
import { Custody } from "../custody/custody.ts";
import type { Streams } from "../stream/streams.ts";
import { FrameType } from "../wire/constants.ts";
import { BOOT_ID_BYTES, GoodbyeReason } from "../wire/peer-messages.ts";
import { loadNameProof, nameProofRow } from "../membership/name-proof.ts";
import { deliverPacket } from "./dispatch.ts";
import { createDirectory } from "./directory.ts";
import { createTrialBench, distrustEvents } from "./trials.ts";
import { openPunching } from "./punching.ts";

export class Mesh {
  readonly #deps: MeshDeps;
  readonly #boot: BootState;
  readonly bootId: Uint8Array;
  readonly startedAtMs: number;
  readonly book: PeerBook;
  readonly names: Names;
  readonly records: RecordBook;
  readonly view: MembershipView;
  readonly peers: Peers;
  readonly dialer: Dialer;
  readonly manager: PeerManager;
  readonly router: Router;
  readonly packets: Packets;
  readonly punching: Punching;
  readonly members: MeshMembers;
  readonly streams: Streams;
  readonly custody: Custody;
  readonly quarantine: Quarantine;
  readonly pluginMessages: PluginMessages;
  readonly enrolment: Enrolment;
  readonly #ownRecord: OwnRecord;
  #isStopped = false;
  readonly revocations: RevocationSpread;
  #nameProof: NameProof | undefined;
  readonly #costs: LinkCosts;

  /** Reads what survived, then wires the parts. Nothing is dialled before `start`. */
  static async open(deps: MeshDeps): Promise<Mesh> {
    const boot = await openBootState(deps.store, deps.random);
    const book = new PeerBook({
      store: deps.store,
      configured: deps.trust,
      clock: deps.clock,
      log: deps.log,
    });
    await book.load();
    let mesh: Mesh | undefined;
    const names = new Names({
      store: deps.store,
      configured: deps.names,
      ...(deps.authority === undefined
        ? {}
        : { authority: { id: deps.authority, network: deps.network, verify: deps.verify } }),
      onConflict: (name, holder, claimant) => deps.events.nameConflict(name, holder, claimant),
      onChange: () => mesh?.custody.onDirectory(),
    });
    await names.load();
    const records = new RecordBook({
      store: deps.store,
      network: deps.network,
      authority: deps.authority,
      verify: deps.verify,
      changed: (id, record) => {
        if (id !== deps.identity.id && !book.isBlocked(id)) names.observe(record);
        if (record.isRevoked) mesh?.onRevoked(record);
        mesh?.custody.onDirectory();
        deps.events.recordChanged?.(id);
      },
    });
    await records.load();
    const nameProof = await loadNameProof(deps.store, deps.callsign);
    const sealing = await deps.openSealing((id) => records.get(id)?.record);
    mesh = new Mesh(deps, { boot, book, names, records, nameProof, ...sealing });
    await mesh.#ownRecord.publish();
    await mesh.members.load();
    await mesh.custody.load();
    await mesh.enrolment.load();
    return mesh;
  }

  private constructor(
    deps: MeshDeps,
    parts: {
      boot: BootState;
      book: PeerBook;
      names: Names;
      records: RecordBook;
      nameProof: NameProof | undefined;
      sealer: Sealer;
      prekeys: PrekeySource;
    },
  ) {
    const { identity, clock, random, log, metrics, store, network } = deps;
    this.#deps = deps;
    this.#boot = parts.boot;
    this.#costs = new LinkCosts(deps.hopCostMs);
    this.book = parts.book;
    this.names = parts.names;
    this.records = parts.records;
    this.#nameProof = parts.nameProof;
    this.bootId = random.bytes(BOOT_ID_BYTES);
    this.startedAtMs = clock.monotonicMs();
    this.#ownRecord = new OwnRecord({
      identity,
      network,
      callsign: deps.callsign,
      location: deps.location,
      clock,
      log,
      nextSequence: () => parts.boot.nextRecordSequence(),
      prekey: () => parts.prekeys.current(),
      nameProof: () => this.#nameProof,
      published: (bytes) => {
        this.records.offer(bytes);
        this.router.recordChanged();
      },
    });
    this.peers = new Peers({
      self: identity.id,
      clock,
      random,
      log,
      metrics,
      bootId: this.bootId,
      storeEpoch: parts.boot.storeEpoch,
      ownRecord: () => this.#ownRecord.bytes,
      ...admission(this),
      events: this.#peerEvents(),
    });
    this.revocations = new RevocationSpread({
      clock,
      metrics,
      records: this.records,
      send: (to, frame) => this.peers.get(to)?.send("control", frame) ?? false,
      frameBytesMax: (to) => this.peers.get(to)?.frameBytesMax ?? 0,
    });
    this.pluginMessages = new PluginMessages({
      clock,
      metrics,
      send: (to, frame) => this.peers.get(to)?.send(1, frame) ?? false,
    });
    this.dialer = new Dialer({
      clock,
      random,
      log,
      metrics,
      self: identity.id,
      dial: deps.dial,
      timeoutMs: (endpoint) => deps.dialTimeoutMs?.(endpoint) ?? DIAL_TIMEOUT_MS,
      handshake: deps.handshake,
      adopt: (session, onClosed) => this.peers.adopt(session, onClosed),
      isConnected: (id) => this.peers.get(id) !== undefined,
    });
    this.view = new MembershipView(clock, {
      wanted: (endpoint, nodeId, isPermanent) =>
        void this.dialer.add({ endpoint, isPermanent, ...(nodeId === undefined ? {} : { nodeId }) }),
      unwanted: (endpoint) => this.dialer.remove(endpoint),
      heard: (source, endpoint, nodeId) => deps.events.hintHeard(source, endpoint, nodeId),
    });
    this.router = new Router({
      self: identity.id,
      network,
      bootEpoch: parts.boot.bootEpoch,
      clock,
      random,
      log,
      metrics,
      ...(deps.destinationsMax === undefined ? {} : { limits: { destinationsMax: deps.destinationsMax } }),
      sign: (bytes) => identity.sign(bytes),
      // What a revoked node signed moves no route any more.
      verify: (id, bytes, signature) => !this.records.isRevoked(id) && deps.verify(id, bytes, signature),
      send: (to, frame) => void this.peers.get(to)?.send("control", frame),
      onChange: ({ destination, reachable }) => this.#onRoute(destination, reachable),
      onDefaultRoute: (isThere) => this.custody.onDefaultRoute(isThere),
      ownRecord: () => this.#ownRecord.bytes,
      knownRecord: (id) => this.records.get(id),
      onRecord: (id, bytes) => this.records.offer(bytes, true, id) !== "invalid",
      onEpochTooLow: (epoch) => {
        // The store was lost: records of the earlier life are above ours until they are numbered by the new epoch.
        void this.#boot.raiseBootEpoch(epoch).catch(() => {});
        this.#ownRecord.changed();
      },
    });
    this.manager = createManager(this, deps);
    this.packets = new Packets({
      self: identity.id,
      clock,
      random,
      metrics,
      nextHops: (destination, plane) => this.router.nextHops(destination, plane),
      queueDelay: (id) => this.#queueDelay(id),
      send: (to, priority, frame) => this.peers.get(to)?.send(priority, frame) ?? false,
      events: { deliver: (header, payload) => deliverPacket(this, header, payload) },
    });
    this.enrolment = new Enrolment({
      identity,
      network,
      clock,
      random,
      log,
      metrics,
      store,
      verify: deps.verify,
      records: this.records,
      secrets: () => deps.liveSecrets(),
      connected: () => this.peers.connected,
      isReachable: (id) => this.router.reachable(id),
      events: deps.events,
    });
    this.streams = createStreams(deps, this);
    this.punching = openPunching(deps, this, () => this.#ownRecord.endpoints);
    this.members = new MeshMembers({
      self: identity.id,
      network,
      bootEpoch: parts.boot.bootEpoch,
      clock,
      random,
      metrics,
      store,
      sign: (bytes) => identity.sign(bytes),
      verify: deps.verify,
      mesh: this,
      onEpochTooLow: (epoch) => void this.#boot.raiseBootEpoch(epoch).catch(() => {}),
      changed: (row, previous) => deps.events.memberChanged(row, previous),
    });
    this.custody = new Custody(
      {
        self: identity.id,
        network,
        clock,
        random,
        log,
        metrics,
        store,
        storeEpoch: parts.boot.storeEpoch,
        limits: deps.limits,
        sealer: parts.sealer,
        directory: createDirectory(
          { self: identity.id, callsign: deps.callsign, location: deps.location },
          this,
        ),
        carrier: createCarrier(
          identity.id,
          this,
          (id) => this.#queueDelay(id),
          (id, bytes) => this.punching.noteTraffic(id, bytes),
        ),
        sign: (bytes) => identity.sign(bytes),
        verify: deps.verify,
        isRefused: (id) => this.isRefused(id),
      },
      deps.events,
      {
        handed: (neighbour, destination) => this.quarantine.onHanded(neighbour, destination),
        returned: (neighbour, destination, priority) =>
          this.quarantine.onReturned(neighbour, destination, priority),
        testAnswered: (id, by) => this.quarantine.onTestAnswered(id, by),
      },
    );
    this.quarantine = new Quarantine({
      clock,
      log,
      metrics,
      events: distrustEvents(this, deps.events),
      isConnected: (id) => this.peers.get(id) !== undefined,
      router: this.router,
      custody: createTrialBench(this.custody),
    });
  }

  /** Calls the neighbours of the last run and those the operator trusts; from here on the node acts. */
  start(): void {
    for (const { id, endpoints, trust } of this.book.nodes) {
      if (this.isRefused(id) || id === this.#deps.identity.id) continue;
      this.#remember(id, endpoints, trust === "trusted");
    }
    this.manager.start();
  }

  /** A proven session that somebody dialled to us. */
  adopt(session: Session): void {
    if (session.invite === undefined) this.peers.adopt(session);
    else this.enrolment.serve(session);
  }

  /** Where this node is reachable changed. */
  setEndpoints(endpoints: readonly string[]): void {
    this.#ownRecord.setEndpoints(endpoints);
  }

  /** A new prekey came into force. */
  onPrekey(): void {
    this.#ownRecord.changed();
  }

  /** Blocks at once: links, custody and names of the node end. Resolves when durable. */
  async setTrust(id: NodeId, grant: TrustGrant): Promise<void> {
    const { level, reason, by } = grant;
    await this.book.setTrust(id, grant);
    this.#deps.log.info("trust changed", { peer: shortId(id), level, by, reason });
    this.#deps.events.trustChanged(id, grant);
    if (level === "blocked") {
      this.#cutOff(id);
    } else if (level === "trusted") {
      this.#remember(id, this.records.get(id)?.record.endpoints ?? [], true);
    }
  }

  /** Gets no link, no custody and no name: by this operator's word or by a revocation. */
  isRefused(id: NodeId): boolean {
    return this.book.isBlocked(id) || this.records.isRevoked(id);
  }

  /** The record book took a revocation: tell the others first, the revoked one among them, then cut it off. */
  onRevoked(record: NodeRecord): void {
    const { id, reason } = record;
    this.#deps.log.warn("node revoked", { node: id, by: record.signer, reason });
    this.revocations.onRevoked(this.records.get(id)!);
    if (id !== this.#deps.identity.id) this.#cutOff(id);
    this.custody.onRevoked(id);
    this.#deps.events.revoked(record);
  }

  /** The authority's proof for this node's own callsign. Resolves when durable and about to be told to the mesh. */
  async adoptName(callsign: string, proof: NameProof): Promise<void> {
    await this.#deps.store.commit([nameProofRow(callsign, proof)]);
    this.#nameProof = proof;
    this.#ownRecord.changed();
  }

  get nameProof(): NameProof | undefined {
    return this.#nameProof;
  }

  #cutOff(id: NodeId): void {
    this.streams.block(id);
    this.peers.disconnect(id, GoodbyeReason.blocked);
    for (const { endpoint, nodeId } of this.dialer.targets) {
      if (nodeId !== id) continue;
      this.view.withdraw("book", endpoint);
      this.dialer.remove(endpoint);
    }
    this.names.forget(id);
  }

  /** One source of hints among others: the view knows which endpoints somebody else wants for ever. */
  #remember(nodeId: NodeId, endpoints: readonly string[], permanent: boolean): void {
    for (const endpoint of endpoints) this.view.hint("book", { endpoint, nodeId, permanent });
  }

  stop(): void {
    this.#isStopped = true;
    this.#ownRecord.stop();
    this.manager.stop();
    this.punching.stop();
    this.view.stop();
    this.dialer.stop();
    this.quarantine.stop();
    this.enrolment.stop();
    this.revocations.stop();
    this.custody.stop();
    this.streams.stop();
    this.members.leave();
    this.members.stop();
    this.peers.stop();
    this.router.close();
  }

  #peerEvents(): ConstructorParameters<typeof Peers>[0]["events"] {
    const { events, clock } = this.#deps;
    return {
      up: (peer) => {
        this.router.neighbourUp(peer.id, { bootId: peer.bootId, cost: this.#costs.of(peer) });
        this.#noteSeen(peer.id);
        this.members.neighbourUp(peer.id, peer.links[0]!.session.linkClass);
        this.custody.onNeighbourUp(peer.id, peer.storeEpoch);
        this.manager.onPeerUp(peer);
        this.punching.onNeighbourUp(peer.id);
        this.enrolment.onPeerUp(peer);
        this.revocations.onNeighbourUp(peer.id);
        events.peerUp(peer);
      },
      quiet: (peer) => this.members.neighbourQuiet(peer.id),
      down: (peer, reason, isSilent) => {
        this.router.neighbourDown(peer.id);
        this.members.neighbourDown(peer.id, isSilent ? "silent" : "closed");
        this.custody.onNeighbourDown(peer.id);
        this.revocations.onNeighbourDown(peer.id);
        this.#costs.forget(peer.id);
        this.#noteSeen(peer.id);
        this.dialer.onPeerDown(peer.id, clock.monotonicMs() - peer.upAtMs);
        this.manager.onPeerDown(peer.id);
        this.pluginMessages.onPeerDown(peer.id);
        events.peerDown(peer, reason);
      },
      linkUp: (peer, link) => {
        this.router.neighbourCost(peer.id, this.#costs.of(peer));
        this.punching.tell(link.session);
        events.linkUp(peer, link.session.remoteEndpoint);
      },
      linkDown: (peer, link, reason) => {
        if (peer.links.length > 0) {
          this.router.linkLost(peer.id);
          // What it carried may be lost, and the other links know nothing of it. A retired one carried nothing.
          if (!link.isRetiring) this.custody.onLinkLost(peer.id);
          this.router.neighbourCost(peer.id, this.#costs.of(peer));
        }
        events.linkDown(peer, link.session.remoteEndpoint, reason);
      },
      measured: (peer) => {
        this.router.neighbourCost(peer.id, this.#costs.of(peer));
        for (const { session } of peer.links) this.punching.tell(session);
      },
      frame: (peer, type, bytes) => this.#onFrame(peer, type, bytes),
      record: (id, bytes) => {
        if (this.records.offer(bytes, true, id) === "invalid") {
          this.#deps.log.warn("peer sent a bad record", { peer: shortId(id), at: clock.wallMs() });
        }
      },
      writable: (peer) => {
        this.custody.onWritable(peer.id);
        this.streams.onWritable();
      },
    };
  }

  #onFrame(peer: Peer, type: number, bytes: Uint8Array): void {
    if (type >= FrameType.routeUpdate && type <= FrameType.record)
      return this.router.handleFrame(peer.id, bytes);
    if (type >= FrameType.revocationDigest && type <= FrameType.revocation)
      return this.revocations.onFrame(peer.id, type, bytes);
    if (type === FrameType.packet) return this.packets.onFrame(peer.id, bytes);
    if (type === FrameType.pluginMessage) return this.pluginMessages.onFrame(peer.id, bytes);
    if (type === FrameType.observed) return this.punching.onObserved(peer.id, bytes);
    if (type === FrameType.redemptions) return this.enrolment.onFrame(peer.id, bytes);
    if (type >= FrameType.memberFacts && type <= FrameType.memberQuery)
      return this.members.handleFrame(peer.id, bytes);
    this.custody.onFrame(peer.id, type, bytes);
  }

  #onRoute(destination: NodeId, isReachable: boolean): void {
    if (this.#isStopped) return;
    this.members.onRoute(destination, isReachable);
    this.custody.onRoute(destination);
    this.streams.onRoute(destination);
    this.#deps.events.routeChanged(destination, isReachable);
  }

  #queueDelay(id: NodeId): number {
    return (this.peers.get(id)?.queueDelayMs ?? 0) * 10;
  }

  #noteSeen(id: NodeId): void {
    this.book.noteSeen(id, this.records.get(id)?.record.endpoints, this.#deps.clock.wallMs());
  }
}
