/**
 * The mesh of one node without its doors: the list of the parts that it consists of, and what the node around it calls.
 * Sessions come in through `adopt` and the dialer, so that the compiled node and the simulator run this very code.
 * Owns no socket, no plugin and no HTTP. part.ts says what a part is, docs/architecture.md follows a message through them.
 */
import type { NameProof } from "../identity/record.ts";
import type { NodeId } from "../kernel/ids.ts";
import { Scope } from "../kernel/scope.ts";
import type { Session } from "../link/types.ts";
import { nameProofRow } from "../membership/name-proof.ts";
import type { TrustGrant } from "../trust/book.ts";
import { BOOT_ID_BYTES } from "../wire/peer-messages.ts";
import type { MeshDeps, MeshSettings } from "./deps.ts";
import { type Kept, openKept } from "./kept.ts";
import { PartList } from "./part-list.ts";
import { custodyPart } from "./parts/custody.ts";
import { dialerPart, hintsPart, placesPart } from "./parts/dialling.ts";
import { enrolmentPart } from "./parts/enrolment.ts";
import { linkMetricsPart } from "./parts/link-metrics.ts";
import { lookupsPart } from "./parts/lookups.ts";
import { managerPart } from "./parts/manager.ts";
import { membersPart } from "./parts/members.ts";
import { otherLivesPart } from "./parts/other-lives.ts";
import { outsidePart } from "./parts/outside.ts";
import { ownRecordPart } from "./parts/own-record.ts";
import { packetsPart } from "./parts/packets.ts";
import { peersPart } from "./parts/peers.ts";
import { pluginMessagesPart } from "./parts/plugin-messages.ts";
import { punchingPart } from "./parts/punching.ts";
import { quarantinePart } from "./parts/quarantine.ts";
import { revocationsPart } from "./parts/revocations.ts";
import { routerPart } from "./parts/router.ts";
import { standingPart } from "./parts/standing.ts";
import { streamsPart } from "./parts/streams.ts";
import { wallClockPart } from "./parts/wall-clock.ts";
import type { MeshParts } from "./seen.ts";

export class Mesh extends PartList implements MeshParts {
  /** Drawn before any part draws. */
  readonly bootId = this.deps.random.bytes(BOOT_ID_BYTES);
  readonly startedAtMs = this.deps.clock.monotonicMs();

  // One row a part. In this order they load and hear what happens, and in the reverse they stop; why each one stands
  // where it stands is what its line says.

  /** Before all who say something in the node's name: it decides from which number on. */
  readonly otherLives = this.part("other-lives", otherLivesPart);
  /** Before the router, which signs its hash when it is made. Published before what the others load is told to anybody. */
  readonly ownRecord = this.part("own-record", ownRecordPart);
  /** First to hear, because all others ask it for ways; last to stop, so that none of them asks in vain. */
  readonly router = this.part("router", routerPart);
  /** Its end is the goodbye of every link: after all that still has something to say on one. */
  readonly peers = this.part("peers", peersPart);
  readonly packets = this.part("packets", packetsPart);
  /** Says farewell before the links go. Hears of a node before mail does, so that nobody is told of it too late. */
  readonly members = this.part("members", membersPart);
  /** Before custody, which says what it waits for, from what it reads at the start on. */
  readonly lookups = this.part("lookups", lookupsPart);
  /** Behind the router: ways and costs are the new ones when it offers again. Before streams: mail was here first. */
  readonly custody = this.part("custody", custodyPart);
  /** Behind mail, so that its notes are written behind mail's; notes who is linked before the links go. */
  readonly standing = this.part("standing", standingPart);
  /** Behind custody, which hears from it how old mail is, and standing, which says who has a say. */
  readonly wallClock = this.part("wall-clock", wallClockPart);
  readonly streams = this.part("streams", streamsPart);
  /** Behind custody, whose mail it watches and whose test bundles it sends. */
  readonly quarantine = this.part("quarantine", quarantinePart);
  /** Before the dialer, which asks it. */
  readonly places = this.part("places", placesPart);
  /** From here on it is about who comes next. All of it stops before anybody says farewell: no link comes up meanwhile. */
  readonly dialer = this.part("dialer", dialerPart);
  /** Behind the dialer, which follows its hints. */
  readonly hints = this.part("hints", hintsPart);
  /** Behind what it directs: hints, links and trust. */
  readonly manager = this.part("manager", managerPart);
  readonly punching = this.part("punching", punchingPart);
  readonly enrolment = this.part("enrolment", enrolmentPart);
  readonly revocations = this.part("revocations", revocationsPart);
  readonly pluginMessages = this.part("plugin-messages", pluginMessagesPart);
  readonly linkMetrics = this.part("link-metrics", linkMetricsPart);
  /** Last to hear: whoever listens there may ask any part, and finds it up to date. */
  readonly outside = this.part("outside", outsidePart);

