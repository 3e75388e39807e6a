// A slider between two faces: codes are interpolated on the server, pictures that were made once are kept.
import { ApiError, post, session } from './api.js';
import { $, busy, fillSlider, make, pngUrl, toast } from './dom.js';

const WAIT = 60; // ms

export class Between {
  /** hooks: show(item, facts): an interpolated face arrived. */
  constructor(hooks) {
    Object.assign(this, { hooks, ends: { a: null, b: null }, made: new Map(), timer: 0, running: null });
    this.slider = $('between-at');
    fillSlider(this.slider);
    this.slider.addEventListener('input', () => { fillSlider(this.slider); this.go(); });
    for (const name of ['a', 'b']) $(`end-${name}`).addEventListener('click', () => this.jump(name));
  }

  get ready() { return this.ends.a && this.ends.b && this.ends.a.model === this.ends.b.model; }

  set(name, item) {
    if (!item?.latent) { toast('This model has no codes to go between.', { wrong: true }); return; }
    this.ends[name] = item;
    this.made.clear();
    const button = $(`end-${name}`);
    button.replaceChildren(make('img', { src: pngUrl(item.png), alt: '' }), make('span', {}, name.toUpperCase()));
    button.classList.add('filled');
    button.setAttribute('aria-label', `Face ${name.toUpperCase()}: ${item.words}`);
    const { a, b } = this.ends;
    this.slider.disabled = !this.ready;
    $('between-words').textContent = this.ready ? 'Move the slider; save, lock or keep what you find like any other face.'
      : a && b ? 'A and B come from different models: choose both from one.' : `Now select another face and press ${a ? 'B' : 'A'}.`;
    if (this.ready) this.go();
  }

  jump(name) {
    if (!this.ends[name] || !this.ready) return;
    this.slider.value = name === 'a' ? 0 : 1;
    fillSlider(this.slider);
    this.go();
  }

  go() {
    clearTimeout(this.timer);
    const at = Number(this.slider.value);
    if (this.made.has(at)) { this.hooks.show(...this.made.get(at)); return; }
    if (this.running) { this.next = true; return; } // one at a time; the newest position follows
    this.timer = setTimeout(() => this.ask(at), WAIT);
  }

  async ask(at) {
    const { a, b } = this.ends;
    this.running = new AbortController();
    busy('between', true);
    this.next = false;
    try {
      const answer = await post('api/interpolate', { model: a.model, a: a.latent, b: b.latent, t: at, session }, this.running.signal);
      const words = `A to B, ${Math.round(at * 100)} %`;
      const item = { ...answer.pictures[0], model: a.model, words, between: at };
      if (a !== this.ends.a || b !== this.ends.b) return;
      this.made.set(at, [item, `${answer.seconds.network.toFixed(2)} s on ${answer.device.split(' ')[0]}`]);
      if (Number(this.slider.value) === at || this.next) this.hooks.show(...this.made.get(at));
    } catch (error) {
      if (error instanceof ApiError && error.status !== 409) toast(error.message, { wrong: true });
      else if (!(error instanceof ApiError) && error.name !== 'AbortError') throw error;
    } finally {
      this.running = null;
      busy('between', false);
      if (this.next) this.go();
    }
  }
}
