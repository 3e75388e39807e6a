// The label map: 256 x 256 numbers. Brush and fill set whole pixels, so every colour is exactly one of the palette.
import { palettePng, readIds } from './png.js';
import { SIDE, strokes } from './pointer.js';

const REMEMBERED = 120; // steps that can be undone, 64 kB each

export class LabelPad {
  /** labels: [{id, colour, mirror}]. hooks as in SketchPad. */
  constructor(canvas, labels, hooks) {
    Object.assign(this, { canvas, labels, hooks, tool: 'brush', width: 14, mirror: false, label: 1 });
    this.ids = new Uint8Array(SIDE * SIDE);
    this.past = [];
    this.future = [];
    canvas.width = canvas.height = SIDE;
    this.context = canvas.getContext('2d');
    this.image = this.context.createImageData(SIDE, SIDE);
    this.pixels = new Uint32Array(this.image.data.buffer);
    this.colours = labels.map(({ colour }) => {
      const n = parseInt(colour.slice(1), 16);
      return (255 << 24 | (n & 255) << 16 | (n >> 8 & 255) << 8 | n >> 16) >>> 0; // little endian
    });
    strokes(canvas, {
      start: (point, event) => this.begin(point, (event.buttons & 32) > 0),
      move: (points) => this.extend(points),
      end: () => this.finish(),
      hover: (point, down) => hooks.cursor(point, this.tool === 'fill' ? 3 : this.width, down),
    });
    this.show();
  }

  get canUndo() { return this.past.length > 0; }
  get canRedo() { return this.future.length > 0; }
  get pictured() { return this.filled === true; }
  get empty() { return this.ids.every((id) => id === 0); }

  begin(point, penEraser) {
    this.remember();
    this.brush = penEraser || this.tool === 'eraser' ? 0 : this.label;
    if (this.tool === 'fill' && !penEraser) {
      this.fill(point.x, point.y, this.brush);
      if (this.mirror) this.fill(SIDE - 1 - Math.floor(point.x), point.y, this.labels[this.brush].mirror);
      this.last = null;
    } else {
      this.last = point;
      this.line(point, point);
    }
    this.show();
    this.hooks.change('moving');
  }

  extend(points) {
    if (!this.last) return;
    for (const point of points) {
      this.line(this.last, point);
      this.last = point;
    }
    this.show();
    this.hooks.change('moving');
  }

  finish() {
    this.last = null;
    const before = this.past.at(-1);
    if (before && before.every((id, k) => id === this.ids[k])) this.past.pop();
    this.hooks.state();
    this.hooks.change('done');
  }

  remember() {
    this.past = [...this.past.slice(1 - REMEMBERED), this.ids.slice()];
    this.future = [];
  }

  line(from, to) {
    const steps = Math.max(1, Math.ceil(Math.hypot(to.x - from.x, to.y - from.y) / Math.max(1, this.width / 4)));
    for (let k = 0; k <= steps; k += 1) {
      const x = from.x + ((to.x - from.x) * k) / steps;
      const y = from.y + ((to.y - from.y) * k) / steps;
      this.dot(x, y, this.brush);
      if (this.mirror) this.dot(SIDE - x, y, this.labels[this.brush].mirror);
    }
  }

  /** All pixels whose centre lies within the brush; at least the one under it. */
  dot(x, y, id) {
    const radius = this.width / 2;
    const [left, right] = [Math.max(0, Math.floor(x - radius)), Math.min(SIDE - 1, Math.ceil(x + radius))];
    const [top, bottom] = [Math.max(0, Math.floor(y - radius)), Math.min(SIDE - 1, Math.ceil(y + radius))];
    for (let row = top; row <= bottom; row += 1) {
      for (let column = left; column <= right; column += 1) {
        if ((column + 0.5 - x) ** 2 + (row + 0.5 - y) ** 2 <= radius * radius) this.ids[row * SIDE + column] = id;
      }
    }
    const [column, row] = [Math.floor(x), Math.floor(y)];
    if (column >= 0 && column < SIDE && row >= 0 && row < SIDE) this.ids[row * SIDE + column] = id;
  }

  /** The connected area of one label under the point gets another. */
  fill(x, y, id) {
    const start = Math.min(SIDE - 1, Math.max(0, Math.floor(y))) * SIDE + Math.min(SIDE - 1, Math.max(0, Math.floor(x)));
    const old = this.ids[start];
    if (old === id) return;
    const waiting = [start];
    this.ids[start] = id;
    while (waiting.length) {
      const at = waiting.pop();
      const column = at % SIDE;
      for (const next of [column > 0 ? at - 1 : -1, column < SIDE - 1 ? at + 1 : -1, at - SIDE, at + SIDE]) {
        if (next >= 0 && next < SIDE * SIDE && this.ids[next] === old) {
          this.ids[next] = id;
          waiting.push(next);
        }
      }
    }
  }

  show() {
    for (let k = 0; k < this.ids.length; k += 1) this.pixels[k] = this.colours[this.ids[k]];
    this.context.putImageData(this.image, 0, 0);
  }

  swap(from, to) {
    if (!from.length) return;
    to.push(this.ids);
    this.ids = from.pop();
    this.show();
    this.hooks.state();
    this.hooks.change('done');
  }

  undo() { this.swap(this.past, this.future); }
  redo() { this.swap(this.future, this.past); }
  clear() {
    this.filled = false;
    this.setIds(new Uint8Array(SIDE * SIDE));
  }
  setIds(ids) {
    this.remember();
    this.ids = ids;
    this.show();
    this.hooks.state();
    this.hooks.change('done');
  }

  /** A label PNG as the server sends it. */
  setImage(image) {
    this.filled = true; // the guide lines have done their work
    this.setIds(readIds(image, this.colours));
  }
  snapshot() { return this.ids.slice(); }
  restore(ids) {
    this.remember();
    this.ids = ids.slice();
    this.show();
    this.hooks.state();
  }

  /** PNG with the numbers themselves and the palette beside them. */
  blob() { return palettePng(this.ids, SIDE, this.labels.map(({ colour }) => colour)); }
}
