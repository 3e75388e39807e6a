// What ends a synthesis layer, in one pass over memory:
//
//   u = x * scale[n,c] + strength * noise[n or 0,h,w] + bias[c]
//   y = clamp(gain * (u > 0 ? u : slope * u), -limit, limit) * next[n,c]
//
// and, without `next`, its first derivative. Two layouts: planar (NCHW), where a row is one channel of one sample and a vector holds
// neighbouring pixels, and interleaved (NHWC), where a row is one pixel and a vector holds neighbouring channels.
// Threads stand in a block of tx by ty, tx along the row. Each walks over its vectors with a fixed step and keeps what
// does not change on its way (scale and bias) in registers.
#pragma once

#include <initializer_list>

#include "types.h"

namespace stylegan2_ops {

// Null pointers leave a part out.
struct Epilogue {
  const float* scale;     // [N, C]
  const float* noise;     // [N or 1, H*W]
  const float* strength;  // [1]
  const float* bias;      // [C]
  const float* next;      // [N, C], the next layer's style
  int64_t scale_stride, next_stride;  // between samples, at least C: styles of all layers lie in one padded tensor
  int64_t noise_stride;   // between samples: H*W, or 0
  float slope, gain;
  float limit;  // infinity: no clamp
};

struct EpilogueShape {
  int64_t n, c, hw;
  bool planar;
};

constexpr int kThreads = 256;
constexpr int kInFlight = 4;  // vectors that a thread loads before it uses the first

struct EpiloguePlan {
  EpilogueShape shape;
  int vector;                // elements in an access
  int tx, ty;                // threads of a block along and across rows
  int64_t groups, rows;      // vectors per row; rows (planar: all, interleaved: per sample)
  int64_t samples;           // planar: 1, as rows already count them
  int steps;                 // vectors per thread
  int64_t along, across;     // blocks along and across rows; blocks = along * across * samples
  int64_t blocks;
};

// Where the sums of the backward pass go: partial sums, added up afterwards in a fixed order.
HD int64_t epilogue_chunks(const EpiloguePlan& plan) { return plan.shape.planar ? plan.along : plan.across; }

// Whether every sample's scale and next begin at a multiple of an access.
inline bool aligned_rows(const Epilogue& e, int vector_length) {
  return (!e.scale || e.scale_stride % vector_length == 0) && (!e.next || e.next_stride % vector_length == 0);
}

// vector_length: of the elements of the tensors at a, b and c. Accesses are that long where all addresses allow it.
// rounds: kInFlight vectors each, per thread; 0: by the size of the work.
inline EpiloguePlan plan_epilogue(EpilogueShape shape, int vector_length, const Epilogue& e, const void* a,
                                  const void* b, const void* c, int64_t rounds = 0) {
  if (shape.hw == 1) shape.planar = false;  // the same memory, in longer rows
  bool vectors = true;
  for (const void* address : {a, b, c, static_cast<const void*>(e.scale), static_cast<const void*>(e.noise),
                              static_cast<const void*>(e.bias), static_cast<const void*>(e.next)}) {
    vectors = vectors && aligned(address, 16);
  }
  vectors = vectors && aligned_rows(e, vector_length);
  EpiloguePlan plan{};
  plan.shape = shape;
  const int64_t length = shape.planar ? shape.hw : shape.c;
  plan.vector = vectors && length % vector_length == 0 ? vector_length : 1;
  plan.groups = length / plan.vector;
  plan.rows = shape.planar ? shape.n * shape.c : shape.hw;
  plan.samples = shape.planar ? 1 : shape.n;
  plan.tx = kThreads;
  if (shape.planar) {
    while (plan.tx / 2 >= plan.groups && plan.tx > 1) plan.tx /= 2;  // a power of two: threads of a row are added up
  } else if (plan.groups < kThreads) {
    plan.tx = static_cast<int>(plan.groups > 0 ? plan.groups : 1);
  }
  plan.ty = kThreads / plan.tx;
  if (rounds == 0) {  // long walks only where there is work for thousands of blocks all the same
    // Never a question of the device, so that sums do not depend on it.
    rounds = plan.groups * plan.rows * plan.samples / (int64_t{kThreads} * kInFlight * 4096);
    rounds = rounds < 1 ? 1 : rounds > 8 ? 8 : rounds;
  }
  plan.steps = kInFlight * static_cast<int>(rounds);
  plan.along = ceil_div(plan.groups, shape.planar ? int64_t{plan.tx} * plan.steps : plan.tx);
  plan.across = ceil_div(plan.rows, shape.planar ? plan.ty : int64_t{plan.ty} * plan.steps);
  plan.blocks = plan.along * plan.across * plan.samples;
  return plan;
}

// The vectors of one thread: number j begins at element first + j * step, at pixel `pixel` + j * pixel_step.
struct Walk {
  int64_t first, step, pixel, pixel_step;
  int64_t n, c;   // sample; channel (interleaved: the first of the vector's)
  int count;      // 0: this thread has none
  int64_t chunk;  // which partial sum
};

template <bool kPlanar>
HD Walk walk(const EpiloguePlan& plan, int64_t block, int tx, int ty) {
  const EpilogueShape& shape = plan.shape;
  Walk w;
  int64_t rest = block;
  const int64_t along = split(rest, plan.along), across = split(rest, plan.across);
  int64_t begin, end, stride;
  bool inside;
  if (kPlanar) {
    int64_t row = across * plan.ty + ty;
    inside = row < plan.rows;
    begin = along * plan.tx * plan.steps + tx;
    end = plan.groups;
    stride = plan.tx;
    w.first = row * shape.hw + begin * plan.vector;
    w.step = stride * plan.vector;
    w.pixel = begin * plan.vector;
    w.pixel_step = w.step;
    w.c = split(row, shape.c);
    w.n = row;
    w.chunk = along;
  } else {
    const int64_t group = along * plan.tx + tx;
    inside = group < plan.groups;
    begin = across * plan.ty * plan.steps + ty;
    end = plan.rows;
    stride = plan.ty;
    w.n = rest;
    w.c = group * plan.vector;
    w.first = (w.n * shape.hw + begin) * shape.c + w.c;
    w.step = stride * shape.c;
    w.pixel = begin;
    w.pixel_step = stride;
    w.chunk = across;
  }
  const int64_t left = inside && begin < end ? ceil_div(end - begin, stride) : 0;
  w.count = static_cast<int>(left < plan.steps ? left : plan.steps);
  return w;
}

// Scale and bias of K neighbouring channels, the noise strength, and what follows from them.
template <int K>
struct Affine {
  float scale[K], bias[K];
  float strength;

