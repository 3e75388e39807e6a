// A slider between two faces: codes are interpolated on the server, pictures that were made once are kept.
import { post, session } from './api.js';
import { captionOf, factsOf } from './captions.js';
import { $, busy, fillSlider, make, pngUrl, toast } from './dom.js';
import { ApiError } from './errors.js';
import { t } from './words.js';

const WAIT = 60; // ms
const FRAMES = 17; // of a film from A to B

export class Between {
  /**
   * hooks: show(item, facts): an interpolated face arrived; kept(): an end changed and should be remembered;
   * selected(): the face that an empty end gets when it is clicked.
   */
  constructor(hooks) {
    Object.assign(this, { hooks, ends: { a: null, b: null }, made: new Map(), timer: 0, running: null });
    this.slider = $('between-at');
    fillSlider(this.slider);
    this.slider.addEventListener('input', () => {
      fillSlider(this.slider);
      this.go();
    });
    for (const name of ['a', 'b']) $(`end-${name}`).addEventListener('click', () => this.jump(name));
    this.show();
  }

  get ready() {
    return Boolean(this.ends.a && this.ends.b && this.ends.a.model === this.ends.b.model);
  }

  set(name, item) {
    if (!item?.latent) {
      toast(t('between.none'), { wrong: true });
      return;
    }
    this.ends[name] = item;
    this.made.clear();
    this.show();
    this.hooks.kept();
    this.go();
  }

  restore({ a = null, b = null } = {}) {
    this.ends = { a, b };
    this.made.clear();
    this.show();
  }

  show() {
    const { a, b } = this.ends;
    for (const [name, item] of Object.entries(this.ends)) {
      const button = $(`end-${name}`);
      const letter = name.toUpperCase();
      button.replaceChildren(
        ...(item ? [make('img', { src: pngUrl(item.png), alt: '' })] : []),
        make('span', {}, letter),
      );
      button.classList.toggle('filled', Boolean(item));
      button.setAttribute('aria-label', `${letter}: ${item ? captionOf(item) : t('between.empty')}`);
    }
    this.slider.disabled = $('film').disabled = !this.ready;
    $('compare').disabled = !(a && b);
    $('between-words').textContent = this.ready
      ? t('between.ready')
      : a && b
        ? t('between.models')
        : a || b
          ? t('between.other', { letter: a ? 'B' : 'A' })
          : t('between.start');
  }

  jump(name) {
    if (!this.ends[name] && this.hooks.selected()) {
      this.set(name, this.hooks.selected());
      return;
    }
    if (!this.ready) return;
    this.slider.value = name === 'a' ? 0 : 1;
    fillSlider(this.slider);
    this.go();
  }

  go() {
    if (!this.ready) return;
    clearTimeout(this.timer);
    const at = Number(this.slider.value);
    if (this.made.has(at)) {
      this.hooks.show(...this.made.get(at));
      return;
    }
    if (this.running) {
      this.next = true;
      return;
    } // one at a time; the newest position follows
    this.timer = setTimeout(() => this.ask(at), WAIT);
  }

  /** Something newer is about to be shown: no face from here comes in between. */
  stop() {
    clearTimeout(this.timer);
    this.next = false;
    this.running?.abort();
  }

  async ask(at) {
    const { a, b } = this.ends;
    const { signal } = (this.running = new AbortController());
    busy('between', true);
    this.next = false;
    try {
      const answer = await post(
        'api/interpolate',
        { model: a.model, a: a.latent, b: b.latent, t: at, session },
        signal,
      );
      const seeds = [a, b].flatMap((end) => end.seeds ?? end.seed); // an end may lie between two faces itself
      const item = { ...answer.pictures[0], model: a.model, between: at, seeds };
      if (signal.aborted || a !== this.ends.a || b !== this.ends.b) return;
      this.made.set(at, [item, factsOf(answer)]);
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

  /** The pictures from A to B, base64. */
  async frames() {
    const { a, b } = this.ends;
    const at = Array.from({ length: FRAMES }, (_, k) => k / (FRAMES - 1)).join(',');
    const { pictures } = await post('api/interpolate', {
      model: a.model,
      a: a.latent,
      b: b.latent,
      t: at,
      session: `${session}-film`,
    }); // faces that are being made go on
    return pictures.map(({ png }) => png);
  }
}
