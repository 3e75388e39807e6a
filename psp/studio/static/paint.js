// Strokes on a canvas of 256 units.
import { SIDE } from './drawing.js';

const INK = '#111';
const PAPER = '#fff';

/** Paper, the picture on it, and strokes (null where one was removed). */
export function paintAll(context, { image, strokes }) {
  context.fillStyle = PAPER;
  context.fillRect(0, 0, SIDE, SIDE);
  if (image) {
    context.imageSmoothingQuality = 'high';
    context.drawImage(image, 0, 0, SIDE, SIDE);
  }
  for (const stroke of strokes) if (stroke) paintStroke(context, stroke);
}

const widthAt = (stroke, point) =>
  point.pressure === null || stroke.tool === 'eraser' ? stroke.width : stroke.width * (0.3 + 1.2 * point.pressure);
const middle = (a, b) => ({ x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 });

function prepare(context, stroke) {
  context.strokeStyle = context.fillStyle = stroke.tool === 'eraser' ? PAPER : INK;
  context.lineCap = context.lineJoin = 'round';
}

/** The whole stroke: one curve when its width is constant, piece by piece when a pen's pressure changes it. */
export function paintStroke(context, stroke) {
  const { points } = stroke;
  prepare(context, stroke);
  if (stroke.tool === 'pencil' || points.length === 1 || points.some((point) => point.pressure !== null)) {
    points.forEach((_, k) => paintPiece(context, stroke, k));
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

/** Only what the newest point added. */
export function paintTail(context, stroke) {
  prepare(context, stroke);
  paintPiece(context, stroke, stroke.points.length - 1);
}

/** From the middle before point k - 1 to the middle after it; k = 0 is a dot. */
function paintPiece(context, stroke, k) {
  const { points } = stroke;
  if (stroke.tool === 'pencil') {
    shade(context, stroke, points[Math.max(0, k - 1)], points[k]);
    return;
  }
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

/** A soft pencil: faint round dots, closer than they are wide, that add up; pressure makes them darker and wider. */
function shade(context, stroke, from, to) {
  const steps = Math.max(1, Math.ceil(Math.hypot(to.x - from.x, to.y - from.y) / (stroke.width * 0.15)));
  for (let k = 1; k <= steps; k += 1) {
    const [x, y] = [from.x + ((to.x - from.x) * k) / steps, from.y + ((to.y - from.y) * k) / steps];
    const width = widthAt(stroke, to) * 1.6;
    context.globalAlpha = to.pressure === null ? 0.22 : Math.min(1, 0.5 * to.pressure);
    context.drawImage(softDot(), x - width / 2, y - width / 2, width, width);
  }
  context.globalAlpha = 1;
}

let dot = null;
function softDot() {
  if (dot) return dot;
  dot = document.createElement('canvas');
  dot.width = dot.height = 64;
  const context = dot.getContext('2d');
  const soft = context.createRadialGradient(32, 32, 0, 32, 32, 32);
  for (const [at, alpha] of [
    [0, 0.7],
    [0.5, 0.35],
    [1, 0],
  ])
    soft.addColorStop(at, `rgba(17, 17, 17, ${alpha})`);
  context.fillStyle = soft;
  context.fillRect(0, 0, 64, 64);
  return dot;
}
