// First-use hints: one at a time, each goes once it was followed or closed, and does not come back.
import { $ } from './dom.js';
import { t } from './words.js';

const ORDER = ['draw', 'more', 'choose'];

const stored = () => {
  try {
    return JSON.parse(localStorage.getItem('studio-hints')) ?? [];
  } catch {
    return [];
  }
};

export class Hints {
  constructor() {
    this.done = new Set(stored());
    for (const name of ORDER) {
      const box = $(`hint-${name}`);
      box.querySelector('p').textContent = t(`hint.${name}`);
      box.querySelector('button').addEventListener('click', () => this.follow(name));
    }
    this.now = null;
    this.show('draw');
  }

  show(name) {
    if (this.done.has(name) || this.now) return;
    this.now = name;
    $(`hint-${name}`).hidden = false;
  }

  /** It was followed: away with it. */
  follow(name) {
    if (this.now === name) {
      $(`hint-${name}`).hidden = true;
      this.now = null;
    }
    if (this.done.has(name)) return;
    this.done.add(name);
    try {
      localStorage.setItem('studio-hints', JSON.stringify([...this.done]));
    } catch {
      /* private window */
    }
  }
}
