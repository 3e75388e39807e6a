// Runs the kernels of stylegan2_ops/csrc thread by thread on a CPU, and watches every access.
//
// Built and called by test_kernels_emulated.py. The code of the threads, the plans and the index arithmetic are those
// of the device; only the launches and the sums over a block are written again. Each function returns null, or says
// which rule was broken: an access outside of the tensors or not aligned to its size, an element written twice (a race)
// or not at all. `rounds` and `rows` are the work of a thread, which a plan otherwise chooses by the size of the whole:
// so small tensors can stand for large ones.
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include <cstdint>
#include <limits>
#include <string>
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

struct Watch {
  std::vector<Range> readable;
  Range writable{};
  std::vector<char> written;
  std::string problem;

  void read(const void* address, int64_t bytes) {
    if (address) readable.push_back({static_cast<const char*>(address), static_cast<const char*>(address) + bytes});
  }
  void write(void* address, int64_t bytes) {
    writable = {static_cast<char*>(address), static_cast<char*>(address) + bytes};
    written.assign(bytes, 0);
  }
  const char* verdict() {
    for (const char byte : written) {
      if (byte == 0 && problem.empty()) problem = "an element of the result was not written";
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
  if (begin < watch.writable.begin || begin + bytes > watch.writable.end) {
    watch.problem = "write outside of the result";
    throw 0;
  }
  for (int i = 0; i < bytes; ++i) {
    if (watch.written[begin - watch.writable.begin + i]++) watch.problem = "an element was written twice";
  }
}

}  // namespace stylegan2_ops

#include "epilogue.h"
#include "fir.h"

using namespace stylegan2_ops;

namespace {

template <typename F>
void with_type(int type, F f) {
  if (type == 0) f(float());
  if (type == 1) f(float16());
  if (type == 2) f(bfloat16());
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

void watch_epilogue(const Epilogue& e, int64_t n, int64_t c, int64_t hw) {
  watch.read(e.scale, n * c * 4);
  watch.read(e.noise, (e.noise_stride ? n : 1) * hw * 4);
  watch.read(e.strength, 4);
  watch.read(e.bias, c * 4);
}

}  // namespace

extern "C" {

const char* emulate_epilogue(int type, const EpilogueShape* shape, const Epilogue* e, const void* x, void* y,
                             int rounds, int* vector) {
  watch = Watch();
  with_type(type, [&](auto t) {
    using T = decltype(t);
    const int64_t bytes = shape->n * shape->c * shape->hw * sizeof(T);
    watch_epilogue(*e, shape->n, shape->c, shape->hw);
    watch.read(x, bytes);
    watch.write(y, bytes);
    const EpiloguePlan plan = plan_epilogue(*shape, vector_length<T>(), *e, x, y, nullptr, rounds);
    *vector = plan.vector;
    with_layout<T>(plan, [&](auto v, auto planar) {
      for (int64_t block = 0; block < plan.blocks; ++block) {
        for (int i = 0; i < plan.tx * plan.ty; ++i) {
          epilogue_forward_thread<T, v(), planar()>(plan, *e, static_cast<const T*>(x), static_cast<T*>(y), block,
                                                    i % plan.tx, i / plan.tx);
        }
      }
    });
  });
  return watch.verdict();
}

// sums: of du, du * x and du * noise, [3, N, C], from the partial sums in their places.
const char* emulate_epilogue_backward(int type, const EpilogueShape* shape, const Epilogue* e, const void* grad,
                                      const void* saved, bool saved_is_output, bool keep_du, void* dx, float* sums,
                                      int rounds) {
  watch = Watch();
  with_type(type, [&](auto t) {
    using T = decltype(t);
    const int64_t bytes = shape->n * shape->c * shape->hw * sizeof(T);
    watch_epilogue(*e, shape->n, shape->c, shape->hw);
    watch.read(grad, bytes);
    watch.read(saved, bytes);
    watch.write(dx, bytes);
    const EpiloguePlan plan = plan_epilogue(*shape, vector_length<T>(), *e, grad, saved, dx, rounds);
    const int64_t nc = shape->n * shape->c, chunks = epilogue_chunks(plan), size = nc * chunks;
    std::vector<float> partial(3 * size, std::numeric_limits<float>::quiet_NaN());
    with_layout<T>(plan, [&](auto v, auto planar) {
      constexpr int K = planar() ? 1 : v();
      const int rows = planar() ? plan.ty : plan.tx, terms = planar() ? plan.tx : plan.ty;
      for (int64_t block = 0; block < plan.blocks; ++block) {
        for (int row = 0; row < rows; ++row) {
          Sums<K> total{};
          for (int term = 0; term < terms; ++term) {
            const int tx = planar() ? term : row, ty = planar() ? row : term;
            const Sums<K> part = epilogue_backward_thread<T, v(), planar(), true>(
                plan, *e, static_cast<const T*>(grad), static_cast<const T*>(saved), saved_is_output, keep_du,
                static_cast<T*>(dx), block, tx, ty);
            for (int k = 0; k < K; ++k) {
              total.bias[k] += part.bias[k];
              total.scale[k] += part.scale[k];
              total.strength[k] += part.strength[k];
            }
          }
          const Walk w = walk<planar()>(plan, block, planar() ? 0 : row, planar() ? row : 0);
          if (w.count == 0) continue;
          for (int k = 0; k < K; ++k) {
            const int64_t place = partial_index(plan, w) + k;
            if (place < 0 || place >= size) {
              watch.problem = "a partial sum outside of its array";
              return;
            }
            if (partial[place] == partial[place]) watch.problem = "a partial sum was written twice";
            partial[place] = total.bias[k];
            partial[size + place] = total.scale[k];
            partial[2 * size + place] = total.strength[k];
          }
        }
      }
    });
    for (int64_t kind = 0; kind < 3; ++kind) {
      for (int64_t i = 0; i < nc; ++i) {
        double sum = 0;
        for (int64_t chunk = 0; chunk < chunks; ++chunk) {
          const int64_t place = plan.shape.planar ? i * chunks + chunk
                                                  : (i / shape->c * chunks + chunk) * shape->c + i % shape->c;
          sum += partial[kind * size + place];
        }
        sums[kind * nc + i] = static_cast<float>(sum);
      }
    }
  });
  return watch.verdict();
}

// x_begin, x_bytes: the memory that x lies in. plan_out: vector, fast, wide_store, rows.
const char* emulate_fir(int type, const FirShape* shape, const float* taps, const Epilogue* e, const void* x,
                        const void* x_begin, int64_t x_bytes, void* y, int rows,
                        int* plan_out) {
  watch = Watch();
  with_type(type, [&](auto t) {
    using T = decltype(t);
    watch.read(taps, int64_t{shape->taps_h} * shape->taps_w * 4);
    watch.read(x_begin, x_bytes);
    if (e) watch_epilogue(*e, shape->n, shape->c, shape->oh * shape->ow);
    watch.write(y, shape->n * shape->c * shape->oh * shape->ow * sizeof(T));
    const FirPlan plan = plan_fir(*shape, vector_length<T>(), x, y, e, rows);
    plan_out[0] = plan.vector;
    plan_out[1] = plan.fast;
    plan_out[2] = plan.wide_store;
    plan_out[3] = plan.rows;
    const T* in = static_cast<const T*>(x);
    T* out = static_cast<T*>(y);
    const Epilogue none{};
    auto run = [&](auto v) {
      for (int64_t i = 0; i < ceil_div(plan.threads, kThreads) * kThreads; ++i) {
        if (!plan.fast) fir_any_thread<T>(plan, taps, in, out, i);
        else if (e) fir4_thread<T, 1, 1, v(), true>(plan, *e, taps, in, out, i);
        else if (shape->up == 2) fir4_thread<T, 2, 1, v(), false>(plan, none, taps, in, out, i);
        else if (shape->down == 2) fir4_thread<T, 1, 2, v(), false>(plan, none, taps, in, out, i);
        else fir4_thread<T, 1, 1, v(), false>(plan, none, taps, in, out, i);
      }
    };
    if (plan.vector == 1) run(std::integral_constant<int, 1>());
    else run(std::integral_constant<int, vector_length<T>()>());
  });
  return watch.verdict();
}
}
