// The strip of earlier faces. Live drawing makes many pictures: one is kept when the hand has rested for a moment.
import { $, make, pngUrl } from './dom.js';

const KEPT = 48;
const BYTES = 120e6; // of pictures, as text
const REST = 1500; // ms

export class Earlier {
  /** hooks: entry() -> what to keep, with {items, at}; restore(entry). */
  constructor(hooks) {
    Object.assign(this, { hooks, entries: [], timer: 0 });
  }

  /** Keep what is shown now, at once or when nothing else comes for a moment. */
  keep(now) {
    clearTimeout(this.timer);
    if (now) this.add();
    else this.timer = setTimeout(() => this.add(), REST);
  }

  hold() { clearTimeout(this.timer); }

  add() {
    const entry = this.hooks.entry();
    if (!entry || this.entries.some(({ items }) => items.some(({ png }) => png === entry.items[0].png))) return;
    let bytes = 0;
    this.entries = [entry, ...this.entries].slice(0, KEPT).filter(({ items }, k) => {
      bytes += items.reduce((sum, { png }) => sum + png.length, 0);
      return k === 0 || bytes < BYTES;
    });
    const item = entry.items[entry.at] ?? entry.items[0];
    const button = make('button', { type: 'button', title: item.words }, make('img', { src: pngUrl(item.png), alt: `Earlier: ${item.words}` }));
    if (entry.items.length > 1) button.append(make('span', {}, String(entry.items.length)));
    button.addEventListener('click', () => this.hooks.restore(entry));
    $('strip').prepend(button);
    while ($('strip').children.length > this.entries.length) $('strip').lastChild.remove();
    $('history').hidden = false;
  }
}
