// W+ codes: tables of layers by width, mixed as psp/models/mixing.py mixes them, and kept as .npy files.

/** `codes` with `strength` of `styles` in the given layers, both Float32Array [N * D]; a new array. */
export function mixed(codes, styles, layers, strength, dim) {
  const made = codes.slice();
  for (const layer of layers) {
    for (let k = layer * dim; k < (layer + 1) * dim; k += 1) {
      made[k] = strength === 1 ? styles[k] : strength * styles[k] + (1 - strength) * codes[k];
    }
  }
  return made;
}

/** Between two codes, at 0 (the first) to 1. */
export const between = (first, second, at) => first.map((value, k) => value + at * (second[k] - value));

/** Float32Array [rows * columns] -> the bytes of a .npy file. */
export function toNpy(values, rows, columns) {
  const words = `{'descr': '<f4', 'fortran_order': False, 'shape': (${rows}, ${columns}), }`;
  const header = words.padEnd(Math.ceil((words.length + 11) / 64) * 64 - 11) + '\n';
  const bytes = new Uint8Array(10 + header.length + values.byteLength);
  bytes.set([
    0x93,
    ...[...'NUMPY'].map((letter) => letter.charCodeAt(0)),
    1,
    0,
    header.length & 255,
    header.length >> 8,
  ]);
  bytes.set(
    [...header].map((letter) => letter.charCodeAt(0)),
    10,
  );
  bytes.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength), 10 + header.length);
  return bytes;
}

/** The floats of a .npy file of that shape; null for anything else. */
export function fromNpy(bytes, rows, columns) {
  const start = 10 + (bytes[8] | (bytes[9] << 8));
  const header = String.fromCharCode(...bytes.subarray(10, start));
  const shape = /'shape': \(([0-9, ]+)\)/
    .exec(header)?.[1]
    .split(',')
    .map(Number)
    .filter((n) => n !== 1 || rows === 1);
  if (!header.includes("'<f4'") || !header.includes('False') || shape?.join() !== `${rows},${columns}`) return null;
  if (bytes.length !== start + 4 * rows * columns) return null;
  const values = new Float32Array(bytes.slice(start).buffer);
  return values.every(Number.isFinite) ? values : null;
}
