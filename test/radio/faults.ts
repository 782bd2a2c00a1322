/** What may be wrong with a radio or its cable, each by a switch that can be turned while it runs. */
export interface Faults {
  /** Lines for people between the messages, as a device with its log on. */
  logNoise: boolean;
  /** How what it says is cut: each byte by itself, anywhere, or right after a byte 0x94. */
  split: "no" | "bytes" | "anywhere" | "afterStart";
  /** Rubbish between the messages: starts with a length that is a lie, and halves of messages. */
  rubbish: boolean;
  /** What it says of the places in its queue, whatever is true. */
  queue: "honest" | "full" | "free";
  /** It hears its clients and says nothing. */
  isHung: boolean;
}

export const newFaults = (): Faults => ({
  logNoise: false,
  split: "no",
  rubbish: false,
  queue: "honest",
  isHung: false,
});
