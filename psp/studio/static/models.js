// The model menu: which there are, which one is chosen, and how far its reading has come.
import { get, post } from './api.js';
import { titleOf } from './captions.js';
import { $, make } from './dom.js';
import { knows, number, t } from './words.js';

const GROUPS_FIRST = 'Yours';

export class Models {
  /**
   * hooks: changed() after anything about the chosen model changed; failed(model, before) when it could not be read.
   */
  constructor(hooks) {
    Object.assign(this, { hooks, all: [], chosen: null, preferred: {} });
    this.select = $('model');
  }

  async start(wanted) {
    await this.refresh();
    const first = this.find(wanted) ?? this.find(this.standard) ?? this.all[0];
    this.chosen = first.id;
  }

  get current() {
    return this.find(this.chosen);
  }
  find(id) {
    return this.all.find((model) => model.id === id);
  }
  kinds() {
    return new Set(this.all.map((model) => model.input).filter(Boolean));
  }

  /** The model of this kind that was chosen last, or the first there is. */
  forKind(kind) {
    const last = this.find(this.preferred[kind]);
    return last ?? this.all.find((model) => model.input === kind && model.state !== 'failed') ?? null;
  }

  choose(id) {
    if (this.chosen !== id) this.before = this.chosen;
    this.chosen = id;
    if (this.current.input) this.preferred[this.current.input] = id;
    this.draw();
    this.hooks.changed();
    this.load();
  }

  /** Have the chosen model read, and follow that until it is done. */
  async load() {
    const id = this.chosen;
    if (this.current.state === 'ready') return;
    try {
      Object.assign(this.find(id), await post('api/load', { model: id }));
    } catch {
      /* the next request will say it */
    }
    this.draw();
    this.hooks.changed();
    this.follow();
  }

  follow() {
    clearTimeout(this.timer);
    this.timer = setTimeout(async () => {
      const known = this.current.input;
      const before = this.current.state;
      try {
        await this.refresh();
      } catch {
        /* the server is gone: whoever asks for faces says so */
      }
      const now = this.current;
      if (now.input && !known) this.preferred[now.input] = now.id;
      this.hooks.changed();
      if (now.state === 'failed' && before !== 'failed') this.hooks.failed(now, this.find(this.before));
      if (this.all.some((model) => model.state === 'loading')) this.follow();
    }, 400);
  }

  async refresh() {
    const { models, default: standard, device } = await get('api/models');
    Object.assign(this, { all: models, standard, device });
    this.draw();
  }

  note(id, values) {
    Object.assign(this.find(id) ?? {}, values);
  }

  draw() {
    const key = JSON.stringify(this.all.map((model) => [model.id, model.input, model.state === 'failed']));
    if (key !== this.drawn) {
      this.drawn = key;
      const groups = new Map();
      for (const model of this.all) groups.set(model.group, [...(groups.get(model.group) ?? []), model]);
      const sorted = [...groups].sort(([a], [b]) => (b === GROUPS_FIRST) - (a === GROUPS_FIRST));
      this.select.replaceChildren(
        ...sorted
          .map(([label, models]) => {
            const options = models.map((model) =>
              make(
                'option',
                { value: model.id, disabled: model.state === 'failed' },
                model.group === GROUPS_FIRST && model.input
                  ? `${titleOf(model)}, ${t(`from.${model.input}`)}`
                  : titleOf(model),
              ),
            );
            return sorted.length > 1
              ? grouped(knows(`group.${label}`) ? t(`group.${label}`) : label, options)
              : options;
          })
          .flat(),
      );
    }
    this.select.value = this.chosen ?? '';
  }

  /** What is known about the chosen model, for the line below the settings. */
  facts() {
    const model = this.current;
    const words = [];
    if (model.size) words.push(`${model.size} px`, model.layers ? t('facts.layers', { n: model.layers }) : '');
    words.push(this.device);
    if (model.seconds_per_picture) words.push(t('facts.each', { seconds: number(model.seconds_per_picture, 2) }));
    if (model.state === 'loading') words.push(t('facts.reading', { seconds: Math.round(model.loading_for ?? 0) }));
    if (model.state === 'failed') words.push(model.error);
    return words.filter(Boolean).join(' · ');
  }
}

function grouped(label, options) {
  const group = make('optgroup', { label });
  group.append(...options);
  return group;
}
