// The launches of kernels.h on a CPU: thread by thread, watching every access.
//
// The code of the threads, the plans and the index arithmetic are those of the device; only the launches are written
// again. A launch fails, and last_problem() says why, at an access outside of the tensors or not aligned to its size,
// and when an element of the result is written twice (a race) or not at all.
//
// Built by kernels_emulator.py in two ways: alone, called through the functions at the end, and quickly; and together
// with the binding, as operations of torch.
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#define STYLEGAN2_OPS_EMULATE

namespace stylegan2_ops {

using float16 = c10::Half;
using bfloat16 = c10::BFloat16;
inline float to_float(float16 x) { return static_cast<float>(x); }
inline float to_float(bfloat16 x) { return static_cast<float>(x); }
inline void from_float(float16& y, float x) { y = float16(x); }
inline void from_float(bfloat16& y, float x) { y = bfloat16(x); }

struct Range {
  const char* begin;
  const char* end;
};

struct Target {
  Range range;
  std::vector<char> written;
};

struct Watch {
  std::vector<Range> readable;
  std::vector<Target> targets;
  std::string problem;

  void read(const void* address, int64_t bytes) {
    if (address) readable.push_back({static_cast<const char*>(address), static_cast<const char*>(address) + bytes});
  }
  void write(void* address, int64_t bytes) {
    const char* begin = static_cast<char*>(address);
    targets.push_back({{begin, begin + bytes}, std::vector<char>(bytes, 0)});
  }
  const char* verdict() {
    for (const Target& target : targets) {
      for (const char byte : target.written) {
        if (byte == 0 && problem.empty()) problem = "an element of the result was not written";
      }
    }
    return problem.empty() ? nullptr : problem.c_str();
  }
};

Watch watch;

inline void on_access(const void* address, int bytes) {
  if (reinterpret_cast<uintptr_t>(address) % bytes != 0) watch.problem = "misaligned access";
}

inline void on_read(const void* address, int bytes) {
  on_access(address, bytes);
  const char* begin = static_cast<const char*>(address);
  for (const Range& range : watch.readable) {
    if (begin >= range.begin && begin + bytes <= range.end) return;
  }
  watch.problem = "read outside of the tensors";
}

inline void on_write(void* address, int bytes) {
  on_access(address, bytes);
  const char* begin = static_cast<const char*>(address);
  for (Target& target : watch.targets) {
    if (begin < target.range.begin || begin + bytes > target.range.end) continue;
    for (int i = 0; i < bytes; ++i) {
      if (target.written[begin - target.range.begin + i]++) watch.problem = "an element was written twice";
    }
    return;
  }
  watch.problem = "write outside of the result";
  throw std::out_of_range(watch.problem);  // rather than do it
}

}  // namespace stylegan2_ops

#include "kernels.h"

