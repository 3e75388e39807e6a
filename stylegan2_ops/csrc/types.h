// Number types, and loads and stores of up to 16 bytes. Everything is computed in float.
//
// The functions of these headers run on the device and on the host: tests/kernels_emulator.cpp runs them thread by
// thread on a CPU, with element types and access checks of its own (STYLEGAN2_OPS_EMULATE).
#pragma once

#include <cmath>
#include <cstdint>

#if defined(STYLEGAN2_OPS_EMULATE)
#define HD inline
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>
#define HD __host__ __device__ __forceinline__
#endif

#if defined(__CUDACC__)
#define STYLEGAN2_OPS_PRAGMA(text) _Pragma(#text)
#define UNROLL(n) STYLEGAN2_OPS_PRAGMA(unroll n)
#else
#define UNROLL(n)
#endif

namespace stylegan2_ops {

#if !defined(STYLEGAN2_OPS_EMULATE)
using float16 = __half;
using bfloat16 = __nv_bfloat16;
HD float to_float(float16 x) { return __half2float(x); }
HD float to_float(bfloat16 x) { return __bfloat162float(x); }
HD void from_float(float16& y, float x) { y = __float2half_rn(x); }
HD void from_float(bfloat16& y, float x) { y = __float2bfloat16_rn(x); }
HD void on_read(const void*, int) {}
HD void on_write(void*, int) {}
#endif

HD float to_float(float x) { return x; }
HD void from_float(float& y, float x) { y = x; }

// Always fused on the device, so that forward and backward see the very same number.
HD float multiply_add(float a, float b, float c) {
#if defined(__CUDA_ARCH__)
  return __fmaf_rn(a, b, c);
#else
  return a * b + c;
#endif
}

template <typename T>
HD constexpr int vector_length() {
  return 16 / static_cast<int>(sizeof(T));
}

// N neighbours in memory that travel in one access; the address is a multiple of their size, at most 16 bytes.
template <typename T, int N>
struct alignas(sizeof(T) * N) Packed {
  static_assert(sizeof(T) * N <= 16, "one access moves at most 16 bytes");
  T element[N];
};

template <int N, typename T>
HD Packed<T, N> load(const T* address) {
  on_read(address, sizeof(T) * N);
  return *reinterpret_cast<const Packed<T, N>*>(address);
}

// N floats, in accesses of 16 bytes where N is a multiple of 4.
template <int N>
HD void load_floats(float (&out)[N], const float* address) {
  constexpr int step = N % 4 == 0 ? 4 : 1;
  UNROLL()
  for (int i = 0; i < N; i += step) {
    const Packed<float, step> part = load<step>(address + i);
    UNROLL()
    for (int k = 0; k < step; ++k) out[i + k] = part.element[k];
  }
}

template <int N, typename T>
HD void store(T* address, const float (&value)[N]) {
  Packed<T, N> out;
  UNROLL()
  for (int k = 0; k < N; ++k) from_float(out.element[k], value[k]);
  on_write(address, sizeof(T) * N);
  *reinterpret_cast<Packed<T, N>*>(address) = out;
}

template <typename T>
HD void store_one(T* address, float value) {
  const float values[1] = {value};
  store<1>(address, values);
}

HD bool aligned(const void* address, int bytes) { return reinterpret_cast<uintptr_t>(address) % bytes == 0; }

HD int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Takes the fastest coordinate, of extent `size`, out of a flat index: 32-bit division where the numbers allow it.
HD int64_t split(int64_t& index, int64_t size) {
  int64_t quotient;
  if (((index | size) >> 32) == 0) {
    quotient = static_cast<uint32_t>(index) / static_cast<uint32_t>(size);
  } else {
    quotient = index / size;
  }
  const int64_t remainder = index - quotient * size;
  index = quotient;
  return remainder;
}

}  // namespace stylegan2_ops
