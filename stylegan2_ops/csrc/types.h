// Number types, and loads and stores of up to 16 bytes. Everything is computed in float.
//
// The functions of these headers run on the device and on the host: tests/helpers/kernels_emulator.cpp runs them thread by
// thread on a CPU, with element types and access checks of its own (STYLEGAN2_OPS_EMULATE).
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

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

// Two neighbours in 32 bits, rounded by one instruction.
#if !defined(STYLEGAN2_OPS_EMULATE)
HD uint32_t round_pair(float16, float a, float b) {
  const __half2 pair = __floats2half2_rn(a, b);
  uint32_t bits;
  memcpy(&bits, &pair, sizeof bits);
  return bits;
}
HD uint32_t round_pair(bfloat16, float a, float b) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(a, b);
  uint32_t bits;
  memcpy(&bits, &pair, sizeof bits);
  return bits;
}
HD void unpack_pair(float16, uint32_t bits, float& a, float& b) {
  __half2 pair;
  memcpy(static_cast<void*>(&pair), &bits, sizeof pair);
  const float2 both = __half22float2(pair);
  a = both.x;
  b = both.y;
}
HD void unpack_pair(bfloat16, uint32_t bits, float& a, float& b) {  // the upper half of a float
  const uint32_t low = bits << 16, high = bits & 0xffff0000u;
  memcpy(&a, &low, sizeof a);
  memcpy(&b, &high, sizeof b);
}
#else
template <typename T>
void unpack_pair(T, uint32_t bits, float& a, float& b) {
  T pair[2];
  memcpy(pair, &bits, sizeof pair);
  a = to_float(pair[0]);
  b = to_float(pair[1]);
}
#endif

// Always fused on the device, so that forward and backward see the very same number.
HD float multiply_add(float a, float b, float c) {
#if defined(__CUDA_ARCH__)
  return __fmaf_rn(a, b, c);
#else
  return a * b + c;
#endif
}

// x within [-limit, limit]; NaN stays NaN, which fminf would hide.
HD float clamp(float x, float limit) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm("min.NaN.f32 %0, %0, %1;" : "+f"(x) : "f"(limit));
  asm("max.NaN.f32 %0, %0, %1;" : "+f"(x) : "f"(-limit));
  return x;
#else
  return x > limit ? limit : x < -limit ? -limit : x;
#endif
}

template <typename T>
HD constexpr int vector_length() {
  return 16 / static_cast<int>(sizeof(T));
}

// N neighbours in memory that travel in one access; the address is a multiple of their size, at most 16 bytes. Held in
// 32-bit words: compilers take apart what has smaller pieces.
template <typename T, int N>
struct Packed {
  static constexpr int kBytes = sizeof(T) * N;
  static_assert(kBytes <= 16, "one access moves at most 16 bytes");
  static constexpr int kWords = kBytes < 4 ? 1 : kBytes / 4;
  uint32_t word[kWords];

  HD void unpack(float (&out)[N]) const {
    if constexpr (sizeof(T) == 2 && N % 2 == 0) {
      UNROLL()
      for (int k = 0; k < kWords; ++k) unpack_pair(T(), word[k], out[2 * k], out[2 * k + 1]);
    } else {
      UNROLL()
      for (int k = 0; k < N; ++k) {
        T element;
        memcpy(&element, word + k, sizeof element);
        out[k] = to_float(element);
      }
    }
  }
};

template <int kWords>
struct alignas(4 * kWords) Words {
  uint32_t word[kWords];
};

template <int N, typename T>
HD Packed<T, N> load(const T* address) {
  on_read(address, sizeof(T) * N);
  Packed<T, N> out;
  if constexpr (sizeof(T) * N == 2) {
    out.word[0] = *reinterpret_cast<const uint16_t*>(address);
  } else {
    constexpr int kWords = Packed<T, N>::kWords;
    const Words<kWords> all = *reinterpret_cast<const Words<kWords>*>(address);
    UNROLL()
    for (int k = 0; k < kWords; ++k) out.word[k] = all.word[k];
  }
  return out;
}

HD float load_float(const float* address) {
  on_read(address, sizeof(float));
  return *address;
}

#if defined(__CUDACC__)
// One store instruction: left to itself, the compiler may make several.
template <int N, typename T>
__device__ __forceinline__ void store_at_once(T* address, const float (&value)[N]) {
  constexpr int kPerWord = 4 / sizeof(T), kWords = N / kPerWord;
  uint32_t word[kWords];
  UNROLL()
  for (int k = 0; k < kWords; ++k) {
    if constexpr (kPerWord == 1) word[k] = __float_as_uint(value[k]);
    else word[k] = round_pair(T(), value[2 * k], value[2 * k + 1]);
  }
  if constexpr (kWords == 4) __stwb(reinterpret_cast<uint4*>(address), make_uint4(word[0], word[1], word[2], word[3]));
  else if constexpr (kWords == 2) __stwb(reinterpret_cast<uint2*>(address), make_uint2(word[0], word[1]));
  else __stwb(reinterpret_cast<unsigned*>(address), word[0]);
}
#endif

template <int N, typename T>
HD void store(T* address, const float (&value)[N]) {
  on_write(address, sizeof(T) * N);
#if defined(__CUDA_ARCH__)
  if constexpr (sizeof(T) * N >= 4) store_at_once<N>(address, value);
  else from_float(*address, value[0]);
#else
  for (int k = 0; k < N; ++k) from_float(address[k], value[k]);
#endif
}

// N floats, in accesses of 16 bytes where N is a multiple of 4.
template <int N>
HD void load_floats(float (&out)[N], const float* address) {
  constexpr int step = N % 4 == 0 ? 4 : 1;
  UNROLL()
  for (int i = 0; i < N; i += step) {
    float part[step];
    load<step>(address + i).unpack(part);
    UNROLL()
    for (int k = 0; k < step; ++k) out[i + k] = part[k];
  }
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
