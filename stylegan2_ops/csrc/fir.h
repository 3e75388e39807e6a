// upfirdn2d: put up - 1 zeros after every sample, pad (or crop), filter, keep every down-th sample.
//
// Along one axis, for output o and tap t of K taps: the sum over t of tap[t] * in[i] where i * up = o * down - pad + t.
// Two kernels. `fir4`: 4 by 4 taps and up, down = 1,1 (blur), 2,1 or 1,2, for speed. `fir_any`: everything else.
//
// fir4: a thread owns a strip of output columns and walks down the rows. It reads each input row once, filters it
// horizontally and adds the result to the output rows that it takes part in; these wait in registers until complete.
// Where the 4 by 4 taps are exactly an outer product, as [1,3,3,1] gives them, it filters with 4 + 4 instead of 16
// products; the taps lie in device memory, so the device decides. Neighbouring threads read overlapping columns, which
// the first-level cache serves.
#pragma once

#include <initializer_list>

#include "epilogue.h"

namespace stylegan2_ops {

struct FirShape {
  int64_t n, c, h, w;      // input
  int64_t oh, ow;          // output
  int64_t xn, xc, xh, xw;  // strides of the input, in elements: any
  int64_t yn, yc, yh, yw;  // strides of the output
  int taps_h, taps_w;
  int up, down;
  int pad_left, pad_top;  // negative: crop
  bool flip;              // a convolution; false: a correlation, which is its gradient
};

struct FirPlan {
  FirShape shape;
  bool fast;            // fir4
  bool channels_first;  // neighbouring threads take neighbouring channels (interleaved), else columns
  int vector;           // channels of a thread: 1, or a whole access
  bool wide_store;      // the columns of a thread lie side by side and aligned
  int rows;             // output rows of a thread
  int shift_left, shift_top;  // strips begin this much before the first output, so that their phase is known
  int64_t groups, units, strips;  // threads along channels, columns, rows
  int64_t threads;
};

constexpr int kTaps = 4;

template <int kUp, int kDown>
struct Phase {
  static constexpr int kWaiting = kTaps / kDown;  // output rows that a row of input takes part in
  static constexpr int kLast = kTaps - kDown;     // the tap that completes the first of them
  static constexpr int kTurns = kWaiting / kUp;   // steps after which every sum has had every place
  static constexpr int kWarmUp = (kWaiting - kUp) / kUp;  // steps before the first complete row
};

// Input columns under `columns` output columns.
HD constexpr int fir_reach(int up, int down, int columns) { return (down * (columns - 1) + kTaps - 1) / up + 1; }

// Output columns of a thread: as many as leave it 16 or 32 sums (64 for 8 channels upsampled), a multiple of `up`.
HD constexpr int fir_columns(int up, int vector) { return vector == 1 ? 4 : vector == 4 ? 2 : up; }

HD int64_t positive_modulo(int64_t a, int64_t b) { return ((a % b) + b) % b; }

// Rows and columns are counted in 32 bits, because registers are short.
inline bool is_fir4(const FirShape& s) {
  constexpr int64_t kLongest = 1 << 29;
  return s.taps_h == kTaps && s.taps_w == kTaps && s.up * s.down <= 2 && s.h < kLongest && s.w < kLongest &&
         s.oh < kLongest && s.ow < kLongest;
}

// Whether a thread may take a whole access of channels: addresses and strides are multiples of it.
inline bool fir_vectors(const FirShape& s, int vector_length, const void* x, const void* y, const Epilogue* e) {
  for (const int64_t stride : {s.xn, s.xh, s.xw, s.yn, s.yh, s.yw}) {
    if (stride % vector_length != 0) return false;
  }
  return s.xc == 1 && s.c % vector_length == 0 && aligned(x, 16) && aligned(y, 16) &&
         (!e || (aligned(e->scale, 16) && aligned(e->bias, 16) && aligned(e->next, 16) && aligned_rows(*e, vector_length)));
}

// Whether the columns of a thread lie side by side in y, at a multiple of their size.
inline bool fir_wide_store(const FirShape& s, int columns, int shift_left, const void* y) {
  for (const int64_t size : {s.ow, s.yn, s.yc, s.yh}) {
    if (size % columns != 0) return false;
  }
  return s.yw == 1 && shift_left == 0 && aligned(y, 16);
}

// vector_length: of the elements of x and y. e: the epilogue that follows, or null. rows: 0: by the size of the work.
inline FirPlan plan_fir(const FirShape& s, int vector_length, const void* x, const void* y, const Epilogue* e,
                        int rows = 0) {
  FirPlan plan{};
  plan.shape = s;
  plan.channels_first = s.yc == 1 && s.c > 1;
  plan.fast = is_fir4(s);
  plan.vector = 1;
  plan.rows = 1;
  if (!plan.fast) {
    plan.groups = s.c;
    plan.units = s.ow;
    plan.strips = s.oh;
    plan.threads = s.n * s.c * s.oh * s.ow;
    return plan;
  }
  if (plan.channels_first && fir_vectors(s, vector_length, x, y, e)) plan.vector = vector_length;
  const int columns = fir_columns(s.up, plan.vector);
  plan.shift_left = static_cast<int>(positive_modulo(s.pad_left, s.up));
  plan.shift_top = static_cast<int>(positive_modulo(s.pad_top + kTaps - s.down, s.up));
  plan.wide_store = plan.vector == 1 && fir_wide_store(s, columns, plan.shift_left, y);
  plan.groups = s.c / plan.vector;
  plan.units = ceil_div(s.ow + plan.shift_left, columns);
  const int64_t columns_of_threads = s.n * plan.groups * plan.units;
  plan.rows = rows ? rows : 32;
  while (!rows && plan.rows > 4 && columns_of_threads * s.oh < (int64_t{1} << 17) * plan.rows) {
    plan.rows /= 2;  // there would not be threads enough to fill a large device
  }
  plan.strips = ceil_div(s.oh + plan.shift_top, plan.rows);
  plan.threads = columns_of_threads * plan.strips;
  return plan;
}

struct FirThread {
  int64_t n, group, unit, strip;
};

HD FirThread fir_thread(const FirPlan& plan, int64_t index) {
  FirThread t;
  if (plan.channels_first) {
    t.group = split(index, plan.groups);
    t.unit = split(index, plan.units);
    t.strip = split(index, plan.strips);
  } else {
    t.unit = split(index, plan.units);
    t.strip = split(index, plan.strips);
    t.group = split(index, plan.groups);
  }
  t.n = index;
  return t;
}

// The 4 by 4 taps as they are applied, and their factors where they are an outer product.
struct Taps4 {
  float tap[kTaps][kTaps];
  float across[kTaps], down[kTaps];
  bool separable;

