// Toolbars under the two canvases, the label palette, the brush's outline and the keys that go with them.
import { $, fillSlider, icon, make, radios, save } from './dom.js';
import { SIDE } from './drawing.js';
import { number, t, translate } from './words.js';

const WIDTH_STEPS = { sketch: 1, labels: 2 };
/** Keys for the width; many keyboards have them with AltGr or Option alone. */
export const BRACKETS = ['[', ']'];
const KEYS = { p: ['pen', 'brush'], d: ['pencil'], e: ['eraser'], v: ['select'], f: ['fill'] };

export class Tools {
  /** kept(): something that should be remembered changed. */
  constructor(kind, pad, kept) {
    Object.assign(this, { kind, pad, kept, guide: 'auto' });
    this.bar = document.querySelector(`[data-tools="${kind}"]`);
    this.bar.append(sharedTools(kind));
    this.sheet = document.querySelector(`[data-pad="${kind}"]`);
    this.cursorBox = this.sheet.querySelector('.cursor');
    this.setTool = radios(this.bar.querySelector('[data-tool]').parentElement, 'tool', (tool) => this.choose(tool));
    this.setShape = radios(this.bar.querySelector('[data-shape]').parentElement, 'shape', (shape) => {
      pad.shape = shape;
    });
    this.setShape(pad.shape);
    this.slider = this.bar.querySelector('[data-width]');
    this.slider.addEventListener('input', () => this.width(Number(this.slider.value)));
    this.smoothing = this.bar.querySelector('[data-smoothing]');
    this.smoothing?.addEventListener('input', () => this.smooth(Number(this.smoothing.value)));
    for (const button of this.bar.querySelectorAll('[data-toggle]')) {
      button.addEventListener('click', () => this.toggle(button.dataset.toggle));
    }
    for (const button of this.bar.querySelectorAll('[data-do]')) {
      button.addEventListener('click', () => this.act(button.dataset.do));
    }
    this.width(Number(this.slider.value));
    if (this.smoothing) this.smooth(pad.smoothing);
  }

  choose(tool) {
    Object.assign(this.pad, { tool, placed: null });
    this.setTool(tool);
    this.sheet.dataset.hand = tool;
    if (tool !== 'select') this.pad.selection?.drop();
    this.refresh();
  }

  width(value) {
    const { min, max } = this.slider;
    this.slider.value = Math.min(max, Math.max(min, value));
    this.pad.width = Number(this.slider.value);
    this.slider.nextElementSibling.value = number(this.pad.width);
    fillSlider(this.slider);
    this.kept();
  }

  smooth(value) {
    this.pad.smoothing = this.smoothing.value = value;
    fillSlider(this.smoothing);
    this.kept();
  }

  toggle(name) {
    if (name === 'mirror') this.pad.mirror = !this.pad.mirror;
    else this.guide = this.guided ? 'off' : 'on';
    this.refresh();
    this.kept();
  }

  /** The guide goes when a picture comes, unless it was asked to stay. */
  get guided() {
    return this.guide === 'on' || (this.guide === 'auto' && !this.pad.pictured);
  }

  async act(name) {
    if (name === 'save') save(`${this.kind}.png`, [await this.pad.blob()], 'image/png');
    else this.pad[name]();
  }

  refresh() {
    const { pad } = this;
    const can = { undo: pad.canUndo, redo: pad.canRedo, clear: !pad.empty, save: !pad.empty };
    for (const [name, on] of Object.entries(can)) this.bar.querySelector(`[data-do="${name}"]`).disabled = !on;
    this.bar.querySelector('[data-toggle="mirror"]').setAttribute('aria-pressed', pad.mirror);
    this.bar.querySelector('[data-toggle="guide"]').setAttribute('aria-pressed', this.guided);
    this.sheet.querySelector('.guide').classList.toggle('gone', !this.guided);
  }

  chosen() {
    const {
      guide,
      pad: { width, mirror, smoothing },
    } = this;
    return { guide, width, mirror, smoothing };
  }

