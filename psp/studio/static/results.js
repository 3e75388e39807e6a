// The grid of faces: which are shown, which one is selected, and what is said about it.
import { captionOf, factsInWords } from './captions.js';
import { $, loadImage, make, pngUrl } from './dom.js';
import { Newest } from './newest.js';
import { t } from './words.js';

export class Results {
  /**
   * hooks: select(item) after another face was selected, chosen() if by hand. An item: {png, seed, size, latent,
   * model}, see captions.js.
   */
  constructor(hooks) {
    Object.assign(this, { hooks, items: [], before: [], rested: [], at: 0, facts: '', newest: new Newest() });
    this.grid = $('grid');
    this.grid.addEventListener('click', (event) => {
      const button = event.target.closest('button');
      if (button) this.choose([...this.grid.children].indexOf(button));
    });
    this.grid.addEventListener('keydown', (event) => {
      const columns = Number(this.grid.style.getPropertyValue('--columns'));
      const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns }[event.key];
      const next = this.grid.children[this.at + step];
      if (!step || !next) return;
      event.preventDefault();
      this.choose(this.at + step);
      next.focus();
    });
  }

  get selected() {
    return this.items[this.at] ?? null;
  }

  /**
   * Show faces once all of them are decoded; facts: about the request. at: which is selected, else the one that is now,
   * if it is among them, or the one in its place. before: faces to hold them against,
   * else those that were there when the hand last rested. moving: it does not rest now.
   */
  async show(items, { facts = '', at = this.same(items), before, moving = false } = {}) {
    const isNewest = this.newest.begin();
    await Promise.all(items.map((item) => loadImage(pngUrl(item.png))));
    if (!isNewest()) return; // something newer was shown meanwhile
    const other = items.some(({ png }, k) => png !== this.rested[k]?.png);
    Object.assign(this, { items, facts, at, before: before ?? (other ? this.rested : this.before) });
    if (!moving) this.rested = items;
    const columns = Math.ceil(Math.sqrt(items.length));
    this.grid.style.setProperty('--columns', columns);
    this.grid.classList.toggle('many', items.length > 1);
    this.grid.classList.remove('stale');
    while (this.grid.children.length > items.length) this.grid.lastChild.remove();
    while (this.grid.children.length < items.length) {
      this.grid.append(
        make('button', { type: 'button' }, make('img', { alt: '' }), make('span', { className: 'tag' })),
      );
    }
    items.forEach((item, k) => {
      const button = this.grid.children[k];
      const words = captionOf(item);
      button.firstChild.alt = t('face.of', { k: k + 1, n: items.length, words });
      button.lastChild.textContent = words;
    });
    this.paint(items);
    $('empty').hidden = true;
    $('acts').hidden = false;
    this.select(this.at);
  }

  /** The number of the face of items that has the selected one's seed. */
  same(items) {
    const now = this.selected;
    const at = now?.between === undefined ? items.findIndex(({ seed }) => seed === now?.seed) : -1;
    return at < 0 ? Math.min(this.at, items.length - 1) : at;
  }

  paint(items) {
    items.forEach((item, k) => {
      this.grid.children[k].firstChild.src = pngUrl(item.png);
    });
  }

  /** While a key is held: the faces as they were before. */
  holdBefore(on) {
    if (!this.items.length) return;
    const there = on && this.before.length === this.items.length;
    this.paint(there ? this.before : this.items);
    $('before-tag').hidden = !there;
  }

  clear() {
    this.newest.stop();
    Object.assign(this, { items: [], before: [], rested: [], at: 0 });
    this.grid.replaceChildren();
    $('empty').hidden = false;
    $('acts').hidden = true;
    $('caption').textContent = '';
  }

  choose(at) {
    this.select(at);
    this.hooks.chosen();
  }

  select(at) {
    this.at = at;
    [...this.grid.children].forEach((button, k) => {
      button.setAttribute('aria-pressed', k === at);
      button.tabIndex = k === at ? 0 : -1;
    });
    const item = this.selected;
    const box = this.grid.children[at]?.getBoundingClientRect();
    const enlarged = box && item.size < box.width ? `, ${t('face.enlarged')}` : '';
    $('caption').replaceChildren(
      make('strong', {}, captionOf(item)),
      ` · ${item.size} × ${item.size} px${enlarged}`,
      this.facts && ` · ${factsInWords(this.facts)}`,
    );
    this.hooks.select(item);
  }
}

/** On a phone the faces lie below the canvas: while they are out of sight, a small one stays in the corner. */
export function peek(results) {
  const button = $('peek');
  let seen = true;
  const refresh = () => {
    const item = results.selected;
    button.hidden = seen || !item;
    if (item) button.firstChild.src = pngUrl(item.png);
  };
  new IntersectionObserver(
    ([entry]) => {
      seen = entry.intersectionRatio > 0.4;
      refresh();
    },
    { threshold: [0, 0.4, 0.6] },
  ).observe(document.querySelector('.frame'));
  new MutationObserver(refresh).observe($('caption'), { childList: true });
  button.addEventListener('click', () =>
    document.querySelector('.frame').scrollIntoView({ block: 'center', behavior: 'smooth' }),
  );
}
