// Is a picture a photo or a drawing? psp/images/drawn.py, which explains it, up to the rounding of floats.
import { closed, gaussian, medians, mirrored } from './filters.js';
import { median, quantile, roundHalfEven } from './numbers.js';
import { quadratic } from './paper.js';
import { DARK, onGround } from './pictures.js';
import { BICUBIC, BOX, resized, resizedFloats } from './resize.js';

const SIDE = 160; // at which pictures are looked at
const MARGIN = 0.08; // of the sides left out
const LINE = 6; // pixels of SIDE; what is narrower is a line
const INK = 0.06; // what is darker than the ground by less is ground
const SAME = 0.045; // what differs by less from the most frequent tone has that tone
const NOISE = 0.065; // that most pixels differ from those around by, in what is neither
const BORDER = 0.32;
const BORDER_ON_BLACK = 0.42;
export const DOUBT = 0.06; // on both sides of the border

const share = (values, is) => values.reduce((sum, value) => sum + (is(value) ? 1 : 0), 0) / values.length;
const clipped = (value, least, most) => Math.max(least, Math.min(most, value));

/**
 * How surely a picture (RGBA) is a drawing: above 0 drawings, below 0 photos; nearer to 0 than DOUBT, it may be either.
 */
export function drawn(picture) {
  const { grey: seen, chroma } = lookedAt(picture);
  const grey = gaussian(seen, 0.6, mirrored);
  const dark = share(grey.data, (value) => value < DARK) > 0.6;
  const tone = { ...grey, data: dark ? onBlack(grey.data) : onPaper(grey) };
  const smooth = medians(tone, 5).data;
  if (median(tone.data.map((value, k) => Math.abs(value - smooth[k]))) > NOISE) return 0;
  const inkOf = ({ data }) => data.reduce((sum, value) => sum + Math.max(0, 1 - INK - value), 0);
  const [ink, rest] = [inkOf(tone), inkOf(closed(tone, LINE, mirrored))];
  const lines = ink > 0 ? 1 - rest / ink : 1;
  const { ground, brighter } = dark ? { ground: 0, brighter: 0 } : groundOf({ ...tone, data: smooth });
  const spread = chroma.map((values) => {
    const middle = median(values);
    return values.reduce((sum, value) => sum + Math.abs(value - middle), 0) / values.length;
  });
  const colour = clipped(0.02 * ((spread[0] + spread[1]) / 2 - 6), 0, 0.12);
  return lines + ground / 2 - brighter - colour - (dark ? BORDER_ON_BLACK : BORDER);
}

/** The picture on white, small and without its margin: its grey, and its blue and red parts (YCbCr). */
function lookedAt({ width, height, data }) {
  const scale = SIDE / Math.min(width, height);
  const [w, h] = [width, height].map((side) => Math.min(4 * SIDE, Math.max(8, roundHalfEven(side * scale))));
  const [red, green, blue] = [0, 1, 2].map((channel) => {
    const on = (_, k) => onGround(data[4 * k + channel], data[4 * k + 3]);
    return resized(
      { width, height, data: Uint8Array.from({ length: width * height }, on) },
      w,
      h,
      scale < 1 ? BOX : BICUBIC,
    ).data;
  });
  const [rows, columns] = [h, w].map((side) => roundHalfEven(MARGIN * side));
  const [inner, down] = [w - 2 * columns, h - 2 * rows];
  const part = (of) =>
    Float32Array.from({ length: inner * down }, (_, k) => {
      const at = (rows + Math.trunc(k / inner)) * w + columns + (k % inner);
      return clipped(Math.round(of(red[at], green[at], blue[at])), 0, 255);
    });
  return {
    grey: { width: inner, height: down, data: part((r, g, b) => 0.299 * r + 0.587 * g + 0.114 * b) },
    chroma: [
      part((r, g, b) => 128 - 0.168736 * r - 0.331264 * g + 0.5 * b),
      part((r, g, b) => 128 + 0.5 * r - 0.418688 * g - 0.081312 * b),
    ],
  };
}

/** The negative of a dark picture, 1 where that is as dark as most of it and 0 where it is lightest. */
function onBlack(grey) {
  const sorted = Float32Array.from(grey).sort();
  const [black, white] = [quantile(sorted, 0.5), quantile(sorted, 0.995)];
  return grey.map((value) => 1 - clipped((value - black) / Math.max(white - black, 20), 0, 1));
}

/** Grey divided by the light on the paper: about 1 where it is blank. */
function onPaper(grey) {
  const small = thinned(grey, 3);
  const paper = resizedFloats({ ...small, data: Float32Array.from(quadratic(small)) }, grey.width, grey.height).data;
  return grey.data.map((value, k) => clipped(value / Math.max(paper[k], 1), 0, 1.3));
}

/** scipy.ndimage.zoom(1 / by, order=1): corners stay corners, and what lies between is interpolated. */
function thinned({ width, height, data }, by) {
  const [w, h] = [width, height].map((side) => roundHalfEven(side / by));
  const at = (k, to, from) => (to > 1 ? (k * (from - 1)) / (to - 1) : 0);
  const made = Float32Array.from({ length: w * h }, (_, k) => {
    const [x, y] = [at(k % w, w, width), at(Math.trunc(k / w), h, height)];
    const [left, top] = [Math.trunc(x), Math.trunc(y)];
    const [right, bottom] = [Math.min(left + 1, width - 1), Math.min(top + 1, height - 1)];
    const row = (line) => data[line * width + left] * (1 - (x % 1)) + data[line * width + right] * (x % 1);
    return row(top) * (1 - (y % 1)) + row(bottom) * (y % 1);
  });
  return { width: w, height: h, data: made };
}

/** The share of the ground in the face's middle or the upper corners, where it is smaller; of what is brighter. */
function groundOf({ width, height, data }) {
  const bins = new Uint32Array(64);
  for (const value of data) bins[Math.min(63, Math.trunc((value / 1.3) * 64))] += 1;
  const at = bins.indexOf(Math.max(...bins));
  const [least, most] = [((at - 1) * 1.3) / 64, ((at + 2) * 1.3) / 64];
  const mode = median(data.filter((value) => value >= least && value <= most));
  const sharesIn = (...areas) => {
    let [count, same] = [0, 0];
    for (const [top, bottom, left, right] of areas) {
      for (let y = top; y < bottom; y += 1)
        for (let x = left; x < right; x += 1) {
          count += 1;
          same += Math.abs(data[y * width + x] - mode) < SAME;
        }
    }
    return same / count;
  };
  const of = (part, side) => Math.trunc(part * side);
  const face = sharesIn([of(0.28, height), of(0.75, height), of(0.28, width), of(0.72, width)]);
  const [upper, side] = [of(0.3, height), of(0.15, width)];
  const corners = sharesIn([0, upper, 0, side], [0, upper, width - side, width]);
  return { ground: Math.min(face, corners), brighter: share(data, (value) => value > mode + 0.065) };
}
