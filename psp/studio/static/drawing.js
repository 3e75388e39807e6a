// What a sketch is: steps, and the strokes that are left when all of them are done. Knows nothing of canvases.
//
// A step is one of
//   {kind: 'strokes', strokes: [stroke, ...]}       drawn in one go: a line and its mirror image, or a part
//   {kind: 'image', png, image}                     a picture under everything that follows
//   {kind: 'clear'}
//   {kind: 'replace', steps}                        another drawing in place of this one
//   {kind: 'change', at: [k, ...], scale: [x, y], shift: [x, y]}
//       strokes k moved and stretched; {..., gone: true}: removed
// A stroke is {tool: 'pen' | 'pencil' | 'eraser', width, points: [{x, y, pressure}]}, pressure null without a tablet.
export const SIDE = 256;
const GRAIN = 64; // points lie on 1/64 of a unit, so that what is kept is exactly what was drawn
const FAR = 500;

const onGrain = (value) => Math.round(Math.min(FAR, Math.max(-FAR, value)) * GRAIN) / GRAIN;
export const exact = ({ x, y, pressure }) => ({
  x: onGrain(x),
  y: onGrain(y),
  pressure: pressure === null ? null : Math.round(pressure * 1000) / 1000,
});

export const flipped = (stroke) => ({
  ...stroke,
  points: stroke.points.map((point) => ({ ...point, x: SIDE - point.x })),
});

function transformed(stroke, [sx, sy], [dx, dy]) {
  return {
    ...stroke,
    points: stroke.points.map(({ x, y, pressure }) => exact({ x: x * sx + dx, y: y * sy + dy, pressure })),
  };
}

/**
 * The steps that lead to what is there now: those of the last drawing that took another's place, and what came after.
 */
export function current(steps) {
  const from = steps.findLastIndex(({ kind }) => kind === 'replace');
  return from < 0 ? steps : [...current(steps[from].steps), ...steps.slice(from + 1)];
}

/** The number of the last step that covers all before it; -1 where there is none. */
const covering = (steps) => steps.findLastIndex(({ kind }) => kind === 'image' || kind === 'clear');

/** The steps that what is there now needs: no pictures that another one covers, and nothing that was cleared. */
export function needed(all) {
  const steps = current(all);
  const from = covering(steps);
  return steps.slice(steps[from]?.kind === 'clear' ? from + 1 : Math.max(0, from));
}

/** The picture at the bottom (or null) and the strokes above it; a removed stroke leaves null, so that numbers stay. */
export function live(all) {
  const steps = current(all);
  const from = covering(steps);
  const strokes = [];
  for (const step of steps.slice(from + 1)) {
    if (step.kind === 'strokes') strokes.push(...step.strokes);
    else
      for (const k of step.at)
        if (strokes[k]) strokes[k] = step.gone ? null : transformed(strokes[k], step.scale, step.shift);
  }
  return { image: steps[from]?.image ?? null, strokes };
}

/** [left, top, right, bottom] of strokes; null for none. */
export function bounds(strokes) {
  const points = strokes.flatMap((stroke) => stroke?.points ?? []);
  if (!points.length) return null;
  const [xs, ys] = [points.map(({ x }) => x), points.map(({ y }) => y)];
  return [xs, ys]
    .map((all) => all.reduce((a, b) => Math.min(a, b)))
    .concat([xs, ys].map((all) => all.reduce((a, b) => Math.max(a, b))));
}

/** Numbers of the strokes that lie mostly inside a box. */
export function inside(strokes, [left, top, right, bottom]) {
  const within = ({ x, y }) => x >= left && x <= right && y >= top && y <= bottom;
  return strokes.flatMap((stroke, k) =>
    stroke && stroke.points.filter(within).length > stroke.points.length / 2 ? [k] : [],
  );
}

/** The number of the topmost line that passes within so many units of a point, as a list; empty where none does. */
export function under(strokes, point, reach) {
  const at = strokes.findLastIndex(
    (stroke) =>
      stroke &&
      stroke.tool !== 'eraser' &&
      stroke.points.some((to, k) => distance(point, stroke.points[Math.max(0, k - 1)], to) <= reach),
  );
  return at < 0 ? [] : [at];
}

/** From a point to the line between two others. */
function distance({ x, y }, from, to) {
  const [dx, dy] = [to.x - from.x, to.y - from.y];
  const along = Math.min(1, Math.max(0, ((x - from.x) * dx + (y - from.y) * dy) / (dx * dx + dy * dy || 1)));
  return Math.hypot(x - from.x - along * dx, y - from.y - along * dy);
}

/** The width of an eraser: a hair-thin one helps nobody. */
export const eraserWidth = (width) => Math.max(width, Math.min(4 * width, 16));

