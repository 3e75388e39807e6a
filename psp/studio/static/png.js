// Label maps as palette PNGs, written by hand: a canvas would only write colours, and some browsers blur those on purpose.
import { SIDE } from './pointer.js';

const TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let k = 0; k < 8; k += 1) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n >>> 0;
});
const crc = (bytes) => (bytes.reduce((sum, byte) => TABLE[(sum ^ byte) & 255] ^ (sum >>> 8), 0xffffffff) ^ 0xffffffff) >>> 0;
const number = (n) => [n >>> 24 & 255, n >>> 16 & 255, n >>> 8 & 255, n & 255];

function chunk(name, data) {
  const body = new Uint8Array([...name].map((letter) => letter.charCodeAt(0)).concat([...data]));
  return new Uint8Array([...number(data.length), ...body, ...number(crc(body))]);
}

/** ids: Uint8Array side * side; colours: "#rrggbb" by id. Returns a PNG blob of 8-bit palette indices. */
export async function palettePng(ids, side, colours) {
  const rows = new Uint8Array(side * (side + 1)); // each row starts with its filter, 0
  for (let row = 0; row < side; row += 1) rows.set(ids.subarray(row * side, (row + 1) * side), row * (side + 1) + 1);
  const packed = new Response(new Blob([rows]).stream().pipeThrough(new CompressionStream('deflate')));
  const palette = colours.flatMap((colour) => number(parseInt(colour.slice(1), 16)).slice(1));
  return new Blob(
    [
      new Uint8Array([137, 80, 78, 71, 13, 10, 26, 10]),
      chunk('IHDR', [...number(side), ...number(side), 8, 3, 0, 0, 0]),
      chunk('PLTE', palette),
      chunk('IDAT', new Uint8Array(await packed.arrayBuffer())),
      chunk('IEND', []),
    ],
    { type: 'image/png' },
  );
}

/** An image in exact palette colours -> its ids; a colour that is none becomes background. */
export function readIds(image, colours) {
  const canvas = document.createElement('canvas');
  canvas.width = canvas.height = SIDE;
  const context = canvas.getContext('2d', { willReadFrequently: true });
  context.imageSmoothingEnabled = false;
  context.drawImage(image, 0, 0, SIDE, SIDE);
  const pixels = new Uint32Array(context.getImageData(0, 0, SIDE, SIDE).data.buffer);
  const byColour = new Map(colours.map((colour, id) => [colour, id]));
  return Uint8Array.from(pixels, (pixel) => byColour.get(pixel) ?? 0);
}
