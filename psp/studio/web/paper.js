// Photographed paper becomes white: psp/images/sketch_cleanup.py, up to the rounding of floats.
import { histogram, median, percentile, quantile, roundHalfEven } from './numbers.js';
import { closed, gaussian, medians, nearest } from './filters.js';
import { BICUBIC, BOX, resized, resizedFloats } from './resize.js';

const WHITE_CELL = 240; // a cell of the 4x4 grid whose bright pixels reach this has a white ground
const CELLS_NEEDED = 11; // of 16; the others may be shaded or solid black hair
const SHADOW = 0.55; // paper in shadow is rarely darker than this part of the lit paper
const SMALL = 128; // longest side at which the light is looked for
const WIDE = 25; // px that ink is narrower than
const BLUR = 4; // px, of the light

export function hasWhiteGround({ width, height, data }) {
  if (width < 8 || height < 8) return true;
  let white = 0;
  for (let cell = 0; cell < 16; cell += 1) {
    const [row, column] = [cell >> 2, cell % 4];
    const [top, bottom, left, right] = [row * height, (row + 1) * height, column * width, (column + 1) * width].map(
      (edge) => Math.trunc(edge / 4),
    );
    const counts = new Uint32Array(256);
    for (let y = top; y < bottom; y += 1)
      histogram(data.subarray(y * width + left, y * width + right)).forEach((count, value) => {
        counts[value] += count;
      });
    const size = (bottom - top) * (right - left);
    white += percentile(counts, size, 0.9) >= WHITE_CELL || percentile(counts, size, 0.98) >= 252;
  }
  return white >= CELLS_NEEDED;
}

/** Divide by the light on the paper, then put the paper at white and keep the ink's depth. */
export function flattened(image) {
  const { width, height, data } = image;
  const scale = SMALL / Math.max(width, height);
  const small = resized(image, ...[width, height].map((side) => Math.max(8, roundHalfEven(side * scale))), BOX);
  const light = resizedFloats(lightOn(small), width, height, BICUBIC).data;
  const ratio = Float32Array.from(data, (value, k) => value / Math.max(light[k], 1));

  const [down, across] = [height, width].map((side) => Math.max(1, Math.trunc(side / 400)));
  const sample = [];
  for (let y = 0; y < height; y += down) for (let x = 0; x < width; x += across) sample.push(ratio[y * width + x]);
  const sorted = Float32Array.from(sample).sort();
  const paper = quantile(sorted, 0.5);
  const grain = Math.min(1.4826 * median(sorted.map((value) => Math.abs(value - paper))), 0.04); // more is hatching
  const white = Math.max(Math.min(paper, 1.05) - 2 * grain, 0.5);
  const black = Math.min(quantile(sorted, 0.005), white - 0.25); // an empty sheet stays empty
  const floor = Math.max(0, black - 0.15 * (white - black)); // faint pencil becomes clearly visible, not black
  const put = (value) => roundHalfEven(255 * Math.max(0, Math.min(1, (value - floor) / (white - floor))));
  return { width, height, data: Uint8Array.from(ratio, put) };
}

/**
 * A wide local maximum, which follows shadows; where that is too dark for one, a quadratic surface through the bright
 * pixels.
 */
function lightOn(small) {
  const floats = { ...small, data: Float32Array.from(small.data) };
  const local = closed(medians(floats, 3), WIDE, nearest).data;
  const surface = quadratic(floats);
  const chosen = { ...floats, data: local.map((value, k) => (value > SHADOW * surface[k] ? value : surface[k])) };
  const { data } = gaussian(chosen, BLUR, nearest);
  return { ...floats, data: data.map((value) => Math.max(value, 1)) };
}

/** Least-squares quadratic surface through the bright pixels: darker ones are dropped and the fit repeated. */
export function quadratic({ width, height, data }) {
  const at = (k, length) => (length > 1 ? (2 * k) / (length - 1) - 1 : -1);
  const basis = Array.from(data, (_, k) => {
    const [x, y] = [at(k % width, width), at(Math.trunc(k / width), height)];
    return [1, x, y, x * x, x * y, y * y];
  });
  const sorted = Float64Array.from(data).sort();
  const least = quantile(sorted, 0.4);
  let keep = Array.from(data, (value) => value >= least);
  let fit = new Float64Array(data.length).fill(median(data.filter((value) => value >= least)));
  for (let turn = 0; turn < 4 && keep.filter(Boolean).length >= 50; turn += 1) {
    const surface = solved(basis, data, keep);
    fit = Float64Array.from(basis, (row) => row.reduce((sum, value, k) => sum + value * surface[k], 0));
    keep = Array.from(data, (value, k) => value > fit[k] - 12);
  }
  return fit.map((value) => Math.max(sorted[0], Math.min(sorted.at(-1), value)));
}

/** The coefficients of least squares over the rows that are kept, from the normal equations. */
function solved(basis, values, keep) {
  const n = basis[0].length;
  const rows = Array.from({ length: n }, () => new Float64Array(n + 1));
  basis.forEach((row, at) => {
    if (!keep[at]) return;
    for (let i = 0; i < n; i += 1) {
      for (let j = 0; j < n; j += 1) rows[i][j] += row[i] * row[j];
      rows[i][n] += row[i] * values[at];
    }
  });
  for (let i = 0; i < n; i += 1) {
    const pivot = rows.slice(i).reduce((best, row) => (Math.abs(row[i]) > Math.abs(best[i]) ? row : best));
    rows.splice(rows.indexOf(pivot), 1);
    rows.splice(i, 0, pivot);
    for (const row of rows) {
      if (row === pivot) continue;
      const times = row[i] / pivot[i];
      for (let j = i; j <= n; j += 1) row[j] -= times * pivot[j];
    }
  }
  return rows.map((row, i) => row[n] / row[i]);
}