  HD Taps4(const float* taps, bool flip) {
    UNROLL()
    for (int i = 0; i < kTaps; ++i) {
      UNROLL()
      for (int j = 0; j < kTaps; ++j) {
        tap[i][j] = load_float(taps + (flip ? (kTaps - 1 - i) * kTaps + kTaps - 1 - j : i * kTaps + j));
      }
    }
    separable = tap[0][0] != 0.0f;
    UNROLL()
    for (int i = 0; i < kTaps; ++i) {
      across[i] = tap[0][i];
      down[i] = tap[i][0] / tap[0][0];
    }
    UNROLL()
    for (int i = 0; i < kTaps; ++i) {
      UNROLL()
      for (int j = 0; j < kTaps; ++j) separable = separable && tap[i][j] == down[i] * across[j];
    }
  }
};

template <typename T, int kUp, int kDown, int V, bool kSeparable, bool kEpilogue>
HD void fir4_strip(const FirPlan& plan, const Epilogue& e, const Taps4& taps, const T* x, T* y, const FirThread& t) {
  using P = Phase<kUp, kDown>;
  constexpr int kColumns = fir_columns(kUp, V);
  constexpr int kReach = fir_reach(kUp, kDown, kColumns);
  const FirShape& s = plan.shape;
  const int h = static_cast<int>(s.h), w = static_cast<int>(s.w), oh = static_cast<int>(s.oh);
  const int left = static_cast<int>(t.unit) * kColumns - plan.shift_left;
  const int top = static_cast<int>(t.strip) * plan.rows - plan.shift_top;
  const int bottom = top + plan.rows < oh ? top + plan.rows : oh;  // of the outputs, exclusive
  const int in_left = (left * kDown - s.pad_left) / kUp;           // exact
  const int in_top = (top * kDown - s.pad_top + P::kLast) / kUp;   // exact: row of step 0
  const int64_t c = t.group * V;
  const T* source = x + t.n * s.xn + c * s.xc + in_left * s.xw;
  T* target = y + t.n * s.yn + c * s.yc;
  const Affine<V> affine(e, t.n, c);
  const bool inside = in_left >= 0 && in_left + kReach <= w;

  float sum[P::kWaiting][kColumns][V];
  UNROLL()
  for (int a = 0; a < P::kWaiting; ++a) {
    UNROLL()
    for (int q = 0; q < kColumns; ++q) {
      UNROLL()
      for (int k = 0; k < V; ++k) sum[a][q][k] = 0.0f;
    }
  }
  const int steps = (bottom - top + kUp - 1) / kUp;
  [[maybe_unused]] constexpr int kTurns = P::kTurns;  // unrolled, the sums change places without moving
  UNROLL(kTurns)
  for (int step = -P::kWarmUp; step < steps; ++step) {
    UNROLL()
    for (int d = 0; d < kDown; ++d) {
      const int row = in_top + step * kDown + d;
      const bool row_inside = row >= 0 && row < h;
      const T* line = source + row * s.xh;
      Packed<T, V> part[kReach] = {};
      if (row_inside && inside) {  // nearly always
        if (V == 1 && s.xw == 1) {
          UNROLL()
          for (int j = 0; j < kReach; ++j) part[j] = load<V>(line + j);
        } else {
          UNROLL()
          for (int j = 0; j < kReach; ++j) part[j] = load<V>(line + j * s.xw);
        }
      } else if (row_inside) {
        UNROLL()
        for (int j = 0; j < kReach; ++j) {
          if (in_left + j >= 0 && in_left + j < w) part[j] = load<V>(line + j * s.xw);
        }
      }
      float in[kReach][V];
      UNROLL()
      for (int j = 0; j < kReach; ++j) part[j].unpack(in[j]);
      UNROLL()
      for (int q = 0; q < kColumns; ++q) {
        if (kSeparable) {
          float across[V];
          UNROLL()
          for (int k = 0; k < V; ++k) across[k] = 0.0f;
          UNROLL()
          for (int tx = 0; tx < kTaps; ++tx) {
            if ((kDown * q + tx) % kUp != 0) continue;
            UNROLL()
            for (int k = 0; k < V; ++k) {
              across[k] = multiply_add(taps.across[tx], in[(kDown * q + tx) / kUp][k], across[k]);
            }
          }
          UNROLL()
          for (int a = 0; a < P::kWaiting; ++a) {
            const int ty = kUp * d - kDown * a + P::kLast;
            UNROLL()
            for (int k = 0; k < V; ++k) sum[a][q][k] = multiply_add(taps.down[ty], across[k], sum[a][q][k]);
          }
        } else {
          UNROLL()
          for (int a = 0; a < P::kWaiting; ++a) {
            const int ty = kUp * d - kDown * a + P::kLast;
            UNROLL()
            for (int tx = 0; tx < kTaps; ++tx) {
              if ((kDown * q + tx) % kUp != 0) continue;
              UNROLL()
              for (int k = 0; k < V; ++k) {
                sum[a][q][k] = multiply_add(taps.tap[ty][tx], in[(kDown * q + tx) / kUp][k], sum[a][q][k]);
              }
            }
          }
        }
      }
    }
    UNROLL()
    for (int a = 0; a < kUp; ++a) {
      const int oy = top + step * kUp + a;
      if (step < 0 || oy < 0 || oy >= bottom) continue;
      if (kEpilogue) {
        const Next<V> next(e, t.n, c);  // loaded for each row: kept, it would not leave registers enough
        UNROLL()
        for (int q = 0; q < kColumns; ++q) {
          if (left + q >= s.ow) continue;  // a blur begins no strip before the first column
          float noise[1];
          load_noise<false>(noise, e, t.n, oy * s.ow + left + q);
          UNROLL()
          for (int k = 0; k < V; ++k) {
            sum[a][q][k] = activate(e, affine.before_activation(sum[a][q][k], noise[0], k)) * next.factor[k];
          }
        }
      }
      T* out = target + oy * s.yh + left * s.yw;
      if (V == 1 && plan.wide_store) {
        constexpr int kAccess = vector_length<T>() < kColumns ? vector_length<T>() : kColumns;
        UNROLL()
        for (int q = 0; q < kColumns; q += kAccess) {
          float part[kAccess];
          UNROLL()
          for (int i = 0; i < kAccess; ++i) part[i] = sum[a][q + i][0];
          store<kAccess>(out + q, part);
        }
      } else {
        UNROLL()
        for (int q = 0; q < kColumns; ++q) {
          if (left + q >= 0 && left + q < s.ow) store<V>(out + q * s.yw, sum[a][q]);
        }
      }
    }
    UNROLL()
    for (int a = 0; a < P::kWaiting; ++a) {
      UNROLL()
      for (int q = 0; q < kColumns; ++q) {
        UNROLL()
        for (int k = 0; k < V; ++k) sum[a][q][k] = a + kUp < P::kWaiting ? sum[a + kUp][q][k] : 0.0f;
      }
    }
  }
}

template <typename T, int kUp, int kDown, int V, bool kEpilogue>
HD void fir4_thread(const FirPlan& plan, const Epilogue& e, const float* taps, const T* x, T* y, int64_t index) {
  if (index >= plan.threads) return;
  const FirThread t = fir_thread(plan, index);
  const Taps4 loaded(taps, plan.shape.flip);
  if (loaded.separable) {
    fir4_strip<T, kUp, kDown, V, true, kEpilogue>(plan, e, loaded, x, y, t);
  } else {
    fir4_strip<T, kUp, kDown, V, false, kEpilogue>(plan, e, loaded, x, y, t);
  }
}

// The taps of one axis that touch the image: input `in` at tap `tap`, then in + 1 at tap + up, and so on.
struct TapRange {
  int64_t in, tap;