  HD Affine(const Epilogue& e, int64_t n, int64_t c) {
    UNROLL()
    for (int k = 0; k < K; ++k) {
      scale[k] = 1.0f;
      bias[k] = 0.0f;
    }
    if (e.scale) load_floats(scale, e.scale + n * e.scale_stride + c);
    if (e.bias) load_floats(bias, e.bias + c);
    strength = e.noise && e.strength ? load_float(e.strength) : 0.0f;
  }

  HD float before_activation(float x, float noise, int k) const {
    return multiply_add(x, scale[k], multiply_add(strength, noise, bias[k]));
  }
};

// What K neighbouring channels of the result are multiplied by.
template <int K>
struct Next {
  float factor[K];

  HD Next(const Epilogue& e, int64_t n, int64_t c) {
    UNROLL()
    for (int k = 0; k < K; ++k) factor[k] = 1.0f;
    if (e.next) load_floats(factor, e.next + n * e.next_stride + c);
  }
};

HD float activate(const Epilogue& e, float u) {
  return clamp(u * (u > 0.0f ? e.gain : e.gain * e.slope), e.limit);
}

// dy/du, at 0 as in torch; from u, or as well from y, which has its sign.
struct ActivationSlope {
  float positive, negative, limit;
  bool from_output;

  template <typename T>
  HD ActivationSlope(const Epilogue& e, bool from_output_, T)
      : positive(e.gain), negative(e.gain * e.slope), limit(e.limit), from_output(from_output_) {
    if (!from_output || !(limit < INFINITY)) return;
    // A y that lies on the limit, as T can hold it, was clamped: it is above the number before.
    T stored;
    from_float(stored, limit);
    limit = nextafterf(to_float(stored), 0.0f);
  }
  HD float operator()(float u_or_y) const {
    const float m = u_or_y > 0.0f ? positive : negative;
    return fabsf(u_or_y * (from_output ? 1.0f : m)) > limit ? 0.0f : m;
  }
};

// The noise of a vector's pixels: V of them if planar, else one for all channels.
template <bool kPlanar, int V>
HD void load_noise(float (&noise)[V], const Epilogue& e, int64_t n, int64_t pixel) {
  UNROLL()
  for (int k = 0; k < V; ++k) noise[k] = 0.0f;
  if (!e.noise) return;
  const float* address = e.noise + n * e.noise_stride + pixel;
  if (kPlanar) {
    load_floats(noise, address);
  } else {
    const float one = load_float(address);
    UNROLL()
    for (int k = 0; k < V; ++k) noise[k] = one;
  }
}

template <typename T, int V, bool kPlanar>
HD void epilogue_forward_thread(
    const EpiloguePlan& plan, const Epilogue& e, const T* x, T* y, int64_t block, int tx, int ty) {
  const Walk w = walk<kPlanar>(plan, block, tx, ty);
  if (w.count == 0) return;
  const Affine<kPlanar ? 1 : V> affine(e, w.n, w.c);
  const Next<kPlanar ? 1 : V> next(e, w.n, w.c);
  for (int j = 0; j < w.count; j += kInFlight) {
    Packed<T, V> in[kInFlight];
    UNROLL()
    for (int i = 0; i < kInFlight; ++i) {
      if (j + i < w.count) in[i] = load<V>(x + w.first + (j + i) * w.step);
    }
    UNROLL()
    for (int i = 0; i < kInFlight; ++i) {
      if (j + i >= w.count) break;
      float value[V], noise[V], out[V];
      in[i].unpack(value);
      load_noise<kPlanar>(noise, e, w.n, w.pixel + (j + i) * w.pixel_step);
      UNROLL()
      for (int k = 0; k < V; ++k) {
        const int channel = kPlanar ? 0 : k;
        out[k] = activate(e, affine.before_activation(value[k], noise[k], channel)) * next.factor[channel];
      }
      store<V>(y + w.first + (j + i) * w.step, out);
    }
  }
}

// Sums over one thread's elements: of du, du * x and du * noise, for K channels.
template <int K>
struct Sums {
  float bias[K], scale[K], strength[K];
};

// dx = du * scale, or du itself with `keep_du`, for du = grad * dy/du.
// saved: x, or y where nobody wants the sum for the scale: x need not be kept then.
template <typename T, int V, bool kPlanar, bool kSums>
HD Sums<kPlanar ? 1 : V> epilogue_backward_thread(
    const EpiloguePlan& plan, const Epilogue& e, const T* grad, const T* saved, bool saved_is_output, bool keep_du,
    T* dx, int64_t block, int tx, int ty) {
  constexpr int K = kPlanar ? 1 : V;
  constexpr int kPairs = kInFlight / 2;  // two tensors are read
  Sums<K> sums;
  UNROLL()
  for (int k = 0; k < K; ++k) sums.bias[k] = sums.scale[k] = sums.strength[k] = 0.0f;
  const Walk w = walk<kPlanar>(plan, block, tx, ty);
  if (w.count == 0) return sums;
  const Affine<K> affine(e, w.n, w.c);
  const ActivationSlope slope(e, saved_is_output, T());
  for (int j = 0; j < w.count; j += kPairs) {
    Packed<T, V> g[kPairs], s[kPairs];
    UNROLL()
    for (int i = 0; i < kPairs; ++i) {
      if (j + i < w.count) {
        g[i] = load<V>(grad + w.first + (j + i) * w.step);
        s[i] = load<V>(saved + w.first + (j + i) * w.step);
      }
    }
    UNROLL()
    for (int i = 0; i < kPairs; ++i) {
      if (j + i >= w.count) break;
      float dy[V], x[V], noise[V], out[V];
      g[i].unpack(dy);
      s[i].unpack(x);
      load_noise<kPlanar>(noise, e, w.n, w.pixel + (j + i) * w.pixel_step);
      UNROLL()
      for (int k = 0; k < V; ++k) {
        const int channel = kPlanar ? 0 : k;
        const float u = saved_is_output ? x[k] : affine.before_activation(x[k], noise[k], channel);
        const float du = dy[k] * slope(u);
        if (kSums) {
          sums.bias[channel] += du;
          sums.scale[channel] = multiply_add(du, x[k], sums.scale[channel]);
          sums.strength[channel] = multiply_add(du, noise[k], sums.strength[channel]);
        }
        out[k] = keep_du ? du : du * affine.scale[channel];
      }
      store<V>(dx + w.first + (j + i) * w.step, out);
    }
  }
  return sums;
}

// The place of a partial sum: [N, C, chunks] if planar, else [N, chunks, C].
HD int64_t partial_index(const EpiloguePlan& plan, const Walk& w) {
  const int64_t chunks = epilogue_chunks(plan);
  return plan.shape.planar ? (w.n * plan.shape.c + w.c) * chunks + w.chunk
                           : (w.n * chunks + w.chunk) * plan.shape.c + w.c;
}

}  // namespace stylegan2_ops
