// Steps that can be taken back and done again, without limit. What a step is, its owner knows.
export class History {
  constructor(steps = [], at = steps.length) {
    Object.assign(this, { steps, at });
  }

  get done() {
    return this.steps.slice(0, this.at);
  }
  get canUndo() {
    return this.at > 0;
  }
  get canRedo() {
    return this.at < this.steps.length;
  }

  push(step) {
    this.steps.length = this.at; // what was taken back is gone once something new is done
    this.steps.push(step);
    this.at += 1;
  }

  /** The step to take back, or null. */
  back() {
    return this.canUndo ? this.steps[(this.at -= 1)] : null;
  }
  /** The step to do again, or null. */
  forth() {
    return this.canRedo ? this.steps[(this.at += 1) - 1] : null;
  }
}
