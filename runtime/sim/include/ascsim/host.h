// The host side of a launch: what the translated `kernel<<<...>>>(args)` calls, and the registry
// through which kernels are launched by name.
#pragma once
#include <cstdint>
#include <cstring>
#include <functional>
#include <initializer_list>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "ascsim/launch.h"
#include "ascsim/numeric.h"

namespace ascsim {

// First statement of every kernel. A launch calls the kernel once just to learn what it is: then
// this records the description and returns true, and the kernel returns. Otherwise false.
bool describing(const char* name, KernelKind kind, const char* file, int line);
// The kind that KERNEL_TASK_TYPE gives the tiling key of the launch being described.
KernelKind kindByKey(KernelKind other,
                     std::initializer_list<std::pair<uint64_t, KernelKind>> byKey);

// Tiling key of the launches that follow (there is no place for it in <<<...>>>); default 0.
void setTilingKey(uint64_t key);
uint64_t tilingKey();

// A literal 0 among the arguments of a launch: a null pointer or a number.
struct Zero {
  template <class T, std::enable_if_t<std::is_pointer_v<T> || std::is_arithmetic_v<T>, int> = 0>
  constexpr operator T() const {
    return T{};
  }
};

struct Task {
  std::function<void()> body;
  std::vector<const void*> pointers;  // arguments that may point to global memory
};
// Puts a launch on a stream (nullptr: the default stream).
void enqueueLaunch(int64_t blocks, int64_t dynamicUb, void* stream, Task task);

template <class T>
void collectPointer(std::vector<const void*>& to, const T& arg) {
  if constexpr (std::is_pointer_v<T> && !std::is_function_v<std::remove_pointer_t<T>>) {
    to.push_back(reinterpret_cast<const void*>(arg));
  }
}

template <class F>
class Configured {
 public:
  Configured(F f, int64_t blocks, int64_t ub, void* stream)
      : f_(std::move(f)), blocks_(blocks), ub_(ub), stream_(stream) {}

  // By value: a launch keeps the arguments as they are now, and arrays become pointers.
  template <class... Args>
  void operator()(Args... args) const {
    Task task;
    (collectPointer(task.pointers, args), ...);
    task.body = [f = f_, packed = std::make_tuple(args...)] { std::apply(f, packed); };
    enqueueLaunch(blocks_, ub_, stream_, std::move(task));
  }

 private:
  F f_;
  int64_t blocks_, ub_;
  void* stream_;
};

template <class F>
class Launcher {
 public:
  explicit Launcher(F f) : f_(std::move(f)) {}

  // The second value is a size of dynamic UB, or the unused nullptr of older programs.
  template <class Blocks, class Ub = int>
  Configured<F> operator()(Blocks blocks, Ub ub = Ub{}, void* stream = nullptr) const {
    int64_t bytes = 0;
    if constexpr (std::is_convertible_v<Ub, int64_t>) bytes = static_cast<int64_t>(ub);
    return Configured<F>(f_, static_cast<int64_t>(blocks), bytes, stream);
  }

 private:
  F f_;
};

template <class F>
Launcher<F> launcher(F f) {
  return Launcher<F>(std::move(f));
}

// ------------------------------------------------------------------------ kernels by their name
// p pointer, i u f integer and floating point, h half, b bfloat16, s a struct of `size` bytes
struct ParamType {
  char code;
  size_t size;
};

struct ArgValue {
  char code;
  size_t size;
  const void* data;
};

struct RegisteredKernel {
  std::string name;
  int module;
  std::vector<ParamType> params;
  // Each element points to a value of the parameter's own type.
  std::function<void(const std::vector<const void*>&)> call;
};

// Two libraries of one process may have kernels of the same name: what is loaded between two calls
// of loadingModule belongs to that module (0: the program itself).
void loadingModule(int module);
int newModule();
bool addKernel(RegisteredKernel kernel);
// The newest kernel of that name, of the module if one is given. The namespaces may be left out.
const RegisteredKernel* findKernel(const std::string& name, int module = -1);
// Programs that were built for a chip run on it unless XC_SIM_CHIP says otherwise.
bool defaultChip(const char* name);

template <class T>
ParamType paramType() {
  if constexpr (std::is_pointer_v<T>)
    return {'p', sizeof(T)};
  else if constexpr (std::is_same_v<T, half>)
    return {'h', sizeof(T)};
  else if constexpr (std::is_same_v<T, bfloat16_t>)
    return {'b', sizeof(T)};
  else if constexpr (std::is_floating_point_v<T>)
    return {'f', sizeof(T)};
  else if constexpr (std::is_integral_v<T> || std::is_enum_v<T>)
    return {std::is_unsigned_v<T> ? 'u' : 'i', sizeof(T)};
  else
    return {'s', sizeof(T)};
}

template <class... P, size_t... I>
void callUnpacked(void (*f)(P...), const std::vector<const void*>& values,
                  std::index_sequence<I...>) {
  f(*static_cast<const std::decay_t<P>*>(values[I])...);
}

template <class... P>
bool registerKernel(const char* name, void (*f)(P...)) {
  return addKernel(
      {name, 0, {paramType<std::decay_t<P>>()...}, [f](const std::vector<const void*>& values) {
         callUnpacked(f, values, std::index_sequence_for<P...>{});
       }});
}

// Converts the values to the kernel's parameters and puts the launch on a stream. Returns an ACL
// error code; a wrong name, count or type of arguments is reported.
uint32_t launchNamed(const char* name, int64_t blocks, void* stream,
                     const std::vector<ArgValue>& args);
uint32_t launchRegistered(const RegisteredKernel& kernel, int64_t blocks, void* stream,
                          const std::vector<ArgValue>& args);

template <class T>
ArgValue argValue(const T& v) {
  const ParamType t = paramType<std::decay_t<T>>();
  return {t.code, t.size, &v};
}

template <class... Args>
uint32_t launchByName(const char* name, int64_t blocks, void* stream, Args... args) {
  return launchNamed(name, blocks, stream, {argValue(args)...});
}

}  // namespace ascsim

#ifndef ACLRT_LAUNCH_KERNEL
#define ACLRT_LAUNCH_KERNEL(kernel) aclrtlaunch_##kernel
#endif

// ------------------------------------------------------------------ the older CPU-debug interface
enum class KernelMode { MIX_MODE = 0, AIC_MODE, AIV_MODE };

namespace AscendC {
void* GmAlloc(size_t size);
void GmFree(void* p);
void SetKernelMode(KernelMode mode);
}  // namespace AscendC

namespace ascsim {
// Runs at once; what the host wrote into GmAlloc memory counts as written.
void beforeDirectRun();
void afterDirectRun();
}  // namespace ascsim

#define ICPU_SET_TILING_KEY(key) ::ascsim::setTilingKey(key)
#define ICPU_RUN_KF(func, blocks, ...)                                                         \
  do {                                                                                         \
    ::ascsim::beforeDirectRun();                                                               \
    ::ascsim::launcher([=](auto... ascsimArgs) { func(ascsimArgs...); })(blocks)(__VA_ARGS__); \
    ::ascsim::afterDirectRun();                                                                \
  } while (0)