  HD TapRange(int64_t out, int up, int down, int pad) {
    const int64_t base = out * down - pad;
    in = base > 0 ? ceil_div(base, up) : 0;
    tap = in * up - base;
  }
};

template <typename T>
HD void fir_any_thread(const FirPlan& plan, const float* taps, const T* x, T* y, int64_t index) {
  if (index >= plan.threads) return;
  const FirThread t = fir_thread(plan, index);
  const FirShape& s = plan.shape;
  const TapRange vertical(t.strip, s.up, s.down, s.pad_top), horizontal(t.unit, s.up, s.down, s.pad_left);
  const T* source = x + t.n * s.xn + t.group * s.xc;
  float sum[1] = {0.0f};
  int64_t row = vertical.in;
  for (int64_t ty = vertical.tap; ty < s.taps_h && row < s.h; ty += s.up, ++row) {
    const float* line = taps + (s.flip ? s.taps_h - 1 - ty : ty) * s.taps_w;
    int64_t column = horizontal.in;
    for (int64_t tx = horizontal.tap; tx < s.taps_w && column < s.w; tx += s.up, ++column) {
      float in[1];
      load<1>(source + row * s.xh + column * s.xw).unpack(in);
      sum[0] = multiply_add(load_float(line + (s.flip ? s.taps_w - 1 - tx : tx)), in[0], sum[0]);
    }
  }
  store<1>(y + t.n * s.yn + t.group * s.yc + t.strip * s.yh + t.unit * s.yw, sum);
}

}  // namespace stylegan2_ops
