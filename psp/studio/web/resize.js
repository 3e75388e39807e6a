// Pictures of one channel in another size, as Pillow's Image.resize makes them.

export const BOX = { support: 0.5, weight: (x) => (x > -0.5 && x <= 0.5 ? 1 : 0) };
const BILINEAR = { support: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) };
export const BICUBIC = {
  support: 2,
  weight(x) {
    const far = Math.abs(x);
    if (far < 1) return (1.5 * far - 2.5) * far * far + 1;
    return far < 2 ? ((far - 5) * far + 8) * far * -0.5 + 2 : 0;
  },
};

/** For every pixel of a row that becomes `to` long: its first source, and the weights, which add up to 1. */
function taps(from, to, { support, weight }) {
  const scale = Math.max(from / to, 1);
  return Array.from({ length: to }, (_, x) => {
    const centre = ((x + 0.5) * from) / to;
    const first = Math.max(0, Math.trunc(centre - support * scale + 0.5));
    const last = Math.min(from, Math.trunc(centre + support * scale + 0.5));
    const weights = Array.from({ length: last - first }, (_, k) => weight((k + first - centre + 0.5) * (1 / scale)));
    const sum = weights.reduce((a, b) => a + b, 0);
    return { first, weights: weights.map((one) => one / sum) };
  });
}

/**
 * Both directions, one after the other. summed: weights -> (data, where its k-th source lies) -> what a pixel becomes.
 */
function inBoth(image, width, height, filter, Kind, summed) {
  let { data } = image;
  const along = (rows, from, to, at, step) => {
    const made = new Kind(rows * to);
    taps(from, to, filter).forEach(({ first, weights }, x) => {
      const sum = summed(weights);
      for (let row = 0; row < rows; row += 1) made[step(row, x)] = sum(data, (k) => at(row, first + k));
    });
    return made;
  };
  if (image.width !== width)
    data = along(
      image.height,
      image.width,
      width,
      (row, x) => row * image.width + x,
      (row, x) => row * width + x,
    );
  if (image.height !== height)
    data = along(
      width,
      image.height,
      height,
      (x, row) => row * width + x,
      (x, row) => row * width + x,
    );
  return { width, height, data };
}

/** Bytes are added up in whole numbers, as Pillow does, to the bit. */
function inBytes(weights) {
  const whole = weights.map((weight) => Math.trunc(0.5 + weight * (1 << 22)));
  return (data, at) => {
    let sum = 1 << 21;
    for (let k = 0; k < whole.length; k += 1) sum += whole[k] * data[at(k)];
    return Math.max(0, Math.min(255, sum >> 22));
  };
}

const inFloats = (weights) => (data, at) => {
  let sum = 0;
  for (let k = 0; k < weights.length; k += 1) sum += weights[k] * data[at(k)];
  return sum;
};

/** A grey picture in another size. */
export const resized = (image, width, height, filter = BILINEAR) =>
  inBoth(image, width, height, filter, Uint8Array, inBytes);

/** A picture of floats. */
export const resizedFloats = (image, width, height, filter = BILINEAR) =>
  inBoth(image, width, height, filter, Float32Array, inFloats);
