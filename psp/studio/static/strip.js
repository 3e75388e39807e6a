// A row of faces that come back with their drawing: earlier ones, and favourites. Entries are plain records.
import { captionOf } from './captions.js';
import { $, make, pngUrl } from './dom.js';

/** Whether every face of another entry is in this one. */
export const holds = ({ items }, other) => other.items.every(({ png }) => items.some((item) => item.png === png));

export class Strip {
  /**
   * name: of the row, `earlier` or `favourites`. most: entries and bytes of pictures that are kept. hooks:
   * restore(entry), keep(key, entry or undefined): one came or went.
   */
  constructor(name, hooks, { most = 48, bytes = 120e6 } = {}) {
    Object.assign(this, { name, hooks, most, bytes, entries: [], next: 1 });
  }

  has(png) {
    return this.entries.some(({ entry }) => entry.items.some((item) => item.png === png));
  }
  get items() {
    return this.entries.flatMap(({ entry }) => entry.items.map((item) => ({ ...item, settings: entry.settings })));
  }

  add(entry) {
    if (!entry || this.entries.some((one) => holds(one.entry, entry))) return;
    // it takes their place
    for (const { key } of this.entries.filter((one) => holds(entry, one.entry))) this.remove(key);
    const key = `${this.name}/${String(this.next).padStart(8, '0')}`;
    this.next += 1;
    this.put(key, entry);
    this.hooks.keep(key, entry);
    let sum = 0;
    this.entries.forEach(({ key: one, entry: { items } }, k) => {
      sum += items.reduce((all, { png }) => all + png.length, 0);
      if (k > 0 && (k >= this.most || sum > this.bytes)) this.remove(one);
    });
  }

  put(key, entry) {
    const item = entry.items[entry.at] ?? entry.items[0];
    const title = captionOf(item);
    const button = make('button', { type: 'button', title }, make('img', { src: pngUrl(item.png), alt: title }));
    if (entry.items.length > 1) button.append(make('span', {}, String(entry.items.length)));
    button.addEventListener('click', () => this.hooks.restore(entry));
    $(`${this.name}-strip`).prepend(button);
    this.entries = [{ key, entry, button }, ...this.entries];
    $(this.name).hidden = false;
  }

  remove(key) {
    this.entries.find((one) => one.key === key)?.button.remove();
    this.entries = this.entries.filter((one) => one.key !== key);
    this.hooks.keep(key, undefined);
    $(this.name).hidden = !this.entries.length;
  }

  /** The entry whose only face this is: takes it out. False when there is none. */
  removePicture(png) {
    const found = this.entries.find(({ entry }) => entry.items.some((item) => item.png === png));
    if (found) this.remove(found.key);
    return Boolean(found);
  }

  /** pairs: [key, entry], oldest first; they are kept already. */
  fill(pairs) {
    for (const { button } of this.entries) button.remove();
    this.entries = [];
    $(this.name).hidden = true;
    for (const [key, entry] of pairs) {
      if (!entry?.items?.length) continue;
      this.put(key, entry);
      this.next = Math.max(this.next, Number(key.split('/')[1]) + 1 || 1);
    }
  }
}
