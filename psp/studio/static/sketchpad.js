// The sketch: strokes are kept as curves, so they are crisp at every size of the page; the network gets 256 pixels.
import { loadImage, pngUrl } from './dom.js';
import { SIDE, current, eraserWidth, exact, flipped, live, pack, same, shape, unpack } from './drawing.js';
import { History } from './history.js';
import { Newest } from './newest.js';
import { paintAll, paintStroke, paintTail } from './paint.js';
import { Smoother, shapeFor, strokes } from './pointer.js';
import { Selection } from './select.js';
import { View } from './view.js';

const SHARPEST = 2560; // pixels of the canvas at most, however far it is zoomed

export class SketchPad {
  /**
   * hooks: change('moving' | 'done' | 'dropped'), the last when a stroke was not meant; state() after undo and the
   * like; cursor(point, width, down); tool(name): take another one.
   */
  constructor(canvas, hooks) {
    Object.assign(this, {
      canvas,
      hooks,
      tool: 'pen',
      width: 2,
      mirror: false,
      smoothing: 0.42,
      shape: 'free',
      history: new History(),
      strokes: null,
      restoring: new Newest(),
    });
    this.context = canvas.getContext('2d');
    this.view = new View(canvas.closest('.sheet'), () => this.redraw());
    this.selection = new Selection(this, canvas.parentElement.querySelector('.selection'));
    const small = document.createElement('canvas');
    small.width = small.height = SIDE;
    this.small = { canvas: small, context: small.getContext('2d', { willReadFrequently: true }), steps: [] };
    strokes(canvas, this.view, {
      start: (point, event) => this.begin(point, event),
      move: (points, event) => this.extend(points, event),
      end: () => this.finish(),
      cancel: () => this.cancel(),
      hover: (point, down) => hooks.cursor(point, this.strokes?.[0].width ?? this.widthOf(this.tool), down),
    });
    new ResizeObserver(() => this.redraw()).observe(canvas);
    this.redraw();
  }

  get canUndo() {
    return this.history.canUndo;
  }
  get canRedo() {
    return this.history.canRedo;
  }
  get empty() {
    if (this.strokes) return false;
    const { image, strokes: left } = live(this.history.done);
    return !image && !left.some(Boolean);
  }
  /** Whether a picture lies under the strokes. */
  get pictured() {
    return live(this.history.done).image !== null;
  }

  begin(point, event) {
    // the part lies where it should
    if (this.tool === 'select' && this.placed && !this.selection.holds(point)) this.hooks.tool(this.placed);
    if (this.tool === 'select') {
      this.selection.begin(point);
      return;
    }
    const tool = (event.buttons & 32) > 0 ? 'eraser' : this.tool;
    this.strokes = this.doubled({ tool, width: this.widthOf(tool), points: [exact(point)] });
    this.from = point;
    this.smoother = new Smoother(point, this.smoothing);
    for (const stroke of this.strokes) paintTail(this.context, stroke);
    this.hooks.change('moving');
  }

  widthOf(tool) {
    return tool === 'eraser' ? eraserWidth(this.width) : this.width;
  }
  doubled(stroke) {
    return this.mirror ? [stroke, flipped(stroke)] : [stroke];
  }

  extend(points, event) {
    if (!this.strokes) {
      this.selection.move(points.at(-1));
      return;
    } // what was begun, not the tool that was taken since
    const [stroke, twin] = this.strokes;
    const fixed = shape(shapeFor(event, this.shape), this.from, points.at(-1));
    if (fixed) {
      this.strokes = this.doubled({ ...stroke, points: fixed });
      this.hand = null;
      this.redraw();
    } else {
      for (const point of points) {
        const next = exact(this.smoother.follow(point));
        const last = stroke.points.at(-1);
        if (Math.hypot(next.x - last.x, next.y - last.y) < 0.35) continue;
        stroke.points.push(next);
        twin?.points.push({ ...next, x: SIDE - next.x });
        for (const one of this.strokes) paintTail(this.context, one);
      }
      this.hand = exact(points.at(-1));
    }
    this.hooks.change('moving');
  }

