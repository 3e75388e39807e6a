// The settings on the page and the settings in memory, kept equal.
import { $, fillSlider, pngUrl, radios, toast } from './dom.js';
import { Edits } from './edits.js';
import { facePhoto, fileOf } from './importer.js';
import { Newest } from './newest.js';
import { DEFAULTS, change, onChange, settings } from './settings.js';
import { number, t } from './words.js';

const SLIDERS = ['coarse', 'middle', 'fine', 'truncation', 'follow'];
const USUAL = { truncation: 0.8, follow: 1 }; // where the model says nothing

export class Controls {
  /** hooks: model() -> the chosen model's record; importer, for its shelves; kept(): the style's photo changed. */
  constructor(hooks) {
    Object.assign(this, { hooks, png: null, newest: new Newest(), edits: new Edits() });
    this.setStyle = radios($('style'), 'value', (style) => this.chooseStyle(style));
    this.setCount = radios($('count'), 'value', (n) => change({ n: Number(n) }));
    for (const slider of document.querySelectorAll('[data-setting]')) {
      slider.addEventListener('input', () => change({ [slider.dataset.setting]: Number(slider.value) }, 'moving'));
      slider.addEventListener('change', () => change({ [slider.dataset.setting]: Number(slider.value) }));
      slider.addEventListener('dblclick', () => change({ [slider.dataset.setting]: DEFAULTS[slider.dataset.setting] }));
    }
    $('reset').addEventListener('click', () =>
      change(Object.fromEntries(SLIDERS.map((name) => [name, DEFAULTS[name]]))),
    );
    $('seed').addEventListener('change', () => {
      const seed = Number($('seed').value);
      if (/^[0-9]+$/.test($('seed').value.trim()) && seed <= 2147483000) change({ seed });
      else toast(t('seed.wrong'), { wrong: true });
      $('seed').value = settings.seed;
    });
    $('live').addEventListener('click', () => change({ live: !settings.live }));
    $('enhance').addEventListener('click', () => change({ enhance: !settings.enhance }));
    $('style-well').addEventListener('click', () => $('style-file').click());
    $('style-file').addEventListener('change', () => {
      this.takePhoto($('style-file').files[0]);
      $('style-file').value = '';
    });
    hooks.importer.fillShelf($('style-examples'), 'photo', 12, (example) => this.takePhoto(fileOf(example)));
    onChange(() => this.show());
    this.show();
  }

  chooseStyle(style) {
    if (style === 'photo' && !this.png) {
      settings.style = 'photo'; // shows the well; faces follow when there is a photo
      this.show();
      return;
    }
    change({ style });
  }

  /**
   * The face in a photo becomes the style, unless another photo or project came meanwhile. file: or a promise of one.
   */
  async takePhoto(file) {
    if (!file) return;
    const png = await facePhoto(file, this.newest.begin());
    if (!png) return;
    this.setPhoto(png);
    this.hooks.kept();
    settings.style = 'photo';
    change({});
  }

  setPhoto(png) {
    this.newest.stop();
    this.png = png;
    $('style-image').hidden = !png;
    if (png) Object.assign($('style-image'), { src: pngUrl(png), alt: t('style.from') });
  }

  show() {
    const model = this.hooks.model();
    const can = (feature) => !model?.features || model.features.includes(feature);
    for (const slider of document.querySelectorAll('[data-setting]')) {
      const name = slider.dataset.setting;
      const value = settings[name] ?? model?.[name] ?? USUAL[name];
      slider.value = value;
      slider.parentElement.querySelector('output').value = number(value, 2);
      const layers = model?.bands?.[name];
      slider.parentElement.title = layers ? t('layers', { layers, all: model.layers }) : t('reset.double');
      fillSlider(slider);
    }
    this.edits.show(model?.edits);
    if (document.activeElement !== $('seed')) $('seed').value = settings.seed; // not what is being typed
    this.setCount(settings.n);
    this.setStyle(settings.style);
    $('live').setAttribute('aria-checked', settings.live);
    $('make').hidden = settings.live;
    $('enhance').setAttribute('aria-checked', settings.enhance);
    $('style-photo-row').hidden = settings.style !== 'photo';
    for (const slider of document.querySelectorAll('[data-setting]:not([data-setting="follow"])'))
      slider.disabled = settings.style === 'own';
    $('follow-row').hidden = !model?.features?.includes('follow');
    $('style-card').hidden = !can('styles');
    $('between').hidden = !can('latent');
    $('lock').hidden = $('set-a').hidden = $('set-b').hidden = $('save-latent').hidden = !can('latent');
    $('dice').disabled = $('seed').disabled = !can('seed');
    for (const button of $('count').children) button.disabled = !can('seed') && button.dataset.value !== '1';
    const photo = $('style').querySelector('[data-value="photo"]');
    photo.disabled = !can('style_photo');
    photo.title = can('style_photo') ? '' : t('style.no-photos');
    if (!can('style_photo') && settings.style === 'photo') {
      settings.style = 'random';
      this.setStyle('random');
    }
  }
}
