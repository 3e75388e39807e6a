// The label map: 256 x 256 numbers. Brush and fill set whole pixels, so every colour is exactly one of the palette.
import { SIDE, packChanges, packIds, shape, unpackChanges, unpackIds } from './drawing.js';
import { History } from './history.js';
import { palettePng } from './png.js';
import { shapeFor, strokes } from './pointer.js';
import { View } from './view.js';

/** What changed between two maps, small enough that every step can be kept: numbers of pixels, ids before and after. */
export function difference(before, after) {
  const at = Uint16Array.from(after.keys()).filter((k) => before[k] !== after[k]);
  return at.length
    ? { at, from: Uint8Array.from(at, (k) => before[k]), to: Uint8Array.from(at, (k) => after[k]) }
    : null;
}

export class LabelPad {
  /** labels: [{id, colour, mirror}]. hooks as in SketchPad. */
  constructor(canvas, labels, hooks) {
    Object.assign(this, {
      canvas,
      labels,
      hooks,
      tool: 'brush',
      width: 14,
      mirror: false,
      shape: 'free',
      label: 1,
      history: new History(),
      before: null,
      filled: false,
    });
    this.ids = new Uint8Array(SIDE * SIDE);
    canvas.width = canvas.height = SIDE;
    this.context = canvas.getContext('2d');
    this.image = this.context.createImageData(SIDE, SIDE);
    this.pixels = new Uint32Array(this.image.data.buffer);
    this.colours = labels.map(({ colour }) => {
      const n = parseInt(colour.slice(1), 16);
      return ((255 << 24) | ((n & 255) << 16) | (((n >> 8) & 255) << 8) | (n >> 16)) >>> 0; // little endian
    });
    this.view = new View(canvas.closest('.sheet'), () => {});
    strokes(canvas, this.view, {
      start: (point, event) => this.begin(point, event),
      move: (points, event) => this.extend(points, event),
      end: () => this.finish(),
      cancel: () => this.cancel(),
      hover: (point, down) => hooks.cursor(point, this.tool === 'fill' ? 3 : this.width, down),
    });
    this.show();
  }

  get canUndo() {
    return this.history.canUndo;
  }
  get canRedo() {
    return this.history.canRedo;
  }
  get pictured() {
    return this.filled;
  }
  get empty() {
    return this.ids.every((id) => id === 0);
  }

  begin(point, event) {
    this.before = this.ids.slice();
    const erases = (event.buttons & 32) > 0;
    this.brush = erases || this.tool === 'eraser' ? 0 : this.label;
    if (this.tool === 'fill' && !erases) {
      this.fill(point.x, point.y, this.brush);
      if (this.mirror) this.fill(SIDE - 1 - Math.floor(point.x), point.y, this.labels[this.brush].mirror);
      this.last = null;
    } else {
      this.last = this.from = point;
      this.line(point, point);
    }
    this.show();
    this.hooks.change('moving');
  }

  extend(points, event) {
    if (!this.last) return;
    const fixed = shape(shapeFor(event, this.shape), this.from, points.at(-1));
    if (fixed) {
      this.ids.set(this.before);
      for (let k = 1; k < fixed.length; k += 1) this.line(fixed[k - 1], fixed[k]);
    } else {
      for (const point of points) {
        this.line(this.last, point);
        this.last = point;
      }
    }
    this.show();
    this.hooks.change('moving');
  }

  finish() {
    if (!this.before) return;
    this.remember(this.before);
    this.hooks.state();
    this.hooks.change('done');
  }

  cancel() {
    if (!this.before) return;
    this.ids.set(this.before);
    this.last = this.before = null;
    this.show();
    this.hooks.change('dropped');
  }

  /** What changed since `before` becomes a step; filled: whether a picture lies there now. */
  remember(before, filled = this.filled) {
    const step = difference(before, this.ids);
    if (step) this.history.push({ ...step, filled: [this.filled, filled] });
    this.filled = filled;
    this.last = this.before = null;
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
    const start =
      Math.min(SIDE - 1, Math.max(0, Math.floor(y))) * SIDE + Math.min(SIDE - 1, Math.max(0, Math.floor(x)));
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

  undo() {
    this.swap('back', 'from');
  }
  redo() {
    this.swap('forth', 'to');
  }
  swap(way, side) {
    const step = this.before ? null : this.history[way](); // not while a stroke is painted
    if (!step) return;
    step.at.forEach((at, k) => {
      this.ids[at] = step[side][k];
    });
    this.filled = Boolean(step.filled?.[side === 'from' ? 0 : 1]);
    this.changed();
  }

  changed() {
    this.show();
    this.hooks.state();
    this.hooks.change('done');
  }

  clear() {
    this.setIds(new Uint8Array(SIDE * SIDE), false);
  }
  setIds(ids, filled) {
    const before = this.before ?? this.ids;
    this.ids = ids;
    this.remember(before, filled);
    this.changed();
  }

  /** A label PNG as the server sends it. */
  setImage(image) {
    this.setIds(readIds(image, this.colours), true);
  } // the guide lines have done their work
  snapshot() {
    return { runs: packIds(this.ids), filled: this.filled };
  }
  kept() {
    return { ...this.snapshot(), steps: packChanges(this.history.steps), at: this.history.at };
  }
  /** fresh: it is another project's, with steps of its own; otherwise it is one step more, which can be taken back. */
  restore({ runs = [SIDE * SIDE, 0], filled = false, steps = [], at } = {}, fresh = false) {
    const most = this.labels.length - 1;
    const before = this.before ?? this.ids;
    const history = fresh ? new History(unpackChanges(steps, most), at) : this.history;
    this.ids = unpackIds(runs, most);
    this.history = history;
    if (fresh) Object.assign(this, { filled: Boolean(filled), last: null, before: null });
    else this.remember(before, Boolean(filled));
    this.show();
    this.hooks.state();
  }

  /** PNG with the numbers themselves and the palette beside them. */
  blob() {
    return palettePng(
      this.ids,
      SIDE,
      this.labels.map(({ colour }) => colour),
    );
  }
}

/**
 * Pixels -> ids of the nearest colours of the palette: some browsers change what is read from a canvas a little, on
 * purpose.
 */
export function nearestIds(pixels, colours) {
  const known = new Map(colours.map((colour, id) => [colour, id]));
  const apart = (a, b) =>
    [0, 8, 16].reduce((sum, shift) => sum + Math.abs(((a >> shift) & 255) - ((b >> shift) & 255)), 0);
  return Uint8Array.from(pixels, (pixel) => {
    if (!known.has(pixel))
      known.set(
        pixel,
        colours.reduce((best, colour, id) => (apart(pixel, colour) < apart(pixel, colours[best]) ? id : best), 0),
      );
    return known.get(pixel);
  });
}

/** An image in the colours of the palette -> its ids. */
function readIds(image, colours) {
  const canvas = document.createElement('canvas');
  canvas.width = canvas.height = SIDE;
  const context = canvas.getContext('2d', { willReadFrequently: true });
  context.imageSmoothingEnabled = false;
  context.drawImage(image, 0, 0, SIDE, SIDE);
  return nearestIds(new Uint32Array(context.getImageData(0, 0, SIDE, SIDE).data.buffer), colours);
}
