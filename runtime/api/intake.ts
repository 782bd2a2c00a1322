/**
 * How an accepted connection's bytes reach the parser: little by little, and only as far as what came before was taken on. The parser makes
 * requests of all that it is given, thousands of one chunk, and a body comes as fast as it may, however slowly it is read. Owns the bytes
 * that wait, and whether the socket is read; must never drop one.
 * docs/decisions/0015-own-front-of-http.md
 */
import type { Socket } from "node:net";

/** Parsed at once where requests may begin, in bytes: as many as fit into it are made before anybody is asked again. */
const PIECE_BYTES = 2_048;

export interface IntakeTo {
  /** Asked before each piece: how many bytes of a body may be parsed; 0: nothing, of whatever. */
  room(): number;
  parse(piece: Buffer): void;
  /** Nothing more comes, and all that came is parsed. */
  finish(): void;
}

export class Intake {
  readonly #socket: Socket;
  readonly #to: IntakeTo;
  #unread: Buffer | undefined;
  /** Bytes that were parsed. */
  #given = 0;
  /** Up to there nothing but a body can come. */
  #bodyEnd = 0;
  /** The far end says no more. */
  #hasEnded = false;
  #isOver = false;
  #isTaking = false;
  #isHeld = false;

  constructor(socket: Socket, to: IntakeTo) {
    this.#socket = socket;
    this.#to = to;
    socket.on("data", (bytes: Buffer) => {
      this.#unread = this.#unread === undefined ? bytes : Buffer.concat([this.#unread, bytes]);
      this.take();
    });
    socket.once("end", () => {
      this.#hasEnded = true;
      this.take();
    });
  }

  /** Nothing more comes, and all of it is parsed. */
  get isOver(): boolean {
    return this.#isOver;
  }

  /** Call while a request is made: a body of `bytes` follows its head, and nothing else before that has ended. 0 where that is not sure. */
  bodyFollows(bytes: number): void {
    // The piece that is being parsed counts not yet, so that the body ends no sooner than this says.
    this.#bodyEnd = this.#given + bytes;
  }

  /** Call when `room` may answer otherwise than before. */
  take(): void {
    if (this.#isTaking) return;
    this.#isTaking = true;
    try {
      this.#give();
    } finally {
      this.#isTaking = false;
    }
    if (this.#socket.destroyed) return void (this.#unread = undefined);
    const isHeld = this.#unread !== undefined || this.#to.room() <= 0;
    if (isHeld !== this.#isHeld) {
      this.#isHeld = isHeld;
      if (isHeld) this.#socket.pause();
      else this.#socket.resume();
    }
    if (isHeld || !this.#hasEnded || this.#isOver) return;
    this.#isOver = true;
    this.#to.finish();
  }

  #give(): void {
    while (this.#unread !== undefined && !this.#socket.destroyed) {
      const room = this.#to.room();
      if (room <= 0) return;
      const bytes = Math.max(PIECE_BYTES, Math.min(room, this.#bodyEnd - this.#given));
      const isAll = this.#unread.length <= bytes;
      const piece = isAll ? this.#unread : this.#unread.subarray(0, bytes);
      this.#unread = isAll ? undefined : this.#unread.subarray(bytes);
      this.#to.parse(piece);
      this.#given += piece.length;
    }
  }
}
