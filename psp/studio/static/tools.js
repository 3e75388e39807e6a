// Toolbars under the two canvases, the label palette, the brush's outline and the keys that go with them.
import { $, fillSlider, icon, make, radios, save } from './dom.js';
import { SIDE } from './pointer.js';

const WIDTH_STEPS = { sketch: 1, labels: 2 };

export class Tools {
  constructor(kind, pad) {
    Object.assign(this, { kind, pad });
    this.bar = document.querySelector(`[data-tools="${kind}"]`);
    this.sheet = document.querySelector(`[data-pad="${kind}"]`);
    this.cursorBox = this.sheet.querySelector('.cursor');
    this.setTool = radios(this.bar.querySelector('[role="radiogroup"]'), 'tool', (tool) => { pad.tool = tool; });
    this.slider = this.bar.querySelector('[data-width]');
    this.slider.addEventListener('input', () => this.width(Number(this.slider.value)));
    this.width(Number(this.slider.value));
    for (const button of this.bar.querySelectorAll('[data-toggle]')) {
      button.addEventListener('click', () => this.toggle(button.dataset.toggle));
    }
    for (const button of this.bar.querySelectorAll('[data-do]')) {
      button.addEventListener('click', () => this.act(button.dataset.do));
    }
    this.refresh();
  }

  width(value) {
    const { min, max } = this.slider;
    this.slider.value = Math.min(max, Math.max(min, value));
    this.pad.width = Number(this.slider.value);
    this.slider.nextElementSibling.value = this.slider.value;
    fillSlider(this.slider);
  }

  toggle(name) {
    const button = this.bar.querySelector(`[data-toggle="${name}"]`);
    if (!button) return;
    const on = button.getAttribute('aria-pressed') !== 'true';
    button.setAttribute('aria-pressed', on);
    if (name === 'mirror') this.pad.mirror = on;
    this.refresh();
  }

  async act(name) {
    if (name === 'save') save(`${this.kind}.png`, [await this.pad.blob()], 'image/png');
    else this.pad[name]();
  }

  refresh() {
    const { pad } = this;
    const can = { undo: pad.canUndo, redo: pad.canRedo, clear: !pad.empty, save: !pad.empty };
    for (const [name, on] of Object.entries(can)) this.bar.querySelector(`[data-do="${name}"]`).disabled = !on;
    const guide = this.sheet.querySelector('.guide');
    if (guide) guide.style.display = this.bar.querySelector('[data-toggle="guide"]').getAttribute('aria-pressed') === 'true' && !pad.pictured ? '' : 'none';
  }

  /** The outline of brush or eraser under the pointer; keyboard: always, with a colour when the pen is down. */
  cursor(point, width, down) {
    const byKeys = down !== undefined;
    const hidden = !point || (!byKeys && this.kind === 'sketch' && this.pad.tool === 'pen');
    this.cursorBox.hidden = hidden;
    if (hidden) return;
    this.cursorBox.classList.toggle('down', Boolean(down));
    const shown = this.kind === 'sketch' && this.pad.tool === 'eraser' && width < 6 ? width * 4 : width;
    Object.assign(this.cursorBox.style, {
      left: `${(point.x / SIDE) * 100}%`, top: `${(point.y / SIDE) * 100}%`, width: `${(Math.max(shown, byKeys ? 5 : 2) / SIDE) * 100}%`, aspectRatio: 1,
    });
  }

  /** True when the key meant something here. */
  key(event) {
    const letter = event.key.toLowerCase();
    if (event.ctrlKey || event.metaKey) {
      if (letter === 'z') this.pad[event.shiftKey ? 'redo' : 'undo']();
      else if (letter === 'y') this.pad.redo();
      else return false;
      return true;
    }
    const tool = { p: this.kind === 'sketch' ? 'pen' : 'brush', b: this.kind === 'sketch' ? 'pen' : 'brush', e: 'eraser', f: 'fill' }[letter];
    const button = tool && this.bar.querySelector(`[data-tool="${tool}"]`);
    if (button) button.click();
    else if (letter === '[' || letter === ']') this.width(this.pad.width + (letter === ']' ? 1 : -1) * WIDTH_STEPS[this.kind]);
    else if (letter === 'm') this.toggle('mirror');
    else if (letter === 'g') this.toggle('guide');
    else return false;
    return true;
  }
}

/** Colour chips with names; the colours are drawn as SVG, since the page's policy allows no style attributes. */
export function palette(labels, pad) {
  const box = $('palette');
  for (const { id, title, colour } of labels) {
    const chip = icon('none');
    chip.setAttribute('viewBox', '0 0 16 16');
    const dot = document.createElementNS('http://www.w3.org/2000/svg', 'circle');
    for (const [name, value] of Object.entries({ cx: 8, cy: 8, r: 7, fill: colour })) dot.setAttribute(name, value);
    chip.replaceChildren(dot);
    const button = make('button', { type: 'button', title: `${id} ${title}${/^(left|right) /.test(title) ? ", as the person would say" : ''}` }, chip, title);
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