  /** Reads what survived, then makes and loads the parts. Nothing is dialled before `start`. */
  static async open<M extends Mesh>(
    this: new (deps: MeshDeps, kept: Kept, scope: Scope) => M,
    deps: MeshDeps,
  ): Promise<M> {
    const scope = new Scope("mesh");
    let mesh: M | undefined;
    try {
      const kept = await openKept(deps, {
        linkedFrom: (id) => mesh?.peers.get(id)?.links[0]?.session.remoteEndpoint,
        isReachable: (id) => mesh?.router.reachable(id) === true,
        directoryChanged: () => mesh?.tell("directoryChanged"),
        revoked: (held) => mesh?.standing.onRevoked(held),
        helloChanged: () => mesh?.peers.sayHelloAgain(),
      });
      mesh = new this(deps, kept, scope);
      await mesh.load();
      return mesh;
    } catch (error) {
      await scope.close().catch(() => {});
      throw error;
    }
  }

  protected get seen(): MeshParts {
    return this;
  }

  get book() {
    return this.kept.book;
  }

  get names() {
    return this.kept.names;
  }

  get acquaintances() {
    return this.kept.acquaintances;
  }

  get fullTables() {
    return this.kept.fullTables;
  }

  get records() {
    return this.kept.records;
  }

  /** A proven session that somebody dialled to us. */
  adopt(session: Session): void {
    if (session.invite === undefined) this.peers.adopt(session);
    else this.enrolment.serve(session);
  }

  /** Where this node is reachable changed. */
  setEndpoints(endpoints: readonly string[]): void {
    this.ownRecord.setEndpoints(endpoints);
  }

  /** A new prekey came into force. */
  onPrekey(): void {
    this.ownRecord.changed();
  }

  /** Blocks at once: links, custody and names of the node end. Resolves when durable. */
  setTrust(id: NodeId, grant: TrustGrant): Promise<void> {
    return this.standing.setTrust(id, grant);
  }

  /** In force when it returns, for what there is and what comes. Whom the operator blocks now is cut off. */
  configure(settings: MeshSettings): void {
    const levels = this.book.configure(settings.trust);
    const names = this.names.configure(settings.names);
    for (const { record } of names.size === 0 ? [] : this.records.all)
      if (record.callsign !== undefined && names.has(record.callsign) && !this.isRefused(record.id))
        this.names.observe(record);
    this.tell("settingsChanged", settings);
    for (const change of levels) this.standing.onLevel(change);
    if (names.size > 0) this.deps.events.emit("namesChanged", undefined);
    if (names.size > 0 || levels.length > 0) this.tell("directoryChanged");
  }

  /** Gets no link, no custody and no name: by this operator's word or by a revocation. */
  isRefused(id: NodeId): boolean {
    return this.standing.isRefused(id);
  }

  /** The authority's proof for this node's own callsign. Resolves when durable and about to be told to the mesh. */
  async adoptName(callsign: string, proof: NameProof): Promise<void> {
    await this.deps.store.commit([nameProofRow(callsign, proof)]);
    this.ownRecord.adoptName(proof);
  }

  get nameProof(): NameProof | undefined {
    return this.ownRecord.nameProof;
  }
}