  finish() {
    if (!this.strokes) {
      this.selection.end();
      return;
    }
    const [stroke, twin] = this.strokes;
    if (this.hand) {
      // the line ends where the hand did
      stroke.points.push(this.hand);
      twin?.points.push({ ...this.hand, x: SIDE - this.hand.x });
    }
    const drawn = this.strokes;
    this.strokes = this.hand = null;
    this.push({ kind: 'strokes', strokes: drawn });
  }

  /** A second finger came: what the first one drew was not meant. */
  cancel() {
    const drawn = this.strokes;
    this.strokes = this.hand = null;
    this.selection.drop();
    this.redraw();
    if (drawn) this.hooks.change('dropped');
  }

  push(step) {
    this.history.push(step);
    this.changed();
  }

  changed() {
    this.redraw();
    this.hooks.state();
    this.hooks.change('done');
  }

  undo() {
    this.step('back');
  }
  redo() {
    this.step('forth');
  }
  step(way) {
    if (this.strokes || !this.history[way]()) return;
    this.selection.drop();
    this.changed();
  }

  clear() {
    this.selection.drop();
    if (!this.empty) this.push({ kind: 'clear' });
  }
  setImage(image, png) {
    this.selection.drop();
    this.push({ kind: 'image', image, png });
  }

  /** Strokes of a part, chosen at once so that they can be moved and stretched; a line beside them goes on drawing. */
  add(part) {
    const tool = this.tool === 'select' ? this.placed : this.tool;
    this.hooks.tool('select');
    this.placed = tool;
    const before = live(this.history.done).strokes.length;
    this.push({ kind: 'strokes', strokes: part });
    this.selection.choose(part.map((_, k) => before + k));
  }

  snapshot() {
    return { steps: pack(current(this.history.done)) };
  }
  kept() {
    return { steps: pack(this.history.steps), at: this.history.at };
  }
  /** fresh: it is another project's, with steps of its own; otherwise it is one step more, which can be taken back. */
  async restore({ steps = [], at } = {}, fresh = false) {
    const isNewest = this.restoring.begin();
    const known = await unpack(steps, async (png) => loadImage(pngUrl(png)));
    if (!isNewest()) return;
    this.selection.drop();
    this.strokes = this.hand = null;
    if (fresh) this.history = new History(known, at);
    else if (!same(pack(known), this.snapshot().steps)) this.history.push({ kind: 'replace', steps: current(known) });
    this.redraw();
    this.hooks.state();
  }

  redraw() {
    const wanted = Math.round(this.canvas.clientWidth * devicePixelRatio * this.view.zoom);
    const side = Math.max(SIDE, Math.min(SHARPEST, wanted));
    if (this.canvas.width !== side) this.canvas.width = this.canvas.height = side;
    this.context.setTransform(side / SIDE, 0, 0, side / SIDE, 0, 0);
    const change = this.selection.change();
    paintAll(this.context, live(change ? [...this.history.done, change] : this.history.done));
    for (const stroke of this.strokes ?? []) paintStroke(this.context, stroke);
    this.selection.show();
  }

  /** PNG of what is drawn so far, 256 px. */
  async blob() {
    const { canvas, context, steps } = this.small;
    const now = this.history.done;
    const grown = steps.length && steps.length <= now.length && steps.every((step, k) => step === now[k]);
    const added = grown ? now.slice(steps.length) : [];
    if (grown && added.every(({ kind }) => kind === 'strokes')) {
      for (const stroke of added.flatMap((step) => step.strokes)) paintStroke(context, stroke);
    } else paintAll(context, live(now));
    this.small.steps = now;
    if (this.strokes) {
      for (const stroke of this.strokes) paintStroke(context, stroke);
      this.small.steps = []; // next time everything is drawn anew
    }
    return new Promise((resolve) => canvas.toBlob(resolve, 'image/png'));
  }
}