/** A straight line, or the oval that fits between two points, of one width; null for a free line. */
export function shape(name, from, to) {
  if (name === 'line') return [from, to].map((point) => exact({ ...point, pressure: null }));
  if (name !== 'oval') return null;
  const [x, y, a, b] = [
    (from.x + to.x) / 2,
    (from.y + to.y) / 2,
    Math.abs(to.x - from.x) / 2,
    Math.abs(to.y - from.y) / 2,
  ];
  return Array.from({ length: 49 }, (_, k) =>
    exact({ x: x + a * Math.cos((k * Math.PI) / 24), y: y + b * Math.sin((k * Math.PI) / 24), pressure: null }),
  );
}

// Keeping: points become one list of whole numbers, x, y and pressure in turn (-1 for none).
const packed = new WeakMap(); // step -> as it is kept
const unpacked = new WeakMap(); // and back, so that a drawing which comes back again and again has the same steps
function packStroke({ points, ...rest }) {
  return {
    ...rest,
    points: points.flatMap(({ x, y, pressure }) => [
      x * GRAIN,
      y * GRAIN,
      pressure === null ? -1 : Math.round(pressure * 1000),
    ]),
  };
}
function unpackStroke({ points, ...rest }) {
  const unpacked = [];
  for (let k = 0; k + 2 < points.length; k += 3) {
    unpacked.push(
      exact({
        x: points[k] / GRAIN,
        y: points[k + 1] / GRAIN,
        pressure: points[k + 2] < 0 ? null : points[k + 2] / 1000,
      }),
    );
  }
  return { ...rest, points: unpacked };
}

export function pack(steps) {
  return steps.map((step) => {
    if (!packed.has(step)) {
      const { image, ...plain } = step;
      if (step.kind === 'strokes') plain.strokes = step.strokes.map(packStroke);
      if (step.kind === 'replace') plain.steps = pack(step.steps);
      packed.set(step, plain);
      unpacked.set(plain, step);
    }
    return packed.get(step);
  });
}

/** decode: png as base64 -> something that can be drawn. Steps that make no sense are left out. */
export async function unpack(steps, decode) {
  const known = [];
  for (const step of Array.isArray(steps) ? steps : []) {
    if (!(step instanceof Object)) continue;
    if (!unpacked.has(step)) unpacked.set(step, await unpackStep(step, decode));
    known.push(unpacked.get(step));
  }
  return known.filter(Boolean);
}

/** One step, or null for one that makes no sense. */
async function unpackStep(step, decode) {
  const { kind } = step;
  if (kind === 'strokes') {
    const strokes = step.strokes.filter(
      ({ points, width }) => Array.isArray(points) && points.length >= 3 && width > 0,
    );
    return strokes.length ? { kind, strokes: strokes.map(unpackStroke) } : null;
  }
  if (kind === 'image') return { kind, png: step.png, image: await decode(step.png) };
  if (kind === 'clear') return { kind };
  if (kind === 'replace') return { kind, steps: await unpack(step.steps, decode) };
  if (kind === 'change' && Array.isArray(step.at))
    return step.gone ? step : { ...step, scale: step.scale ?? [1, 1], shift: step.shift ?? [0, 0] };
  return null;
}

/** Whether two packed records are equal. */
export const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);

// Label maps: [count, id, count, id, ...]
export function packIds(ids) {
  const runs = [];
  for (let k = 0; k < ids.length;) {
    let end = k + 1;
    while (end < ids.length && ids[end] === ids[k]) end += 1;
    runs.push(end - k, ids[k]);
    k = end;
  }
  return runs;
}

export function unpackIds(runs, most = 18, length = SIDE * SIDE) {
  const ids = new Uint8Array(length);
  let at = 0;
  for (let k = 0; k + 1 < runs.length && at < ids.length; k += 2) {
    ids.fill(runs[k + 1] <= most ? runs[k + 1] : 0, at, at + runs[k]);
    at += runs[k];
  }
  return ids;
}

// Steps of a label map: numbers of pixels as [first, count, first, count, ...], ids as above; filled as it is.
export function packChanges(steps) {
  return steps.map((step) => {
    if (!packed.has(step))
      packed.set(step, { ...step, at: packNumbers(step.at), from: packIds(step.from), to: packIds(step.to) });
    return packed.get(step);
  });
}

export function unpackChanges(steps, most = 18) {
  return (Array.isArray(steps) ? steps : []).map((step) => {
    const at = unpackNumbers(step.at);
    return { ...step, at, from: unpackIds(step.from, most, at.length), to: unpackIds(step.to, most, at.length) };
  });
}

function packNumbers(numbers) {
  const runs = [];
  for (const number of numbers) {
    if (number === runs.at(-2) + runs.at(-1)) runs[runs.length - 1] += 1;
    else runs.push(number, 1);
  }
  return runs;
}

function unpackNumbers(runs) {
  const numbers = [];
  for (let k = 0; k + 1 < runs.length; k += 2) {
    for (let n = 0; n < runs[k + 1] && numbers.length < SIDE * SIDE; n += 1) numbers.push(runs[k] + n);
  }
  return Uint16Array.from(numbers);
}
