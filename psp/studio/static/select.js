// Strokes that were chosen with a box: moved by dragging inside it, stretched by its corners, removed with Delete.
import { SIDE, bounds, inside, live, under } from './drawing.js';

const GRIP = 7; // units around a corner
const LEAST = 0.05; // of the size it had
const CLICK = 3; // units; a smaller box is a click
const NEAR = 6; // units from a line that is clicked

/** The box after one corner was dragged, or all of it was: {scale, shift} for the strokes in it. */
export function dragged([left, top, right, bottom], corner, dx, dy) {
  if (!corner) return { scale: [1, 1], shift: [dx, dy] };
  const [width, height] = [Math.max(1, right - left), Math.max(1, bottom - top)];
  const sx = Math.max(LEAST, 1 + (corner[0] * dx) / width);
  const sy = Math.max(LEAST, 1 + (corner[1] * dy) / height);
  const [fx, fy] = [corner[0] > 0 ? left : right, corner[1] > 0 ? top : bottom]; // the corner that stays
  return { scale: [sx, sy], shift: [fx * (1 - sx), fy * (1 - sy)] };
}

export class Selection {
  constructor(pad, box) {
    Object.assign(this, { pad, box, at: [], drag: null });
  }

  get strokes() {
    const { strokes } = live(this.pad.history.done);
    return this.at.map((k) => strokes[k]);
  }

  choose(at) {
    this.at = at;
    this.drag = null;
    this.show();
    this.pad.hooks.state();
  }
  drop() {
    if (this.at.length || this.drag) this.choose([]);
  }

  /** {frame, corner} where a point takes hold of the selection, corner only of one; null beside it. */
  holds(point) {
    const frame = bounds(this.strokes);
    if (!frame) return null;
    const corner = [
      [-1, -1],
      [1, -1],
      [-1, 1],
      [1, 1],
    ].find(
      ([x, y]) =>
        Math.hypot(point.x - frame[x < 0 ? 0 : 2], point.y - frame[y < 0 ? 1 : 3]) <
        GRIP / Math.sqrt(this.pad.view.zoom),
    );
    const hit = point.x > frame[0] - 3 && point.x < frame[2] + 3 && point.y > frame[1] - 3 && point.y < frame[3] + 3;
    return corner || hit ? { frame, corner } : null;
  }

  begin(point) {
    const hold = this.holds(point);
    if (!hold) this.choose([]);
    this.drag = { from: point, to: point, frame: hold?.frame, corner: hold?.corner };
  }

  move(point) {
    if (!this.drag) return;
    this.drag.to = point;
    if (this.drag.frame) this.pad.redraw();
    else this.show();
  }

  end() {
    const { drag } = this;
    if (!drag) return;
    const step = this.change();
    this.drag = null;
    if (step) this.pad.push(step);
    else if (!drag.frame) this.choose(this.meant(boxOf(drag)));
  }

  /** The strokes in a box, or the one that was clicked. */
  meant(box) {
    const { strokes } = live(this.pad.history.done);
    const [left, top, right, bottom] = box;
    if (Math.max(right - left, bottom - top) >= CLICK) return inside(strokes, box);
    return under(strokes, { x: left, y: top }, NEAR / this.pad.view.zoom);
  }

  /** What the drag does to the strokes so far, as a step; null when nothing is dragged. */
  change() {
    const { drag } = this;
    if (!drag?.frame || drag.to === drag.from) return null;
    return {
      kind: 'change',
      at: this.at,
      ...dragged(drag.frame, drag.corner, drag.to.x - drag.from.x, drag.to.y - drag.from.y),
    };
  }

  remove() {
    const at = this.at;
    this.choose([]);
    if (at.length) this.pad.push({ kind: 'change', at, gone: true });
  }

  show() {
    const change = this.change();
    const left = change ? live([...this.pad.history.done, change]).strokes : null;
    const frame =
      this.drag && !this.drag.frame ? boxOf(this.drag) : bounds(left ? this.at.map((k) => left[k]) : this.strokes);
    this.box.hidden = !frame;
    if (!frame) return;
    this.box.classList.toggle('open', Boolean(this.drag && !this.drag.frame));
    const part = (value) => `${(value / SIDE) * 100}%`;
    Object.assign(this.box.style, {
      left: part(frame[0]),
      top: part(frame[1]),
      width: part(frame[2] - frame[0]),
      height: part(frame[3] - frame[1]),
    });
    this.box.style.setProperty('--zoom', this.pad.view.zoom);
  }
}

const boxOf = ({ from, to }) => [
  Math.min(from.x, to.x),
  Math.min(from.y, to.y),
  Math.max(from.x, to.x),
  Math.max(from.y, to.y),
];