namespace stylegan2_ops {
namespace {

// The work of a thread, which a plan chooses by the size of the whole: so small tensors can stand for large ones. And
// bytes by which the inputs are taken to be shorter than they are, to see that reading them is noticed.
struct Knobs {
  int rounds = 0, rows = 0, shorter = 0;
} knobs;

int last_plan[4];

template <typename F>
cudaError_t watched(F f) {
  watch = Watch();
  try {
    f();
  } catch (const std::out_of_range&) {
  }
  return watch.verdict() ? cudaErrorUnknown : cudaSuccess;
}

void watch_epilogue(const Epilogue& e, int64_t n, int64_t c, int64_t hw) {
  for (const auto& [rows, stride] : {std::pair(e.scale, e.scale_stride), std::pair(e.next, e.next_stride)}) {
    if (n > 0) watch.read(rows, ((n - 1) * stride + c) * 4);
  }
  watch.read(e.noise, (e.noise_stride ? n : 1) * hw * 4);
  watch.read(e.strength, 4);
  watch.read(e.bias, c * 4);
}

template <typename T, typename F>
void with_layout(const EpiloguePlan& plan, F f) {
  constexpr int kLong = vector_length<T>();
  const bool vector = plan.vector == kLong;
  if (plan.shape.planar && vector) f(std::integral_constant<int, kLong>(), std::true_type());
  if (plan.shape.planar && !vector) f(std::integral_constant<int, 1>(), std::true_type());
  if (!plan.shape.planar && vector) f(std::integral_constant<int, kLong>(), std::false_type());
  if (!plan.shape.planar && !vector) f(std::integral_constant<int, 1>(), std::false_type());
}

// The tree of block_sum in epilogue.cu: `value` of each thread; sums end in the first of each line.
void block_sum(std::vector<float>& value, int tx, int ty, bool planar) {
  const int stride = planar ? 1 : tx;
  for (int alive = planar ? tx : ty; alive > 1; alive = (alive + 1) / 2) {
    const int half = (alive + 1) / 2;
    for (int line = 0; line < tx * ty; ++line) {
      if ((planar ? line % tx : line / tx) + half < alive) value[line] += value[line + half * stride];
    }
  }
}

}  // namespace

const char* last_problem() { return watch.problem.c_str(); }

EpiloguePlan plan_epilogue_for(Type type, const EpilogueShape& shape, const Epilogue& e, const void* a, const void* b,
                               const void* c) {
  return with_type(type, [&](auto t) {
    return plan_epilogue(shape, vector_length<decltype(t)>(), e, a, b, c, knobs.rounds);
  });
}

cudaError_t epilogue_forward(const EpiloguePlan& plan, Type type, const Epilogue& e, const void* x, void* y,
                             cudaStream_t) {
  return watched([&] { with_type(type, [&](auto t) {
    using T = decltype(t);
    const EpilogueShape& shape = plan.shape;
    const int64_t bytes = shape.n * shape.c * shape.hw * sizeof(T);
    watch_epilogue(e, shape.n, shape.c, shape.hw);
    watch.read(x, bytes - knobs.shorter);
    watch.write(y, bytes);
    with_layout<T>(plan, [&](auto v, auto planar) {
      for (int64_t block = 0; block < plan.blocks; ++block) {
        for (int i = 0; i < plan.tx * plan.ty; ++i) {
          epilogue_forward_thread<T, v(), planar()>(plan, e, static_cast<const T*>(x), static_cast<T*>(y), block,
                                                    i % plan.tx, i / plan.tx);
        }
      }
    });
  }); });
}

cudaError_t epilogue_backward(const EpiloguePlan& plan, Type type, const Epilogue& e, const void* grad,
                              const void* saved, bool saved_is_output, bool keep_du, void* dx, float* partial,
                              cudaStream_t) {
  return watched([&] { with_type(type, [&](auto t) {
    using T = decltype(t);
    const EpilogueShape& shape = plan.shape;
    const int64_t bytes = shape.n * shape.c * shape.hw * sizeof(T);
    watch_epilogue(e, shape.n, shape.c, shape.hw);
    watch.read(grad, bytes);
    watch.read(saved, bytes - knobs.shorter);
    watch.write(dx, bytes);
    const int64_t size = shape.n * shape.c * epilogue_chunks(plan);
    for (int64_t i = 0; partial && i < 3 * size; ++i) partial[i] = std::numeric_limits<float>::quiet_NaN();
    with_layout<T>(plan, [&](auto v, auto planar) {
      constexpr int K = planar() ? 1 : v();
      const int threads = plan.tx * plan.ty;
      for (int64_t block = 0; block < plan.blocks; ++block) {
        std::vector<std::vector<float>> sums(3 * K, std::vector<float>(threads));
        for (int i = 0; i < threads; ++i) {
          const Sums<K> part = epilogue_backward_thread<T, v(), planar(), true>(
              plan, e, static_cast<const T*>(grad), static_cast<const T*>(saved), saved_is_output, keep_du,
              static_cast<T*>(dx), block, i % plan.tx, i / plan.tx);
          for (int k = 0; k < K; ++k) {
            sums[k][i] = part.bias[k];
            sums[K + k][i] = part.scale[k];
            sums[2 * K + k][i] = part.strength[k];
          }
        }
        if (!partial) continue;
        for (auto& values : sums) block_sum(values, plan.tx, plan.ty, planar());
        for (int i = 0; i < threads; ++i) {
          const Walk w = walk<planar()>(plan, block, i % plan.tx, i / plan.tx);
          if ((planar() ? i % plan.tx : i / plan.tx) != 0 || w.count == 0) continue;
          for (int k = 0; k < 3 * K; ++k) {
            const int64_t place = partial_index(plan, w) + k % K;
            if (place < 0 || place >= size) {
              watch.problem = "a partial sum outside of its array";
              return;
            }
            float& target = partial[k / K * size + place];
            if (target == target) watch.problem = "a partial sum was written twice";
            target = sums[k][i];
          }
        }
      }
    });
  }); });
}

cudaError_t fir(Type type, const FirShape& s, const float* taps, const Epilogue* e, const void* x, void* y,
                cudaStream_t) {
  bool possible = true;
  const cudaError_t error = watched([&] { with_type(type, [&](auto t) {
    using T = decltype(t);
    const FirPlan plan = plan_fir(s, vector_length<T>(), x, y, e, knobs.rows);
    const int values[] = {plan.vector, plan.fast, plan.wide_store, plan.rows};
    std::copy(values, values + 4, last_plan);
    possible = !e || (plan.fast && s.up == 1 && s.down == 1);
    if (!possible) return;
    const int64_t last = (s.n - 1) * s.xn + (s.c - 1) * s.xc + (s.h - 1) * s.xh + (s.w - 1) * s.xw;
    watch.read(taps, int64_t{s.taps_h} * s.taps_w * 4);
    if (s.n > 0) watch.read(x, (last + 1) * sizeof(T) - knobs.shorter);
    if (e) watch_epilogue(*e, s.n, s.c, s.oh * s.ow);
    watch.write(y, s.n * s.c * s.oh * s.ow * sizeof(T));
    const T* in = static_cast<const T*>(x);
    T* out = static_cast<T*>(y);
    const Epilogue none{};
    auto run = [&](auto v) {
      for (int64_t i = 0; i < ceil_div(plan.threads, kThreads) * kThreads; ++i) {
        if (!plan.fast) fir_any_thread<T>(plan, taps, in, out, i);
        else if (e) fir4_thread<T, 1, 1, v(), true>(plan, *e, taps, in, out, i);
        else if (s.up == 2) fir4_thread<T, 2, 1, v(), false>(plan, none, taps, in, out, i);
        else if (s.down == 2) fir4_thread<T, 1, 2, v(), false>(plan, none, taps, in, out, i);
        else fir4_thread<T, 1, 1, v(), false>(plan, none, taps, in, out, i);
      }
    };
    if (plan.vector == 1) run(std::integral_constant<int, 1>());
    else run(std::integral_constant<int, vector_length<T>()>());
  }); });
  return possible ? error : cudaErrorInvalidValue;
}

cudaError_t epilogue_to_rgb(Type type, const EpilogueShape& shape, const Epilogue& e, const ToRgb& rgb, const void* x,
                            void* y, float* image, cudaStream_t) {
  return watched([&] { with_type(type, [&](auto t) {
    using T = decltype(t);
    const ToRgbPlan plan = plan_to_rgb(shape, vector_length<T>(), e, rgb, x, y, knobs.rounds);
    const int64_t n = shape.n, c = shape.c, pixels = n * kColours * shape.hw;
    const int values[] = {plan.pass.vector, plan.turns, 0, 0};
    std::copy(values, values + 4, last_plan);
    watch_epilogue(e, n, c, shape.hw);
    watch.read(x, n * c * shape.hw * sizeof(T) - knobs.shorter);
    if (n > 0) watch.read(rgb.weight, ((n - 1) * rgb.weight_sample + (kColours - 1) * rgb.weight_row + c) * 4);
    watch.read(rgb.bias, kColours * 4);
    watch.read(rgb.skip, pixels);  // a quarter of them
    watch.read(rgb.taps, kTaps * kTaps * 4);
    if (y) watch.write(y, n * c * shape.hw * sizeof(T));
    watch.write(image, pixels * 4);
    const int width = plan.pass.tx, threads = width * plan.pass.ty;
    auto run = [&](auto v) {
      for (int64_t block = 0; block < plan.pass.blocks; ++block) {
        const int most = walk<false>(plan.pass, block, 0, 0).count;
        for (int j = 0; j < most; j += kInFlight) {
          std::vector<std::vector<float>> sums(kInFlight * kColours, std::vector<float>(threads));
          for (int i = 0; i < threads; ++i) {
            const Walk w = walk<false>(plan.pass, block, i % width, i / width);
            Colours colours{};
            for (int turn = 0; turn < plan.turns && turn * width + i % width < plan.pass.groups; ++turn) {
              const ToRgbColumn<v()> column(e, rgb, w.n, (turn * width + i % width) * v());
              to_rgb_pixels<T, v()>(e, column, w, turn * width * v(), j, static_cast<const T*>(x), static_cast<T*>(y),
                                    colours);
            }
            for (int k = 0; k < kInFlight * kColours; ++k) sums[k][i] = colours.sum[k];
          }
          for (auto& values : sums) block_sum(values, width, plan.pass.ty, true);
          for (int i = 0; i < threads; ++i) {
            const Walk w = walk<false>(plan.pass, block, i % width, i / width);
            for (int k = i % width; k < kInFlight * kColours && j + k / kColours < w.count; k += width) {
              to_rgb_store(rgb, w.n, k % kColours, w.pixel + (j + k / kColours) * w.pixel_step,
                           sums[k][i / width * width], image);
            }
          }
        }
      }
    };
    if (plan.pass.vector == 1) run(std::integral_constant<int, 1>());
    else run(std::integral_constant<int, vector_length<T>()>());
  }); });
}

}  // namespace stylegan2_ops

