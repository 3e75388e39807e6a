// The settings on the page and the settings in memory, kept equal.
import { ApiError, post } from './api.js';
import { $, busy, bytesOf, fillSlider, pngUrl, radios, toast } from './dom.js';
import { fileOf } from './importer.js';
import { DEFAULTS, change, onChange, settings } from './settings.js';

const SLIDERS = ['coarse', 'middle', 'fine', 'truncation'];

export class Controls {
  /** hooks: model() -> the chosen model's record; importer, for its shelves of examples. */
  constructor(hooks) {
    Object.assign(this, { hooks, photo: null });
    this.setStyle = radios($('style'), 'value', (style) => this.chooseStyle(style));
    this.setCount = radios($('count'), 'value', (n) => change({ n: Number(n) }));
    for (const slider of document.querySelectorAll('[data-setting]')) {
      slider.addEventListener('input', () => change({ [slider.dataset.setting]: Number(slider.value) }, 'moving'));
      slider.addEventListener('change', () => change({ [slider.dataset.setting]: Number(slider.value) }));
      slider.addEventListener('dblclick', () => change({ [slider.dataset.setting]: DEFAULTS[slider.dataset.setting] }));
    }
    $('reset').addEventListener('click', () => change(Object.fromEntries(SLIDERS.map((name) => [name, DEFAULTS[name]]))));
    $('seed').addEventListener('change', () => {
      const seed = Number($('seed').value);
      if (/^[0-9]+$/.test($('seed').value.trim()) && seed <= 2147483000) change({ seed });
      else { toast('A seed is a whole number from 0 to 2147483000.', { wrong: true }); this.show(); }
    });
    $('live').addEventListener('click', () => change({ live: !settings.live }));
    $('enhance').addEventListener('click', () => change({ enhance: !settings.enhance }));
    $('style-well').addEventListener('click', () => $('style-file').click());
    $('style-file').addEventListener('change', () => { this.takePhoto($('style-file').files[0]); $('style-file').value = ''; });
    hooks.importer.fillShelf($('style-examples'), 'photo', 12, async (example) => this.takePhoto(await fileOf(example)));
    onChange(() => this.show());
    this.show();
  }

  chooseStyle(style) {
    if (style === 'photo' && !this.photo) {
      settings.style = 'photo'; // shows the well; faces follow when there is a photo
      this.show();
      return;
    }
    change({ style });
  }

  /** The face in a photo becomes the style. */
  async takePhoto(file) {
    if (!file) return;
    busy('style', true);
    try {
      const made = await post('api/photo', { image: file });
      this.photo = new Blob([bytesOf(made.png)], { type: 'image/png' });
      $('style-image').src = pngUrl(made.png);
      $('style-image').alt = `The style is taken from ${file.name}`;
      $('style-image').hidden = false;
      if (made.notes.some((note) => note.startsWith('no face'))) toast(`In ${file.name} ${made.notes[0]}.`);
      settings.style = 'photo';
      change({});
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      toast(error.message, { wrong: true });
    } finally {
      busy('style', false);
    }
  }

  show() {
    const model = this.hooks.model();
    const can = (feature) => !model?.features || model.features.includes(feature);
    for (const slider of document.querySelectorAll('[data-setting]')) {
      const value = settings[slider.dataset.setting] ?? model?.[slider.dataset.setting] ?? 0.8;
      slider.value = value;
      slider.parentElement.querySelector('output').value = value.toFixed(2);
      const layers = model?.bands?.[slider.dataset.setting];
      slider.parentElement.title = layers ? `Layers ${layers} of ${model.layers}. Double-click for the default.` : '';
      fillSlider(slider);
    }
    $('seed').value = settings.seed;
    this.setCount(settings.n);
    this.setStyle(settings.style);
    $('live').setAttribute('aria-checked', settings.live);
    $('make').hidden = settings.live;
    $('enhance').setAttribute('aria-checked', settings.enhance);
    $('style-photo-row').hidden = settings.style !== 'photo';
    $('mixing').classList.toggle('off', settings.style === 'own');
    for (const slider of $('mixing').querySelectorAll('input')) slider.disabled = settings.style === 'own';
    $('style-card').hidden = !can('styles');
    $('between').hidden = !can('latent');
    $('lock').hidden = $('set-a').hidden = $('set-b').hidden = $('save-latent').hidden = !can('latent');
    $('dice').disabled = $('seed').disabled = !can('seed');
    for (const button of $('count').children) button.disabled = !can('seed') && button.dataset.value !== '1';
    const photo = $('style').querySelector('[data-value="photo"]');
    photo.disabled = !can('style_photo');
    photo.title = can('style_photo') ? '' : 'This model has no encoder for photos';
    if (!can('style_photo') && settings.style === 'photo') { settings.style = 'random'; this.setStyle('random'); }
  }
}
