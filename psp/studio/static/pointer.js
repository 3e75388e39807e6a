// Mouse, touch, pen and keys on a canvas become strokes in canvas units (0 to 256), with every point the browser
// collected between two frames. Two fingers, the middle button or the space bar move the view instead.
import { SIDE } from './drawing.js';

const PALM = 1000; // ms after a pen was near in which a hand that touches the canvas draws nothing

/**
 * hooks: start(point, event), move(points, event), end(), cancel(), hover(point or null, down). A point is
 * {x, y, pressure}; pressure is null for devices that have none. view: a View.
 */
export function strokes(canvas, view, hooks) {
  let pointer = null; // id of the finger, pen or mouse that draws
  let rectangle = null;
  let isPen = false; // whether a pen is what draws
  let pens = -Infinity; // when a pen was last near
  const fingers = new Map();
  const at = (event) => ({
    x: ((event.clientX - rectangle.left) / rectangle.width) * SIDE,
    y: ((event.clientY - rectangle.top) / rectangle.height) * SIDE,
    pressure: event.pointerType === 'pen' ? Math.max(0.02, event.pressure) : null,
  });
  /** A pen has come: what a resting hand did before was not meant. */
  function takeOver() {
    pens = performance.now();
    if (!fingers.size) return;
    if (fingers.has(pointer)) {
      hooks.cancel();
      pointer = null;
    }
    fingers.clear();
    view.release();
  }
  canvas.addEventListener('pointerdown', (event) => {
    try {
      canvas.setPointerCapture(event.pointerId);
    } catch {
      /* a made-up event */
    }
    event.preventDefault();
    canvas.classList.add('pointed'); // no ring around what a hand is drawing on
    canvas.focus({ preventScroll: true });
    if (event.pointerType === 'pen') takeOver();
    if (event.pointerType === 'touch') {
      if (performance.now() - pens < PALM || isPen) return;
      fingers.set(event.pointerId, event);
      if (fingers.size === 2) {
        if (pointer !== null) hooks.cancel();
        pointer = null;
        view.grab([...fingers.values()]);
      }
      if (fingers.size > 1) return;
    }
    if (pointer !== null) return;
    if (event.button === 1 || view.held) {
      view.grab([event]);
      return;
    }
    if (event.button > 0 && event.pointerType === 'mouse') return;
    liftPen();
    pointer = event.pointerId;
    isPen = event.pointerType === 'pen';
    rectangle = canvas.getBoundingClientRect();
    hooks.start(at(event), event);
  });
  canvas.addEventListener('pointermove', (event) => {
    if (event.pointerType === 'pen') pens = performance.now();
    if (event.pointerType === 'touch' && !fingers.has(event.pointerId)) return; // a resting hand
    if (fingers.has(event.pointerId)) fingers.set(event.pointerId, event);
    if (view.grabbed) {
      view.drag(fingers.size ? [...fingers.values()] : [event]);
      return;
    }
    if (pointer === null) {
      rectangle = canvas.getBoundingClientRect();
      hooks.hover(event.pointerType === 'touch' ? null : at(event));
      return;
    }
    if (event.pointerId !== pointer) return;
    rectangle = canvas.getBoundingClientRect(); // it may have been zoomed or scrolled meanwhile
    const all = event.getCoalescedEvents?.() ?? [];
    const points = (all.length ? all : [event]).map(at);
    hooks.move(points, event);
    hooks.hover(event.pointerType === 'touch' ? null : points.at(-1));
  });
  const end = (event) => {
    if (event.pointerType === 'pen') pens = performance.now();
    if (!fingers.delete(event.pointerId) && event.pointerType === 'touch') return;
    if (view.grabbed && !fingers.size) view.release();
    if (event.pointerId !== pointer) return;
    pointer = null;
    isPen = false;
    hooks.end();
  };
  canvas.addEventListener('pointerup', end);
  canvas.addEventListener('pointercancel', end);
  canvas.addEventListener('pointerleave', () => pointer === null && hooks.hover(null));
  canvas.addEventListener(
    'contextmenu',
    (event) => (event.pointerType !== 'mouse' || event.ctrlKey) && event.preventDefault(),
  );

  // keys
  let pen = null;
  let down = false;
  function liftPen() {
    if (down) hooks.end();
    down = false;
    if (pen) hooks.hover(null);
    pen = null;
  }
  canvas.addEventListener('keydown', (event) => {
    const step = event.shiftKey ? 16 : event.altKey ? 1 : 4;
    const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key] ?? [
      0, 0,
    ];
    // for a hand, the space bar moves the view
    const space = event.key === ' ' && !canvas.classList.contains('pointed');
    if ((!dx && !dy && !space) || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    canvas.classList.remove('pointed');
    pen ??= { x: SIDE / 2, y: SIDE / 2, pressure: null };
    if (space) {
      if (event.repeat) return;
      down = !down;
      if (down) hooks.start({ ...pen }, { buttons: 0 });
      else hooks.end();
    } else {
      pen.x = Math.min(SIDE, Math.max(0, pen.x + dx * step));
      pen.y = Math.min(SIDE, Math.max(0, pen.y + dy * step));
      if (down) hooks.move([{ ...pen }], { buttons: 0 });
    }
    hooks.hover({ ...pen }, down);
  });
  canvas.addEventListener('blur', () => {
    liftPen();
    canvas.classList.remove('pointed');
  });
}

/** What a stroke becomes: a held key wins over what was chosen. */
export const shapeFor = (event, chosen) => (event.shiftKey ? 'line' : event.altKey || event.ctrlKey ? 'oval' : chosen);

/** A follower that trails the hand a little and takes the tremble out of a line; amount 0 follows exactly. */
export class Smoother {
  constructor(point, amount) {
    this.at = { ...point };
    this.amount = amount;
  }

  follow(point) {
    const keep = this.amount;
    this.at = {
      x: this.at.x * keep + point.x * (1 - keep),
      y: this.at.y * keep + point.y * (1 - keep),
      pressure: point.pressure === null ? null : (this.at.pressure ?? point.pressure) * 0.6 + point.pressure * 0.4,
    };
    return { ...this.at };
  }
}
