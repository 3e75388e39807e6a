// Of several things that are waited for, the one that was begun last counts.
export class Newest {
  #order = 0;

  /** Something new begins. Returns a function: whether it is still the newest. */
  begin() {
    const mine = (this.#order += 1);
    return () => mine === this.#order;
  }

  /** What was begun does not count any more. */
  stop() {
    this.#order += 1;
  }
}
