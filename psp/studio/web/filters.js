// Filters of scipy.ndimage, on pictures {width, height, data} of floats.

/** What lies beyond the rim: its outermost pixel, or the picture once more, mirrored. */
export const nearest = (at, length) => Math.max(0, Math.min(length - 1, at));
export function mirrored(at, length) {
  const turn = ((at % (2 * length)) + 2 * length) % (2 * length);
  return turn < length ? turn : 2 * length - 1 - turn;
}

/** Every row and then every column: what `of` makes of each pixel with `before` and `after` others around it. */
function inLines({ width, height, data }, before, after, edge, of) {
  const along = (from, count, apart, starts) => {
    const made = new Float32Array(from.length);
    const near = new Array(before + after + 1);
    for (const start of starts) {
      for (let x = 0; x < count; x += 1) {
        for (let k = -before; k <= after; k += 1) near[k + before] = from[start + edge(x + k, count) * apart];
        made[start + x * apart] = of(near);
      }
    }
    return made;
  };
  const rows = along(
    data,
    width,
    1,
    Array.from({ length: height }, (_, y) => y * width),
  );
  return {
    width,
    height,
    data: along(
      rows,
      height,
      width,
      Array.from({ length: width }, (_, x) => x),
    ),
  };
}

/** grey_closing by a square: what is dark and narrower than it goes. */
export function closed(image, size, edge) {
  const [less, more] = [(size - 1) >> 1, size >> 1];
  const spread = inLines(image, less, more, edge, (near) => Math.max(...near));
  return inLines(spread, more, less, edge, (near) => Math.min(...near));
}

export function gaussian(image, sigma, edge) {
  const reach = Math.trunc(4 * sigma + 0.5);
  const weights = Array.from({ length: 2 * reach + 1 }, (_, k) => Math.exp(-0.5 * ((k - reach) / sigma) ** 2));
  const sum = weights.reduce((a, b) => a + b, 0);
  return inLines(
    image,
    reach,
    reach,
    edge,
    (near) => near.reduce((total, value, k) => total + value * weights[k], 0) / sum,
  );
}

/** The median of `size` x `size` pixels around each; the rim is mirrored. */
export function medians({ width, height, data }, size) {
  const reach = size >> 1;
  const made = new Float32Array(data.length);
  const near = new Float32Array(size * size);
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      for (let k = 0; k < near.length; k += 1) {
        near[k] =
          data[mirrored(y + Math.trunc(k / size) - reach, height) * width + mirrored(x + (k % size) - reach, width)];
      }
      made[y * width + x] = near.sort()[near.length >> 1];
    }
  }
  return { width, height, data: made };
}
