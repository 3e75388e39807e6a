// Random numbers as the server has them: the same seed gives the same styles.

const ROUNDS = new Uint32Array(64);
const START = new Uint32Array(8);
for (let n = 2, k = 0; k < 64; n += 1) {
  // fractions of the roots of the first primes (FIPS 180-4)
  if (Array.from({ length: n - 2 }, (_, d) => d + 2).some((d) => n % d === 0)) continue;
  if (k < 8) START[k] = (Math.sqrt(n) % 1) * 2 ** 32;
  ROUNDS[k] = (Math.cbrt(n) % 1) * 2 ** 32;
  k += 1;
}
const turned = (x, n) => (x >>> n) | (x << (32 - n));

/** SHA-256 of a short ASCII text (at most 55 letters) as eight numbers; browsers have it on secure pages alone. */
export function sha256(text) {
  const block = new Uint8Array(64);
  block.set([...text].map((letter) => letter.charCodeAt(0)));
  block[text.length] = 128;
  const words = new Uint32Array(64);
  const view = new DataView(block.buffer);
  view.setUint32(60, text.length * 8);
  for (let k = 0; k < 16; k += 1) words[k] = view.getUint32(4 * k);
  for (let k = 16; k < 64; k += 1) {
    const [a, b] = [words[k - 15], words[k - 2]];
    words[k] =
      words[k - 16] +
      (turned(a, 7) ^ turned(a, 18) ^ (a >>> 3)) +
      words[k - 7] +
      (turned(b, 17) ^ turned(b, 19) ^ (b >>> 10));
  }
  const state = START.slice();
  for (let k = 0; k < 64; k += 1) {
    const [a, b, c, , e, f, g, h] = state;
    const first = h + (turned(e, 6) ^ turned(e, 11) ^ turned(e, 25)) + ((e & f) ^ (~e & g)) + ROUNDS[k] + words[k];
    const second = (turned(a, 2) ^ turned(a, 13) ^ turned(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
    state.copyWithin(1, 0, 7);
    state[4] += first;
    state[0] = first + second;
  }
  return state.map((word, k) => word + START[k]);
}

/** `n` 32-bit numbers of a Mersenne twister (Matsumoto and Nishimura, 1998) after a seed. */
export function twister(seed, n) {
  const state = new Uint32Array(624);
  state[0] = seed;
  for (let k = 1; k < 624; k += 1) state[k] = Math.imul(1812433253, state[k - 1] ^ (state[k - 1] >>> 30)) + k;
  return Uint32Array.from({ length: n }, (_, count) => {
    const k = count % 624;
    const mixed = (state[k] & 0x80000000) | (state[(k + 1) % 624] & 0x7fffffff);
    state[k] = state[(k + 397) % 624] ^ (mixed >>> 1) ^ (mixed & 1 ? 0x9908b0df : 0);
    let y = state[k];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return y ^ (y >>> 18);
  });
}

/** Normal noise [dim] of a seed, as `psp.models.mixing.seeded_noise(1, dim, seed)`; dim is a multiple of 16. */
export function noise(seed, dim) {
  const [high, low] = sha256(`${seed}/0/`);
  const uniform = Array.from(
    twister((((high & 1) << 31) | (low >>> 1)) >>> 0, dim),
    (bits) => (bits & 0xffffff) / 2 ** 24,
  );
  const z = new Float32Array(dim);
  for (let at = 0; at < dim; at += 16) {
    // Box and Muller, eight pairs at a time, as torch does it
    for (let k = at; k < at + 8; k += 1) {
      const [radius, angle] = [Math.sqrt(-2 * Math.log(1 - uniform[k])), 2 * Math.PI * uniform[k + 8]];
      z[k] = radius * Math.cos(angle);
      z[k + 8] = radius * Math.sin(angle);
    }
  }
  return z;
}
