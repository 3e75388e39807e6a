// What is known about a model's codes, put to use: edits, drawings followed less closely, other people in the same
// pose. The tables are those of psp/inference/editor.py, rows of D numbers in one .npy; `rows` says which are which.
import { fromNpy } from './codes.js';

const dot = (a, b) => a.reduce((sum, value, k) => sum + value * b[k], 0);

/** table [K * W] times vector [W] -> [K]. */
const times = (table, vector) =>
  Float64Array.from({ length: table.length / vector.length }, (_, k) =>
    dot(table.subarray(k * vector.length, (k + 1) * vector.length), vector),
  );

/** weights [K] times table [K * W] -> [W]. */
function weighted(weights, table) {
  const width = table.length / weights.length;
  const sum = new Float64Array(width);
  weights.forEach((weight, k) => {
    for (let j = 0; j < width; j += 1) sum[j] += weight * table[k * width + j];
  });
  return sum;
}

export class CodeSpace {
  /** known: {rows: {name: [from, to]}, count, follow: {layers, deviations, radius}, further}; bytes: of the .npy. */
  constructor(known, bytes, dim) {
    Object.assign(this, { known, dim, values: fromNpy(bytes, known.count, dim) });
    if (!this.values) throw new Error('The tables of this model are damaged.');
  }

  table(name) {
    const [from, to] = this.known.rows[name];
    return this.values.subarray(from * this.dim, to * this.dim);
  }

  /** Codes [N * D] moved along directions, {name: strength}; without any, the same. */
  edited(codes, strengths) {
    const shift = new Float32Array(codes.length);
    for (const [name, strength] of Object.entries(strengths)) {
      this.table(`edit.${name}`).forEach((value, k) => {
        shift[k] += strength * value;
      });
    }
    return codes.map((value, k) => value + shift[k]);
  }

  /** An encoder's codes drawn towards those of faces; amount 1 (every line; the same codes) to 0. */
  followed(codes, amount) {
    if (amount === 1) return codes;
    const { layers, deviations, radius } = this.known.follow;
    const [mean, axes] = [this.table('mean'), this.table('axes')];
    const chosen = Float32Array.from(
      layers.flatMap((layer) => [...codes.subarray(layer * this.dim, (layer + 1) * this.dim)]),
    );
    const along = times(
      axes,
      chosen.map((value, k) => value - mean[k]),
    );
    const length = Math.sqrt(along.reduce((sum, value, k) => sum + (value / deviations[k]) ** 2, 0) / along.length);
    const plausible = weighted(
      along.map((value) => (value * radius) / Math.max(length, radius)),
      axes,
    );
    const made = codes.slice();
    layers.forEach((layer, i) => {
      for (let j = 0; j < this.dim; j += 1) {
        const k = i * this.dim + j;
        const safe = mean[k] + plausible[k];
        made[layer * this.dim + j] = safe + amount * (chosen[k] - safe);
      }
    });
    return made;
  }

  /** Styles [N * D] to be mixed in for other people: the parts as in `codes`, the rest as in `styles`. */
  people(codes, styles) {
    if (!this.known.rows.parts) return styles;
    const {
      dim,
      known: { further },
    } = this;
    const average = this.table('average');
    const made = new Float32Array(codes.length);
    for (let start = 0; start < codes.length; start += dim) {
      const away = (of) => Float64Array.from({ length: dim }, (_, k) => of[start + k] - average[start + k]);
      const [kept, other] = [this.moving(away(codes)), away(styles)];
      const moved = this.moving(other);
      for (let k = 0; k < dim; k += 1) made[start + k] = average[start + k] + kept[k] + further * (other[k] - moved[k]);
    }
    return made;
  }

  /** What moves the parts in a difference [D] from the average style. */
  moving(away) {
    return weighted(times(this.table('parts'), away), this.table('back'));
  }
}
