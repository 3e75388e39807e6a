// The sketch: strokes are kept as curves, so they are crisp at every size of the page; the network gets 256 pixels.
import { SIDE, Smoother, strokes } from './pointer.js';

const INK = '#111';
const PAPER = '#fff';
const SMOOTHING = 0.42;

export class SketchPad {
  /** hooks: change('moving' | 'done'), state() after undo and the like, cursor(point, width, down). */
  constructor(canvas, hooks) {
    Object.assign(this, { canvas, hooks, tool: 'pen', width: 2, mirror: false, steps: [], at: 0, stroke: null });
    this.context = canvas.getContext('2d');
    const small = document.createElement('canvas');
    small.width = small.height = SIDE;
    this.small = { canvas: small, context: small.getContext('2d', { willReadFrequently: true }), steps: [] };
    strokes(canvas, {
      start: (point, event) => this.begin(point, (event.buttons & 32) > 0),
      move: (points) => this.extend(points),
      end: () => this.finish(),
      hover: (point, down) => hooks.cursor(point, this.stroke?.width ?? this.width, down),
    });
    new ResizeObserver(() => this.redraw()).observe(canvas);
    this.redraw();
  }

  get done() { return this.steps.slice(0, this.at); }
  get canUndo() { return this.at > 0; }
  get canRedo() { return this.at < this.steps.length; }
  get empty() { return this.stroke === null && (this.at === 0 || this.steps[this.at - 1].kind === 'clear'); }
  /** Whether a picture lies under the strokes. */
  get pictured() {
    const steps = this.done;
    return steps.findLastIndex((s) => s.kind === 'image') > steps.findLastIndex((s) => s.kind === 'clear');
  }

  begin(point, penEraser) {
    const eraser = penEraser || this.tool === 'eraser';
    const width = eraser && this.width < 6 ? this.width * 4 : this.width; // a hair-thin eraser helps nobody
    this.stroke = { kind: 'stroke', eraser, width, mirror: this.mirror, points: [point] };
    this.smoother = new Smoother(point, SMOOTHING);
    this.paintTail(this.stroke);
    this.hooks.change('moving');
  }

  extend(points) {
    if (!this.stroke) return;
    for (const point of points) {
      const next = this.smoother.follow(point);
      const last = this.stroke.points.at(-1);
      if (Math.hypot(next.x - last.x, next.y - last.y) < 0.35) continue;
      this.stroke.points.push(next);
      this.paintTail(this.stroke);
    }
    this.stroke.hand = points.at(-1);
    this.hooks.change('moving');
  }

  finish() {
    if (!this.stroke) return;
    const { stroke } = this;
    if (stroke.hand) stroke.points.push(stroke.hand); // the line ends where the hand did
    this.stroke = null;
    this.push(stroke);
  }

  push(step) {
    this.steps = [...this.done, step];
    this.at = this.steps.length;
    this.redraw();
    this.hooks.state();
    this.hooks.change('done');
  }

  undo() { this.step(-1); }
  redo() { this.step(1); }
  step(by) {
    const next = Math.min(this.steps.length, Math.max(0, this.at + by));
    if (next === this.at || this.stroke) return;
    this.at = next;
    this.redraw();
    this.hooks.state();
    this.hooks.change('done');
  }

  clear() { if (!this.empty) this.push({ kind: 'clear' }); }
  setImage(image) { this.push({ kind: 'image', image }); }
  snapshot() { return this.done; }
  restore(steps) {
    this.steps = [...steps];
    this.at = steps.length;
    this.redraw();
    this.hooks.state();
  }

  redraw() {
    const side = Math.max(SIDE, Math.round(this.canvas.clientWidth * devicePixelRatio));
    if (this.canvas.width !== side) this.canvas.width = this.canvas.height = side;
    this.context.setTransform(side / SIDE, 0, 0, side / SIDE, 0, 0);
    paintAll(this.context, [...this.done, ...(this.stroke ? [this.stroke] : [])]);
  }

  /** Only what the newest point added. */
  paintTail(stroke) {
    paintMirrored(this.context, stroke, (context) => paintSegment(context, stroke, stroke.points.length - 1));
  }

  /** PNG of what is drawn so far, 256 px. */
  async blob() {
    const { canvas, context, steps } = this.small;
    const now = this.done;
    if (steps.length && steps.length <= now.length && steps.every((step, k) => step === now[k])) {
      for (const step of now.slice(steps.length)) paint(context, step);
    } else paintAll(context, now);
    this.small.steps = now;
    if (this.stroke) {
      paint(context, this.stroke);
      this.small.steps = [null]; // next time everything is drawn anew
    }
    return new Promise((resolve) => canvas.toBlob(resolve, 'image/png'));
  }
}

function paintAll(context, steps) {
  paint(context, { kind: 'clear' });
  const from = steps.findLastIndex((step) => step.kind !== 'stroke');
  for (const step of steps.slice(Math.max(0, from))) paint(context, step);
}

function paint(context, step) {
  if (step.kind === 'stroke') {
    paintMirrored(context, step, () => paintStroke(context, step));
    return;
  }
  context.fillStyle = PAPER;
  context.fillRect(0, 0, SIDE, SIDE);
  if (step.kind === 'image') {
    context.imageSmoothingQuality = 'high';
    context.drawImage(step.image, 0, 0, SIDE, SIDE);
  }
}

function paintMirrored(context, stroke, draw) {
  context.strokeStyle = context.fillStyle = stroke.eraser ? PAPER : INK;
  context.lineCap = context.lineJoin = 'round';
  draw(context);
  if (!stroke.mirror) return;
  context.save();
  context.transform(-1, 0, 0, 1, SIDE, 0);
  draw(context);
  context.restore();
}

const widthAt = (stroke, point) => (point.pressure === null || stroke.eraser ? stroke.width : stroke.width * (0.3 + 1.2 * point.pressure));
const middle = (a, b) => ({ x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 });

/** The whole stroke: one curve when its width is constant, piece by piece when a pen's pressure changes it. */
function paintStroke(context, stroke) {
  const { points } = stroke;
  if (points.length === 1 || points.some((point) => point.pressure !== null)) {
    points.forEach((_, k) => paintSegment(context, stroke, k));
    return;
  }
  context.lineWidth = stroke.width;
  context.beginPath();
  context.moveTo(points[0].x, points[0].y);
  for (let k = 1; k < points.length - 1; k += 1) {
    const to = middle(points[k], points[k + 1]);
    context.quadraticCurveTo(points[k].x, points[k].y, to.x, to.y);
  }
  context.lineTo(points.at(-1).x, points.at(-1).y);
  context.stroke();
}

/** From the middle before point k - 1 to the middle after it; k = 0 is a dot. */
function paintSegment(context, stroke, k) {
  const { points } = stroke;
  context.beginPath();
  if (k === 0) {
    context.arc(points[0].x, points[0].y, widthAt(stroke, points[0]) / 2, 0, 2 * Math.PI);
    context.fill();
    return;
  }
  const last = k === points.length - 1;
  const [a, b, c] = [points[Math.max(0, k - 2)], points[k - 1], points[k]];
  const from = k === 1 ? a : middle(a, b);
  context.lineWidth = widthAt(stroke, c);
  context.moveTo(from.x, from.y);
  const to = middle(b, c);
  context.quadraticCurveTo(b.x, b.y, to.x, to.y);
  if (last) context.lineTo(c.x, c.y);
  context.stroke();
}
