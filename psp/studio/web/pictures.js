// Pixels become what networks take, as psp/images/preprocess.py does it, to the bit but for photographed paper. Knows
// nothing of canvases.
//
// A picture is {width, height, data}: RGBA, or one byte a pixel where it is said to be grey or label numbers.
import { histogram, percentile, ranked, roundHalfEven } from './numbers.js';
import { flattened, hasWhiteGround } from './paper.js';
import { resized } from './resize.js';

export const SIDE = 256;
export const DARK = 96;
const LIGHT_INK = 200; // grey level above which ink cannot be seen on white

/** A channel of a pixel that lies on white, or on another grey, as Pillow's alpha_composite rounds. */
export function onGround(value, alpha, ground = 255) {
  if (alpha === 255) return value;
  const sum = (value * alpha + ground * (255 - alpha) + 128) * 128;
  return ((sum >> 8) + sum) >> 15;
}

/** RGBA on a ground -> grey, as Pillow's alpha_composite and convert("L") round. */
function toGrey({ width, height, data }, ground = 255) {
  const grey = new Uint8Array(width * height);
  for (let k = 0; k < grey.length; k += 1) {
    const on = (channel) => onGround(data[4 * k + channel], data[4 * k + 3], ground);
    grey[k] = (on(0) * 19595 + on(1) * 38470 + on(2) * 7471 + 0x8000) >> 16;
  }
  return { width, height, data: grey };
}

/** A drawing as grey on white, or on black where all ink on its transparent ground is light. */
function ink(picture) {
  const grey = toGrey(picture);
  if (ranked(histogram(grey.data), 0) <= LIGHT_INK) return grey;
  const onBlack = toGrey(picture, 0);
  const counts = histogram(onBlack.data);
  const range = counts.findLastIndex((count) => count > 0) - counts.findIndex((count) => count > 0);
  return range > LIGHT_INK / 2 ? onBlack : grey;
}

/** Light lines on a dark ground. */
function lightOnDark({ width, height, data }) {
  const rim = [...data.subarray(0, width), ...data.subarray(width * (height - 1))];
  for (let row = 0; row < height; row += 1) rim.push(data[row * width], data[row * width + width - 1]);
  const counts = histogram(data);
  const dark = (values) => values.reduce((sum, value) => sum + (value < DARK), 0) / values.length;
  const brightest = counts.findLastIndex((count) => count > 0);
  return dark(data) > 0.6 && dark(rim) > 0.6 && brightest - Math.trunc(percentile(counts, data.length, 0.5)) > 60;
}

/** Dark ink, of which hardly any would be left at the networks' size. */
function fades(image) {
  const least = Math.min(image.width, image.height);
  if (least < 2 * SIDE || ranked(histogram(image.data), 50) > DARK) return false;
  const small = (length) => roundHalfEven((length * SIDE) / least);
  return ranked(histogram(resized(image, small(image.width), small(image.height)).data), 50) > 150;
}

/** Halved with the darkest of four pixels until less than twice the networks' size is left. */
function thickened(image) {
  let { width, height, data } = image;
  while (Math.min(width, height) >= 2 * SIDE) {
    const [w, h] = [Math.ceil(width / 2), Math.ceil(height / 2)];
    const half = new Uint8Array(w * h);
    for (let y = 0; y < h; y += 1) {
      for (let x = 0; x < w; x += 1) {
        const [top, bottom] = [2 * y * width, Math.min(2 * y + 1, height - 1) * width];
        const [left, right] = [2 * x, Math.min(2 * x + 1, width - 1)];
        half[y * w + x] = Math.min(data[top + left], data[top + right], data[bottom + left], data[bottom + right]);
      }
    }
    [width, height, data] = [w, h, half];
  }
  return { width, height, data };
}

/** A drawing (RGBA) -> {pixels [256 * 256] grey with white as 255, notes}: psp/images/sketch_cleanup.py. */
export function sketchPixels(picture) {
  let image = ink(picture);
  const notes = [];
  const square = Math.abs(image.width - image.height) <= 0.02 * Math.max(image.width, image.height);
  if (image.width !== image.height) notes.push(square ? 'stretched' : 'letterboxed');
  if (lightOnDark(image)) {
    image = { ...image, data: image.data.map((value) => 255 - value) };
    notes.push('light on dark inverted');
  }
  if (!hasWhiteGround(image)) {
    image = flattened(image);
    notes.push('paper made white');
  }
  if (fades(image)) {
    image = thickened(image);
    notes.push('thin lines kept');
  }
  if (square) return { pixels: resized(image, SIDE, SIDE).data, notes };
  const scale = SIDE / Math.max(image.width, image.height);
  const [w, h] = [image.width, image.height].map((length) => Math.max(1, roundHalfEven(length * scale)));
  const pixels = new Uint8Array(SIDE * SIDE).fill(255);
  const inner = resized(image, w, h).data;
  const [left, top] = [(SIDE - w) >> 1, (SIDE - h) >> 1];
  for (let y = 0; y < h; y += 1) pixels.set(inner.subarray(y * w, (y + 1) * w), (top + y) * SIDE + left);
  return { pixels, notes };
}

/**
 * Label numbers of a picture in palette colours, or in equal channels below their count; null where it is no such map.
 * Some browsers change each channel that is read from a canvas by one, on purpose: such colours count as well.
 */
export function labelNumbers({ width, height, data }, colours) {
  const palette = colours.map((colour) => parseInt(colour.slice(1), 16));
  const known = new Map(palette.map((colour, id) => [colour, id]));
  const close = (a, b) => [16, 8, 0].every((shift) => Math.abs(((a >> shift) & 255) - ((b >> shift) & 255)) <= 1);
  const ids = new Uint8Array(width * height);
  for (let k = 0; k < ids.length; k += 1) {
    const [red, green, blue] = data.subarray(4 * k, 4 * k + 3);
    const colour = (red << 16) | (green << 8) | blue;
    if (!known.has(colour))
      known.set(
        colour,
        red === green && red === blue && red < colours.length ? red : palette.findIndex((one) => close(one, colour)),
      );
    const id = known.get(colour);
    if (id < 0 || data[4 * k + 3] !== 255) return null;
    ids[k] = id;
  }
  return { width, height, data: ids };
}

/** The middle square of label numbers at 256 px, nearest neighbours. */
export function labelPixels({ width, height, data }) {
  const square = Math.abs(width - height) <= 0.02 * Math.max(width, height);
  const [w, h] = square ? [width, height] : [Math.min(width, height), Math.min(width, height)];
  const [left, top] = [(width - w) >> 1, (height - h) >> 1];
  return Uint8Array.from({ length: SIDE * SIDE }, (_, k) => {
    const [x, y] = [k % SIDE, Math.trunc(k / SIDE)];
    return data[(top + Math.trunc(((y + 0.5) * h) / SIDE)) * width + left + Math.trunc(((x + 0.5) * w) / SIDE)];
  });
}
