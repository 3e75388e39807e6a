// Parts to start from, drawn for this project and given away under CC0: strokes, so they can be moved, stretched and
// drawn over. Each stroke is a line through x, y, x, y, ... of the 256 units; a part in `both` has its mirror image too.
import { make } from './dom.js';
import { bounds, exact, flipped } from './drawing.js';
import { paintAll } from './paint.js';
import { t } from './words.js';

const FACE = [[128, 224, 112, 220, 92, 204, 74, 176, 66, 140, 66, 104, 70, 84]];
const EARS = [[66, 128, 58, 120, 53, 128, 56, 146, 62, 160, 69, 162]];
const NECK = [[90, 204, 90, 226, 84, 240, 60, 250]];
const EYES = [[80, 122, 86, 115, 96, 112, 106, 115, 113, 123], [82, 123, 92, 129, 104, 128, 112, 123], [91, 116, 90, 122, 96, 127, 102, 122, 101, 115], [96, 120, 97, 121, 96, 122]];
const WIDE_EYES = [[78, 122, 84, 110, 96, 106, 108, 111, 114, 122], [80, 123, 90, 132, 104, 131, 113, 123], [88, 110, 87, 121, 96, 129, 105, 121, 104, 110], [95, 118, 97, 119, 96, 121], [78, 118, 72, 114], [82, 112, 77, 106]];
const NARROW_EYES = [[80, 121, 90, 116, 102, 116, 114, 123], [84, 123, 96, 126, 108, 125], [92, 117, 92, 122, 97, 125, 103, 122, 103, 117]];
const BROWS = [[74, 106, 84, 99, 98, 97, 112, 102]];
const STRONG_BROWS = [[72, 105, 82, 96, 98, 95, 114, 102], [73, 106, 84, 100, 98, 99, 113, 104], [75, 104, 86, 97, 100, 97]];
const NOSE = [[116, 128, 117, 146, 113, 160, 114, 168, 120, 170], [122, 171, 128, 174, 134, 171], [140, 128, 139, 146, 143, 160, 142, 168, 136, 170]];
const WIDE_NOSE = [[115, 130, 115, 150, 108, 162, 109, 170, 118, 172], [120, 172, 128, 176, 136, 172], [141, 130, 141, 150, 148, 162, 147, 170, 138, 172]];
const SMALL_NOSE = [[121, 164, 118, 168, 121, 171], [124, 171, 128, 173, 132, 171], [135, 164, 138, 168, 135, 171], [121, 138, 122, 152]];
const MOUTH = [[104, 194, 114, 190, 124, 188, 128, 190, 132, 188, 142, 190, 152, 194], [104, 194, 116, 195, 128, 196, 140, 195, 152, 194], [108, 196, 118, 203, 128, 205, 138, 203, 148, 196]];
const SMILE = [[100, 188, 112, 190, 124, 189, 128, 190, 132, 189, 144, 190, 156, 188], [100, 188, 112, 196, 128, 199, 144, 196, 156, 188], [104, 192, 114, 204, 128, 208, 142, 204, 152, 192], [97, 184, 99, 189, 98, 192], [159, 184, 157, 189, 158, 192]];
const FULL_MOUTH = [[104, 194, 114, 187, 123, 185, 128, 188, 133, 185, 142, 187, 152, 194], [104, 194, 116, 194, 128, 196, 140, 194, 152, 194], [106, 195, 114, 205, 128, 210, 142, 205, 150, 195]];
const SHORT_HAIR = [[66, 120, 58, 100, 58, 72, 70, 46, 92, 30, 120, 24, 148, 26, 174, 36, 192, 56, 199, 80, 198, 104, 190, 122], [70, 110, 72, 92, 84, 76, 106, 70, 130, 74, 154, 72, 174, 80, 184, 94, 187, 110], [100, 70, 116, 54, 140, 48], [132, 74, 148, 58, 166, 54]];
const LONG_HAIR = [[128, 26, 104, 26, 78, 38, 60, 62, 52, 96, 50, 140, 46, 186, 40, 224, 36, 250], [128, 34, 116, 50, 94, 66, 78, 90, 72, 120, 72, 160, 76, 200, 80, 240]];
const CURLS = [[70, 116, 58, 112, 50, 98, 56, 84, 48, 70, 58, 56, 70, 54, 72, 40, 88, 32, 100, 36, 110, 24, 126, 22, 138, 30, 150, 24, 166, 30, 172, 44, 188, 46, 196, 60, 192, 72, 204, 84, 200, 98, 204, 110, 190, 118], [74, 104, 80, 92, 92, 92, 96, 82, 110, 84, 118, 76, 130, 84, 142, 76, 152, 84, 166, 82, 172, 94, 182, 98, 184, 108]];
const BUN = [[128, 44, 100, 46, 78, 62, 68, 90, 66, 112], [128, 52, 108, 60, 88, 78, 76, 104], [108, 44, 100, 28, 112, 14, 128, 12]];

export const PARTS = {
  face: [[[...FACE, ...EARS, ...NECK, ...EYES, ...BROWS], true], [[...NOSE, ...MOUTH, ...SHORT_HAIR], false]],
  outline: [[[...FACE, ...EARS, ...NECK], true]],
  eyes: [[[...EYES, ...BROWS], true]],
  eyes_wide: [[[...WIDE_EYES, ...BROWS], true]],
  eyes_narrow: [[[...NARROW_EYES, ...STRONG_BROWS], true]],
  nose: [[NOSE, false]],
  nose_wide: [[WIDE_NOSE, false]],
  nose_small: [[SMALL_NOSE, false]],
  mouth: [[MOUTH, false]],
  mouth_smile: [[SMILE, false]],
  mouth_full: [[FULL_MOUTH, false]],
  hair_short: [[SHORT_HAIR, false]],
  hair_long: [[LONG_HAIR, true]],
  hair_curls: [[CURLS, false]],
  hair_bun: [[BUN, true]],
};

/** The strokes of a part, as they go into a drawing. */
export function part(name, width = 2) {
  return PARTS[name].flatMap(([lines, both]) => lines.flatMap((line) => {
    const points = [];
    for (let k = 0; k < line.length; k += 2) points.push(exact({ x: line[k], y: line[k + 1], pressure: null }));
    const stroke = { tool: 'pen', width, points };
    return both ? [stroke, flipped(stroke)] : [stroke];
  }));
}

/** A button with a small picture for each part; choose(strokes). */
export function fillParts(box, choose) {
  box.replaceChildren(...Object.keys(PARTS).map((name) => {
    const canvas = make('canvas', { width: 128, height: 128 });
    const context = canvas.getContext('2d');
    const [left, top, right, bottom] = bounds(part(name));
    const zoom = Math.min(2, 112 / Math.max(right - left, bottom - top));
    context.setTransform(zoom, 0, 0, zoom, 64 - (zoom * (left + right)) / 2, 64 - (zoom * (top + bottom)) / 2);
    paintAll(context, { image: null, strokes: part(name, 2.2 / zoom) });
    const button = make('button', { type: 'button', title: t(`part.${name}`), ariaLabel: t(`part.${name}`) }, canvas);
    button.addEventListener('click', () => choose(part(name)));
    return button;
  }));
}
