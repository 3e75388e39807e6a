// What test_studio_web.py compares with Python: cases.json in, answers on standard output.
import { readFileSync } from 'node:fs';
import { base64Of } from './static/bytes.js';
import { between, fromNpy, mixed, toNpy } from './static/codes.js';
import { noise, sha256, twister } from './static/noise.js';
import { drawn } from './static/drawn.js';
import { CodeSpace } from './static/space.js';
import { labelNumbers, labelPixels, sketchPixels } from './static/pictures.js';

const cases = JSON.parse(readFileSync('cases.json'));
const picture = ({ name, width, height }) => ({ width, height, data: new Uint8ClampedArray(readFileSync(name)) });
const [first, second] = [new Float32Array([1, 2, 3, 4, 5, 6]), new Float32Array([10, 20, 30, 40, 50, 60])];
const npy = toNpy(first, 3, 2);
const { known, dim, codes, styles, edits, amount } = cases.space;
const space = new CodeSpace(known, new Uint8Array(readFileSync('space.npy')), dim);
const [own, random] = [Float32Array.from(codes), Float32Array.from(styles)];
const prepared = (one) => {
  const { pixels, notes } = sketchPixels(picture(one));
  return [base64Of(pixels), notes.join(', ')];
};
console.log(
  JSON.stringify(
    {
      sketches: cases.sketches.map(prepared),
      paper: cases.paper.map(prepared),
      maps: cases.maps.map((one) => {
        const ids = labelNumbers(picture(one), cases.colours);
        return ids && base64Of(labelPixels(ids));
      }),
      drawn: cases.drawn.map((one) => drawn(picture(one))),
      noise: cases.seeds.map((seed) => [...noise(seed, 256)]),
      digest: [...sha256('abc')],
      twisted: [...twister(5489, 10000).slice(-1)],
      space: {
        edited: space.edited(own, edits),
        followed: space.followed(own, amount),
        same: space.followed(own, 1),
        people: space.people(own, random),
      },
      npy: base64Of(npy),
      read: [fromNpy(npy, 3, 2), fromNpy(npy, 2, 3), fromNpy(npy.slice(0, -1), 3, 2)].map(
        (found) => found && [...found],
      ),
      mixed: [mixed(first, second, [1, 2], 1, 2), mixed(first, second, [0], 0.25, 2), between(first, second, 0.5)].map(
        (codes) => [...codes],
      ),
    },
    (_, value) => (value instanceof Float32Array ? [...value] : value),
  ),
);
