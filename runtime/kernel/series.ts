/**
 * The numbers behind the metrics: for each set of label values a place in an array. Adding to one costs a look for the place and an
 * addition. Knows neither names nor how they are shown. Bounded by whoever brings the labels: the node's come from small closed sets,
 * a plugin's are cut by metrics.ts.
 */

type Labels = Readonly<Record<string, string>>;

/** As it is shown. */
export interface Sample {
  readonly value: number;
  readonly labels: Readonly<Record<string, string | number>>;
  /** Where it is not that of the metric. */
  readonly metricName?: string;
}

export interface Series {
  /** The caller's. */
  samples(): Sample[];
}

/** By the value of one label after the other; the last ones lead to a place. */
type Branch = Map<string, Branch | number>;

/** Finds the place of a set of label values; the first of each makes one. */
class Places {
  readonly #labels: readonly string[];
  readonly #root: Branch = new Map();
  readonly #sets: Labels[] = [];
  readonly #opened: () => void;
  /** Of those without labels, where the metric has some. */
  #bare: number | undefined;

  /** `opened`: there is one more place, at the end. */
  constructor(labels: readonly string[], opened: () => void) {
    this.#labels = labels;
    this.#opened = opened;
  }

  get sets(): readonly Labels[] {
    return this.#sets;
  }

  of(given: Labels | undefined): number {
    if (given === undefined || this.#labels.length === 0) return (this.#bare ??= this.#open({}));
    let branch = this.#root;
    const last = this.#labels.length - 1;
    for (let at = 0; at < last; at++) {
      const value = given[this.#labels[at]!]!;
      let next = branch.get(value);
      if (next === undefined) branch.set(value, (next = new Map()));
      branch = next as Branch;
    }
    const value = given[this.#labels[last]!]!;
    let place = branch.get(value) as number | undefined;
    if (place === undefined) branch.set(value, (place = this.#open(this.#checked(given))));
    return place;
  }

  /** A copy. Throws TypeError unless it has the labels of the metric and no others: once for each set. */
  #checked(given: Labels): Labels {
    const names = Object.keys(given);
    const isWhole = this.#labels.every((label) => typeof given[label] === "string");
    if (!isWhole || names.length !== this.#labels.length)
      throw new TypeError(`labels are ${this.#labels.join(", ")}, not ${names.join(", ")}`);
    return { ...given };
  }

  #open(labels: Labels): number {
    this.#opened();
    return this.#sets.push(labels) - 1;
  }
}

/** Of a counter or a gauge. Without labels it is there, at 0, from the start. */
export class Numbers implements Series {
  readonly #places: Places;
  readonly #values: number[] = [];

  constructor(labels: readonly string[]) {
    this.#places = new Places(labels, () => this.#values.push(0));
    if (labels.length === 0) this.#places.of(undefined);
  }

  /** Throws RangeError for what is negative or no number: a counter only grows. */
  add(value: number, given?: Labels): void {
    if (!Number.isFinite(value) || value < 0) throw new RangeError(`a counter does not grow by ${value}`);
    this.#values[this.#places.of(given)]! += value;
  }

  set(value: number, given?: Labels): void {
    if (typeof value !== "number") throw new TypeError("a gauge is a number");
    this.#values[this.#places.of(given)] = value;
  }

  samples(): Sample[] {
    return this.#places.sets.map((labels, at) => ({ value: this.#values[at]!, labels }));
  }
}

/** Of a histogram. */
export class Distribution implements Series {
  readonly #name: string;
  readonly #bounds: readonly number[];
  readonly #places: Places;
  /** Of each place so many as there are bounds, and one for what is above. */
  readonly #counts: number[] = [];
  readonly #sums: number[] = [];

  constructor(name: string, labels: readonly string[], bounds: readonly number[]) {
    this.#name = name;
    this.#bounds = bounds;
    this.#places = new Places(labels, () => {
      for (let at = 0; at <= bounds.length; at++) this.#counts.push(0);
      this.#sums.push(0);
    });
    if (labels.length === 0) this.#places.of(undefined);
  }

  /** Throws TypeError for what is no number. */
  observe(value: number, given?: Labels): void {
    if (!Number.isFinite(value)) throw new TypeError(`${value} is not observed`);
    const place = this.#places.of(given);
    const bounds = this.#bounds;
    let at = 0;
    while (at < bounds.length && value > bounds[at]!) at++;
    this.#counts[place * (bounds.length + 1) + at]!++;
    this.#sums[place]! += value;
  }

  samples(): Sample[] {
    const samples: Sample[] = [];
    const width = this.#bounds.length + 1;
    const metricName = `${this.#name}_bucket`;
    for (const [place, labels] of this.#places.sets.entries()) {
      let count = 0;
      for (let at = 0; at < width; at++) {
        count += this.#counts[place * width + at]!;
        samples.push({ value: count, labels: { le: this.#bounds[at] ?? "+Inf", ...labels }, metricName });
      }
      samples.push({ value: this.#sums[place]!, labels, metricName: `${this.#name}_sum` });
      samples.push({ value: count, labels, metricName: `${this.#name}_count` });
    }
    return samples;
  }
}
