// When faces are asked for: soon after the hand rests, again while it moves if the model is quick, never more than one
// request at a time, and the newest wins.
import { post, session } from './api.js';
import { $, busy, toast } from './dom.js';
import { ApiError } from './errors.js';
import { Newest } from './newest.js';
import { change, settings } from './settings.js';
import { t } from './words.js';

const REST = 160; // ms after the last stroke
const WHILE_MOVING = 90; // ms between two requests while the pen is down
const QUICK = 0.7; // seconds; slower models wait for the end of the stroke
const GONE = 3; // seconds after which a server that does not answer is asked again

export class Maker {
  /**
   * source(): {image} or {latent} as blobs with `from`, what they are, or null when there is nothing to start from.
   * model(): the chosen model's record. stylePhoto(): blob or null. asked(): faces will be asked for. made(answer, how,
   * from): they arrived. replaced(): whether somebody else's newer request took the place of this one. busy(on): it
   * works, or it has come to rest.
   */
  constructor(hooks) {
    Object.assign(this, { hooks, timer: 0, running: null, again: null, gone: null, newest: new Newest() });
  }

  /** Ask for faces. how: 'moving' (the hand is still busy), 'done', or 'now' (a button was pressed). */
  ask(how = 'done') {
    if (!settings.live && how !== 'now') return;
    this.hooks.asked();
    if (how === 'moving') {
      if ((this.hooks.model()?.seconds_per_picture ?? 9) * settings.n > QUICK) return;
      if (this.running || this.timer) {
        this.again = this.again ?? 'moving';
        return;
      }
    }
    clearTimeout(this.timer);
    this.busy(true);
    this.timer = setTimeout(() => {
      this.timer = 0;
      this.run(how);
    }, { moving: WHILE_MOVING, done: REST, now: 0 }[how]);
  }

  cancel() {
    clearTimeout(this.timer);
    clearTimeout(this.patience);
    this.timer = 0;
    this.newest.stop();
    this.again = null;
    this.running?.abort();
    this.running = null;
    this.progress(false);
    this.busy(false);
  }

  busy(on) {
    busy('maker', on || this.timer > 0);
    this.hooks.busy(on);
  }

  async run(how) {
    if (how === 'moving' && this.running) {
      this.again = 'moving';
      return;
    }
    const isNewest = this.newest.begin();
    const all = await this.hooks.source();
    if (!isNewest()) return; // a newer one came, or all were called off, while this one was being packed
    if (!all) {
      this.cancel();
      return;
    }
    const { from, ...source } = all;
    this.running?.abort();
    clearTimeout(this.patience);
    const controller = (this.running = new AbortController());
    this.again = null;
    this.progress(true);
    const { model, n, seed, style, coarse, middle, fine, truncation, enhance } = settings;
    const { features, edits } = this.hooks.model() ?? {};
    const photo = style === 'photo' ? this.hooks.stylePhoto() : null;
    const mixing = source.latent ? { coarse: 0, middle: 0, fine } : { coarse, middle, fine };
    try {
      const answer = await post(
        'api/generate',
        {
          ...source,
          model,
          n,
          seed,
          style: photo ? 'photo' : style === 'own' ? 'own' : 'random',
          style_photo: photo,
          ...mixing,
          vary: mixing.middle > 0 ? 'people' : 'colours',
          truncation,
          enhance: enhance || null,
          session,
          follow: features?.includes('follow') ? settings.follow : null,
          edits: edits?.length ? settings.edits || null : null,
        },
        controller.signal,
      );
      if (this.running !== controller) return;
      this.gone?.();
      this.gone = null;
      await this.hooks.made(answer, how, from);
    } catch (error) {
      if (error.name === 'AbortError' || this.running !== controller) return;
      this.failed(error);
    } finally {
      if (this.running === controller) {
        this.running = null;
        this.progress(false);
        this.busy(false);
        if (this.again) this.ask(this.again);
      }
    }
  }

  failed(error) {
    if (!(error instanceof ApiError)) throw error;
    if (error.status === 409 && /^This model cannot/.test(error.message)) return; // the menu tells of models
    if (error.status === 409 && /^A newer request/.test(error.message)) {
      if (!this.timer && !this.hooks.replaced()) this.ask('now');
      return;
    }
    if (error.status === 503 || error.status === 429) {
      toast(t('busy'), { seconds: 3 });
      this.askLater(Math.max(1, error.retryAfter));
      return;
    }
    const again = () => {
      this.gone = null;
      this.ask('now');
    };
    if (error.status) {
      toast(error.message, { wrong: true, action: [t('again'), again] });
      return;
    }
    // said once, until it answers
    this.gone ??= toast(error.message, { wrong: true, action: [t('again'), again], seconds: 600 });
    this.askLater(GONE);
  }

  askLater(seconds) {
    this.patience = setTimeout(() => this.running || this.timer || this.run('done'), 1000 * seconds);
  }

  /** A bar that fills in about the time that the model took lately, or one that only moves when that is unknown. */
  progress(on) {
    const bar = $('progress');
    clearTimeout(this.barTimer);
    bar.classList.remove('on', 'timed');
    if (!on) return;
    const seconds = (this.hooks.model()?.seconds_per_picture ?? 0) * settings.n;
    this.barTimer = setTimeout(() => {
      bar.style.setProperty('--seconds', `${seconds * 1.15}s`);
      bar.classList.add(seconds > 0.6 ? 'timed' : 'on');
      if (seconds > 1.5) $('grid').classList.add('stale');
    }, 250);
  }
}

export function anotherSeed() {
  change({ seed: Math.floor(Math.random() * 1e6) });
}
