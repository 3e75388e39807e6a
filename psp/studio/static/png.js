// PNG files chunk by chunk: label maps as palettes (a canvas would only write colours, and some browsers blur those on
// purpose), words inside pictures, and animations.
import { joined, through, unpacked } from './bytes.js';

const HEAD = [137, 80, 78, 71, 13, 10, 26, 10];
const KEYWORD = 'psp-studio';
const PIECE = 500000; // bytes of one chunk of words; readers refuse those that unpack to more than a megabyte

const TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let k = 0; k < 8; k += 1) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n >>> 0;
});
export function crc(bytes) {
  let sum = 0xffffffff;
  for (let k = 0; k < bytes.length; k += 1) sum = TABLE[(sum ^ bytes[k]) & 255] ^ (sum >>> 8);
  return (sum ^ 0xffffffff) >>> 0;
}
const number = (n) => [(n >>> 24) & 255, (n >>> 16) & 255, (n >>> 8) & 255, n & 255];
const letters = (text) => [...text].map((letter) => letter.charCodeAt(0));

function chunk(name, data) {
  const whole = new Uint8Array(data.length + 12);
  whole.set([...number(data.length), ...letters(name)]);
  whole.set(data, 8);
  whole.set(number(crc(whole.subarray(4, data.length + 8))), data.length + 8);
  return whole;
}

/** [name, data] of each chunk; throws for what is no PNG or ends too soon. */
export function* chunks(bytes) {
  if (!HEAD.every((byte, k) => bytes[k] === byte)) throw new Error('no PNG file');
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 8, name = ''; name !== 'IEND';) {
    const length = at + 12 <= bytes.length ? view.getUint32(at) : bytes.length;
    if (at + 12 + length > bytes.length) throw new Error('damaged PNG file');
    name = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    yield [name, bytes.subarray(at + 8, at + 8 + length)];
    at += 12 + length;
  }
}

/** ids: Uint8Array side * side; colours: "#rrggbb" by id. Returns a PNG blob of 8-bit palette indices. */
export async function palettePng(ids, side, colours) {
  const rows = new Uint8Array(side * (side + 1)); // each row starts with its filter, 0
  for (let row = 0; row < side; row += 1) rows.set(ids.subarray(row * side, (row + 1) * side), row * (side + 1) + 1);
  const palette = colours.flatMap((colour) => number(parseInt(colour.slice(1), 16)).slice(1));
  return new Blob(
    [
      new Uint8Array(HEAD),
      chunk('IHDR', [...number(side), ...number(side), 8, 3, 0, 0, 0]),
      chunk('PLTE', palette),
      chunk('IDAT', await through(rows, new CompressionStream('deflate'))),
      chunk('IEND', []),
    ],
    { type: 'image/png' },
  );
}

/** The same picture with words in it: compressed iTXt chunks that every reader of PNGs skips or shows. */
export async function withWords(bytes, text) {
  const all = new TextEncoder().encode(text);
  const words = [];
  for (let at = 0; at < all.length; at += PIECE) {
    const packed = await through(all.subarray(at, at + PIECE), new CompressionStream('deflate'));
    words.push(chunk('iTXt', joined([Uint8Array.of(...letters(KEYWORD), 0, 1, 0, 0, 0), packed])));
  }
  const end = 8 + 25; // after IHDR
  return joined([bytes.subarray(0, end), ...words, bytes.subarray(end)]);
}

const isOurs = (name, data) =>
  name === 'iTXt' && String.fromCharCode(...data.subarray(0, KEYWORD.length + 1)) === `${KEYWORD}\0`;

/** The picture as it was before `withWords`, byte for byte. */
export function withoutWords(bytes) {
  const kept = [...chunks(bytes)]
    .filter(([name, data]) => !isOurs(name, data))
    .map(([name, data]) => chunk(name, data));
  return joined([new Uint8Array(HEAD), ...kept]);
}

/** The words that `withWords` put into a picture, or null. */
export async function wordsOf(bytes) {
  const parts = [];
  for (const [name, data] of chunks(bytes)) {
    if (!isOurs(name, data)) continue;
    const body = data.subarray(KEYWORD.length + 5);
    parts.push(data[KEYWORD.length + 1] ? await unpacked(body, 'deflate', PIECE) : body);
  }
  return parts.length ? new TextDecoder().decode(joined(parts)) : null;
}

/** PNGs of one size and kind, one after the other, as an animated PNG that goes round for ever. */
export function animated(frames, milliseconds) {
  const parts = [new Uint8Array(HEAD)];
  let order = 0;
  frames.forEach((bytes, k) => {
    const all = [...chunks(bytes)];
    const header = all[0][1];
    if (k === 0)
      parts.push(
        chunk('IHDR', header),
        chunk('acTL', [...number(frames.length), ...number(0)]),
        ...all.filter(([name]) => name === 'PLTE').map(([name, data]) => chunk(name, data)),
      );
    const frame = [
      ...number(order),
      ...header.subarray(0, 8),
      ...number(0),
      ...number(0),
      milliseconds >> 8,
      milliseconds & 255,
      3,
      232,
      0,
      0,
    ];
    parts.push(chunk('fcTL', frame));
    order += 1;
    for (const [name, data] of all) {
      if (name !== 'IDAT') continue;
      if (k === 0) {
        parts.push(chunk('IDAT', data));
        continue;
      }
      const numbered = new Uint8Array(data.length + 4);
      numbered.set(number(order));
      numbered.set(data, 4);
      parts.push(chunk('fdAT', numbered));
      order += 1;
    }
  });
  return new Blob([...parts, chunk('IEND', [])], { type: 'image/png' });
}