// For ctypes: each returns null, or what was wrong.

using namespace stylegan2_ops;

extern "C" {

void emulate_knobs(int rounds, int rows, int shorter) { knobs = {rounds, rows, shorter}; }

const char* emulate_epilogue(int type, const EpilogueShape* shape, const Epilogue* e, const void* x, void* y,
                             int* vector) {
  const EpiloguePlan plan = plan_epilogue_for(Type(type), *shape, *e, x, y, nullptr);
  *vector = plan.vector;
  return epilogue_forward(plan, Type(type), *e, x, y, nullptr) == cudaSuccess ? nullptr : last_problem();
}

// sums: of du, du * x and du * noise, [3, N, C].
const char* emulate_epilogue_backward(int type, const EpilogueShape* shape, const Epilogue* e, const void* grad,
                                      const void* saved, bool saved_is_output, bool keep_du, void* dx, float* sums) {
  const EpiloguePlan plan = plan_epilogue_for(Type(type), *shape, *e, grad, saved, dx);
  const int64_t c = shape->c, nc = shape->n * c, chunks = epilogue_chunks(plan), size = nc * chunks;
  std::vector<float> partial(3 * size + 1);
  if (epilogue_backward(plan, Type(type), *e, grad, saved, saved_is_output, keep_du, dx, partial.data(), nullptr) !=
      cudaSuccess) {
    return last_problem();
  }
  for (int64_t i = 0; i < 3 * nc; ++i) {
    const int64_t kind = i / nc, row = i % nc;
    double sum = 0;
    for (int64_t chunk = 0; chunk < chunks; ++chunk) {
      sum += partial[kind * size + (plan.shape.planar ? row * chunks + chunk : (row / c * chunks + chunk) * c + row % c)];
    }
    sums[i] = static_cast<float>(sum);
  }
  return nullptr;
}

// plan: vector, turns.
const char* emulate_to_rgb(int type, const EpilogueShape* shape, const Epilogue* e, const ToRgb* rgb, const void* x,
                           void* y, float* image, int* plan) {
  const cudaError_t error = epilogue_to_rgb(Type(type), *shape, *e, *rgb, x, y, image, nullptr);
  std::copy(last_plan, last_plan + 2, plan);
  return error == cudaSuccess ? nullptr : last_problem();
}

// plan: vector, fast, wide_store, rows.
const char* emulate_fir(int type, const FirShape* shape, const float* taps, const Epilogue* e, const void* x, void* y,
                        int* plan) {
  const cudaError_t error = fir(Type(type), *shape, taps, e, x, y, nullptr);
  std::copy(last_plan, last_plan + 4, plan);
  return error == cudaSuccess ? nullptr : last_problem();
}
}
