/**
 * The machines that a message is sealed to, by references of two bytes instead of ids: for recipients that know each other, as machines of one
 * location do. What a reference means follows from the message's own name, so that nobody finds ids that look like another's in advance. Pure. Must
 * never answer a list that is not the sender's. docs/protocol/delivery.md "The compact form" is normative.
 */
import { nodeIdBytes, type NodeId } from "../kernel/ids.ts";
import { sha256 } from "../kernel/sha256.ts";
import { decodeError, type Reader, Writer } from "./bytes.ts";

const REFERENCE_BYTES = 2;
const CHECK_BYTES = 4;
/** Known machines that are looked at. */
const KNOWN_MACHINES_MAX = 64;
/** Lists that fit the references and are tried: two of 64 nodes share one in three of a hundred messages. */
const LISTS_MAX = 64;

/** What is part of each hash of one message. */
function saltOf(mailEpoch: Uint8Array, counter: number): Uint8Array {
  return new Writer(40).text("godwit machine").bytes(mailEpoch).varint(counter).finish();
}

function hashOf(salt: Uint8Array, nodes: readonly NodeId[], bytes: number): Uint8Array {
  const writer = new Writer(salt.length + nodes.length * 32).bytes(salt);
  for (const node of nodes) writer.bytes(nodeIdBytes(node));
  return sha256(writer.finish()).subarray(0, bytes);
}

const referenceOf = (salt: Uint8Array, node: NodeId): number => {
  const [high = 0, low = 0] = hashOf(salt, [node], REFERENCE_BYTES);
  return (high << 8) | low;
};

/** One for each, in order, and the check over all. */
export function writeReferences(
  writer: Writer,
  name: { readonly mailEpoch: Uint8Array; readonly counter: number },
  machines: readonly NodeId[],
): void {
  const salt = saltOf(name.mailEpoch, name.counter);
  for (const machine of machines) writer.u16(referenceOf(salt, machine));
  writer.bytes(hashOf(salt, machines, CHECK_BYTES));
}

/** The machines, of those that are `known`. Throws GODWIT_DECODE where they are not the sender's. */
export function readReferences(
  reader: Reader,
  name: { readonly mailEpoch: Uint8Array; readonly counter: number },
  count: number,
  known: readonly NodeId[],
): NodeId[] {
  const salt = saltOf(name.mailEpoch, name.counter);
  const byReference = new Map<number, NodeId[]>();
  for (const node of known.slice(0, KNOWN_MACHINES_MAX)) {
    const reference = referenceOf(salt, node);
    byReference.set(reference, [...(byReference.get(reference) ?? []), node]);
  }
  const choices = Array.from({ length: count }, () => byReference.get(reader.u16()) ?? []);
  const check = reader.bytes(CHECK_BYTES);
  const lists = choices.reduce((product, { length }) => Math.min(LISTS_MAX, product * length), 1);
  for (let list = 0; list < lists; list++) {
    let rest = list;
    const nodes = choices.map((nodesOf) => {
      const chosen = nodesOf[rest % nodesOf.length]!;
      rest = Math.floor(rest / nodesOf.length);
      return chosen;
    });
    if (Buffer.compare(hashOf(salt, nodes, CHECK_BYTES), check) === 0) return nodes;
  }
  throw decodeError("message refers to machines that are not known");
}
