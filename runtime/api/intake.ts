/**
 * How an accepted connection's bytes reach node:http: little by little, and only as far as what came before was taken on. http itself takes
 * whatever it is given: of one chunk it makes thousands of requests at once, and it holds a body as fast as that comes, however slowly
 * it is read. Owns the bytes that wait, and whether the socket is read; must never drop one.
 * docs/decisions/0015-own-front-of-http.md
 */
import type { Socket } from "node:net";

/** Given to http at once where requests may begin, in bytes: as many as fit into it are made before anybody is asked again. */
const PIECE_BYTES = 2_048;

type Listener = (bytes?: Buffer) => void;

export class Intake {
  readonly #socket: Socket;
  readonly #room: () => number;
  readonly #parse: readonly Listener[];
  readonly #finish: readonly Listener[];
  #unread: Buffer | undefined;
  /** Bytes that http has parsed. */
  #given = 0;
  /** Up to there nothing but a body can come. */
  #bodyEnd = 0;
  /** The far end says no more. */
  #hasEnded = false;
  #isOver = false;
  #isTaking = false;
  #isHeld = false;

  /** `attach` gives the socket to http. `room` is asked before each piece how many bytes of a body http may be given; 0: nothing, of whatever. */
  constructor(socket: Socket, attach: () => void, room: () => number) {
    this.#socket = socket;
    this.#room = room;
    const before = { data: socket.listeners("data"), end: socket.listeners("end") };
    attach();
    const detach = (event: "data" | "end") => {
      const added = socket.listeners(event).filter((one) => !before[event].includes(one)) as Listener[];
      for (const one of added) socket.removeListener(event, one);
      return added;
    };
    this.#parse = detach("data");
    this.#finish = detach("end");
    // http goes on reading when a body is wanted or an answer has left, and knows nothing of what waits here.
    const resume = socket.resume.bind(socket);
    socket.resume = () => (this.#isHeld ? socket : resume());
    socket.on("data", (bytes: Buffer) => {
      this.#unread = this.#unread === undefined ? bytes : Buffer.concat([this.#unread, bytes]);
      this.take();
    });
    socket.once("end", () => {
      this.#hasEnded = true;
      this.take();
    });
  }

  /** Nothing more comes, and http has all of it. */
  get isOver(): boolean {
    return this.#isOver;
  }

  /** Call while http makes a request: a body of `bytes` follows its head, and nothing else before that has ended. 0 where that is not sure. */
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
    this.#isHeld = this.#unread !== undefined || this.#room() <= 0;
    if (this.#isHeld) return void this.#socket.pause();
    this.#socket.resume();
    if (!this.#hasEnded || this.#isOver) return;
    this.#isOver = true;
    for (const finish of this.#finish) finish.call(this.#socket);
  }

  #give(): void {
    while (this.#unread !== undefined && !this.#socket.destroyed) {
      const room = this.#room();
      if (room <= 0) return;
      const bytes = Math.max(PIECE_BYTES, Math.min(room, this.#bodyEnd - this.#given));
      const piece: Buffer = this.#unread.subarray(0, bytes);
      this.#unread = this.#unread.length > bytes ? this.#unread.subarray(bytes) : undefined;
      for (const parse of this.#parse) parse.call(this.#socket, piece);
      this.#given += piece.length;
    }
  }
}