  restore({ guide = 'auto', width, mirror = false, smoothing } = {}) {
    Object.assign(this, { guide });
    this.pad.mirror = mirror;
    if (width) this.width(width);
    if (this.smoothing && smoothing !== undefined) this.smooth(smoothing);
    this.refresh();
  }

  /** The outline of brush or eraser under the pointer; keyboard: always, with a colour when the pen is down. */
  cursor(point, width, down) {
    const byKeys = down !== undefined;
    const fine = this.kind === 'sketch' && this.pad.tool !== 'eraser';
    this.cursorBox.hidden = !point || (!byKeys && fine);
    if (this.cursorBox.hidden) return;
    this.cursorBox.classList.toggle('down', Boolean(down));
    Object.assign(this.cursorBox.style, {
      left: `${(point.x / SIDE) * 100}%`,
      top: `${(point.y / SIDE) * 100}%`,
      width: `${(Math.max(width, byKeys ? 5 : 2) / SIDE) * 100}%`,
      aspectRatio: 1,
    });
  }

  /** True when the key meant something here. */
  key(event) {
    const letter = event.key.toLowerCase();
    const { pad } = this;
    if (BRACKETS.includes(letter) && !event.metaKey && (event.altKey || !event.ctrlKey)) {
      this.width(pad.width + (letter === ']' ? 1 : -1) * WIDTH_STEPS[this.kind]);
      return true;
    }
    if (event.ctrlKey || event.metaKey) {
      if (letter === 'z') this.pad[event.shiftKey ? 'redo' : 'undo']();
      else if (letter === 'y') this.pad.redo();
      else return false;
      return true;
    }
    const tool = (KEYS[letter] ?? []).find((name) => this.bar.querySelector(`[data-tool="${name}"]`));
    if (tool) this.choose(tool);
    else if (letter === 'm') this.toggle('mirror');
    else if (letter === 'g') this.toggle('guide');
    else if (letter === '+' || letter === '=') pad.view.by(1.25);
    else if (letter === '-') pad.view.by(0.8);
    else if (letter === '0') pad.view.reset();
    else if (['delete', 'backspace'].includes(letter) && pad.selection?.at.length) pad.selection.remove();
    else if (letter === 'escape' && pad.selection?.at.length) pad.selection.drop();
    else return false;
    return true;
  }
}

/** What both canvases have behind their own tools: the line's shape, mirror and guide, undo to save. */
function sharedTools(kind) {
  const shared = $('canvas-tools').content.cloneNode(true);
  if (kind === 'labels') {
    shared.querySelector('[data-smoothing]').parentElement.remove();
    shared.querySelector('[data-do="save"]').dataset.tTitle = 'save.labels';
  }
  translate(shared);
  return shared;
}

/** Colour chips with names; the colours are drawn as SVG, since the page's policy allows no style attributes. */
export function palette(labels, pad) {
  const box = $('palette');
  for (const { id, name, colour } of labels) {
    const chip = icon('none');
    chip.setAttribute('viewBox', '0 0 16 16');
    const dot = document.createElementNS('http://www.w3.org/2000/svg', 'circle');
    for (const [key, value] of Object.entries({ cx: 8, cy: 8, r: 7, fill: colour })) dot.setAttribute(key, value);
    chip.replaceChildren(dot);
    const title = t(`label.${name}`);
    const side = /^[lr]_/.test(name) && !name.endsWith('lip') ? `: ${t('label.side')}` : '';
    const button = make('button', { type: 'button', title: `${id} ${title}${side}` }, chip, title);
    button.setAttribute('role', 'radio');
    button.dataset.label = id;
    box.append(button);
  }
  const set = radios(box, 'label', (id) => {
    pad.label = Number(id);
    if (pad.tool === 'eraser') document.querySelector('[data-tools="labels"] [data-tool="brush"]').click();
  });
  set(pad.label);
}
