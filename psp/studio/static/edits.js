// Sliders for what a model can change about a face: age, smile, ... Shown when its record has `edits`.
import { $, fillSlider, make } from './dom.js';
import { change, editsText, settings } from './settings.js';
import { knows, number, t } from './words.js';

const MIDDLE = 0; // every edit has no effect here

const editsOf = () => (settings.edits ? JSON.parse(settings.edits) : {});

export class Edits {
  constructor() {
    $('edits-reset').addEventListener('click', () => change({ edits: '' }));
  }

  /** edits: [{name, from, to}, ...] of the model, or nothing. */
  show(edits) {
    $('edits-card').hidden = !edits?.length;
    if (!edits?.length) return;
    const key = JSON.stringify(edits);
    if (key !== this.drawn) {
      this.drawn = key;
      $('edits').replaceChildren(...edits.map((edit) => this.slider(edit)));
    }
    const amounts = editsOf();
    for (const slider of $('edits').querySelectorAll('input')) {
      slider.value = amounts[slider.dataset.edit] ?? MIDDLE;
      const button = slider.parentElement.querySelector('button');
      button.textContent = number(Number(slider.value), 1);
      button.ariaLabel = `${button.dataset.title} ${button.textContent}: ${t('edits.one')}`;
      button.disabled = !amounts[slider.dataset.edit];
      fillSlider(slider);
    }
    $('edits-reset').disabled = !settings.edits;
  }

  slider({ name, from, to }) {
    const title = knows(`edit.${name}`) ? t(`edit.${name}`) : name;
    const slider = make('input', { type: 'range', min: from, max: to, step: (to - from) / 40 });
    slider.dataset.edit = name;
    const set = (amount, how) => change({ edits: editsText({ ...editsOf(), [name]: amount }) }, how);
    slider.addEventListener('input', () => set(Number(slider.value), 'moving'));
    slider.addEventListener('change', () => set(Number(slider.value), 'done'));
    const reset = make('button', { type: 'button', className: 'amount', title: t('edits.one') });
    reset.dataset.title = title;
    reset.addEventListener('click', () => set(MIDDLE, 'done'));
    return make('label', {}, make('span', {}, title), slider, reset);
  }
}
