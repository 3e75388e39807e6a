// The end of a resolution in one pass, channels_last: the epilogue of its second convolution, and from that, before it is
// rounded and multiplied by `next`, the resolution's part of the image and what is below it, enlarged by two:
//
//   rgb[n,o,h,w] = clamp(sum over c of weight[n,o,c] * y[n,c,h,w] + bias[o], -limit, limit) + upfirdn2d(skip)[n,o,h,w]
//
// The threads of a line (tx of them) hold the channels of a pixel; what they have for its three colours is added up over
// the line, kInFlight pixels at a time.
#pragma once

#include "fir.h"

namespace stylegan2_ops {

constexpr int kColours = 3;

struct ToRgb {
  const float* weight;  // [N, 3, C]
  int64_t weight_sample, weight_row;  // strides of it
  const float* bias;    // [3]
  const float* skip;    // [N, 3, H/2, W/2], or null
  const float* taps;    // [4, 4], of a convolution
  float limit;          // infinity: no clamp
  int64_t h, w;
};

struct ToRgbPlan {
  EpiloguePlan pass;  // its blocks go along the pixels alone
  int turns;          // groups of channels that a thread takes in turn: one, unless there are very many
};

inline ToRgbPlan plan_to_rgb(EpilogueShape shape, int vector_length, const Epilogue& e, const ToRgb& rgb, const void* x,
                             const void* y, int64_t rounds = 0) {
  shape.planar = false;
  const bool vectors = aligned(rgb.weight, 16) && rgb.weight_sample % vector_length == 0 &&
                       rgb.weight_row % vector_length == 0;
  ToRgbPlan plan{plan_epilogue(shape, vectors ? vector_length : 1, e, x, y, nullptr, rounds), 0};
  plan.turns = static_cast<int>(plan.pass.along);
  plan.pass.along = 1;
  plan.pass.blocks = plan.pass.across * plan.pass.samples;
  return plan;
}

// The sums of one thread, [pixel][colour].
struct Colours {
  float sum[kInFlight * kColours];
};

// What belongs to V channels of a sample.
template <int V>
struct ToRgbColumn {
  Affine<V> affine;
  float weight[kColours][V];

  HD ToRgbColumn(const Epilogue& e, const ToRgb& rgb, int64_t n, int64_t c) : affine(e, n, c) {
    UNROLL()
    for (int o = 0; o < kColours; ++o) load_floats(weight[o], rgb.weight + n * rgb.weight_sample + o * rgb.weight_row + c);
  }
};

// kInFlight pixels of a thread, from its number j on: writes y, unless that is null, and adds to the colours.
template <typename T, int V>
HD void to_rgb_pixels(const Epilogue& e, const ToRgbColumn<V>& column, const Walk& w, int shift, int j, const T* x,
                      T* y, Colours& colours) {
  const int step = static_cast<int>(w.step), pixel_step = static_cast<int>(w.pixel_step);  // a few rows of a block
  Packed<T, V> in[kInFlight];
  UNROLL()
  for (int i = 0; i < kInFlight; ++i) {
    if (j + i < w.count) in[i] = load<V>(x + w.first + shift + (j + i) * step);
  }
  UNROLL()
  for (int i = 0; i < kInFlight; ++i) {
    if (j + i >= w.count) break;
    float value[V], noise[1];
    in[i].unpack(value);
    load_noise<false>(noise, e, w.n, w.pixel + (j + i) * pixel_step);
    UNROLL()
    for (int k = 0; k < V; ++k) {
      value[k] = activate(e, column.affine.before_activation(value[k], noise[0], k));
      UNROLL()
      for (int o = 0; o < kColours; ++o) {
        float& sum = colours.sum[i * kColours + o];
        sum = multiply_add(column.weight[o][k], value[k], sum);
      }
    }
    if (!y) continue;
    const Next<V> next(e, w.n, w.c + shift);  // loaded for each pixel: kept, it would not leave registers enough
    UNROLL()
    for (int k = 0; k < V; ++k) value[k] *= next.factor[k];
    store<V>(y + w.first + shift + (j + i) * step, value);
  }
}

// One colour of one pixel from its sum over the channels.
HD void to_rgb_store(const ToRgb& rgb, int64_t n, int colour, int64_t pixel, float sum, float* image) {
  const int64_t plane = n * kColours + colour;
  float value[1] = {clamp(sum + load_float(rgb.bias + colour), rgb.limit)};
  if (rgb.skip) {
    const int64_t height = rgb.h / 2, width = rgb.w / 2;
    int64_t oy = pixel;
    const int64_t ox = split(oy, rgb.w);
    const TapRange vertical(oy, 2, 1, 2), horizontal(ox, 2, 1, 2);
    float below = 0.0f;
    UNROLL()
    for (int a = 0; a < 2; ++a) {
      UNROLL()
      for (int b = 0; b < 2; ++b) {
        const int64_t row = vertical.in + a, column = horizontal.in + b, ty = vertical.tap + 2 * a, tx = horizontal.tap + 2 * b;
        if (row >= height || column >= width || ty >= kTaps || tx >= kTaps) continue;
        below = multiply_add(load_float(rgb.taps + (kTaps - 1 - ty) * kTaps + kTaps - 1 - tx),
                             load_float(rgb.skip + (plane * height + row) * width + column), below);
      }
    }
    value[0] += below;
  }
  store<1>(image + plane * rgb.h * rgb.w + pixel, value);
}

}  // namespace stylegan2_ops
