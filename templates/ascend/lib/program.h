// A host program around a step: options, sizes, device memory, replay, time. Needs nothing but ACL.
#pragma once
#include <algorithm>
#include <cstring>

#include "acl/acl.h"
#include "tensor_file.h"

extern "C" {
struct XcCores {
  uint32_t cube, vector;
};
// host.cpp
uint64_t xc_table_bytes();
void xc_tables(void* const* pointers, const int64_t* at, void** out);
int xc_step(void* stream, const XcCores* cores, void* const* pointers, const int64_t* at,
            void* sizes, void* tables);
int xc_capture(void* stream, const XcCores* cores, void* const* pointers, const int64_t* at,
               void* sizes, void* tables, void** graph);
int xc_replay(void* graph, void* stream);
int xc_release(void* graph);
}

namespace xc::host {
constexpr i64 kAlign = 512;  // bytes; what aclrtMalloc gives

struct Symbol {
  std::string name;
  i64 low, high;
};
/// The size of a symbol is that of an input's dim.
struct Binding {
  size_t input, dim, symbol;
};
/// A slice of the arena, alive from stage `first` to stage `last`; `shares` is the buffer in whose
/// place it lies, or -1.
struct Buffer {
  i64 bytes, first, last, shares;
};
/// What sizes decide.
struct Shapes {
  std::vector<Tensor> inputs, outputs;
  std::vector<Buffer> buffers;
};
/// The step of this program; what stands in main.cpp.
struct Step {
  std::vector<Symbol> symbols;
  std::vector<Binding> bindings;
  std::vector<Tensor> consts;
  std::vector<size_t> state;  // inputs that the step updates
  XcCores most;               // what workspaces are sized for
  Shapes (*shapes)(const std::vector<i64>& sizes);
};

struct Options {
  std::string weights = "weights.safetensors", inputs, output;
  std::map<std::string, i64> sizes;
  i64 repeat = 1;
  int device = 0;
  bool capture = false;
};

inline const char* usage() {
  return "usage: run_step --inputs FILE [--weights FILE] [--output FILE] [--repeat N] [--capture]\n"
         "                [--device N] [NAME=SIZE ...]\n\n"
         "Runs the step on the inputs of a safetensors file, by their names (or those of an\n"
         "artifact's examples.safetensors), and writes the results. An input that the file lacks\n"
         "is zero: a fresh cache. Sizes follow from the inputs' shapes; those that do not are\n"
         "given by name. --repeat: steps that are timed, after the first; --capture: they replay\n"
         "a captured graph.\n";
}

inline i64 number(const std::string& text, const char* what) {
  if (text.empty() || text.size() > 15 || text.find_first_not_of("0123456789") != text.npos) {
    fail("%s: expected a number, given '%s'", what, text.c_str());
  }
  return std::atoll(text.c_str());
}

inline Options parseOptions(int argc, char** argv) {
  Options o;
  for (int k = 1; k < argc; ++k) {
    const std::string a = argv[k];
    const auto value = [&]() -> std::string {
      if (k + 1 >= argc) fail("%s needs a value", a.c_str());
      return argv[++k];
    };
    const size_t eq = a.find('=');
    if (a == "--inputs") {
      o.inputs = value();
    } else if (a == "--weights") {
      o.weights = value();
    } else if (a == "--output") {
      o.output = value();
    } else if (a == "--repeat") {
      o.repeat = number(value(), "--repeat");
    } else if (a == "--device") {
      o.device = static_cast<int>(number(value(), "--device"));
    } else if (a == "--capture") {
      o.capture = true;
    } else if (a == "-h" || a == "--help") {
      std::fputs(usage(), stdout);
      std::exit(0);
    } else if (a[0] != '-' && eq != std::string::npos) {
      o.sizes[a.substr(0, eq)] = number(a.substr(eq + 1), a.c_str());
    } else {
      fail("unknown option '%s'\n%s", a.c_str(), usage());
    }
  }
  if (o.inputs.empty()) fail("--inputs is missing\n%s", usage());
  return o;
}

inline void check(int code, const char* call) {
  if (code != ACL_SUCCESS) fail("%s returned error %d", call, code);
}

/// An input in a file: by its name, or as an artifact's examples.safetensors has it.
inline const TensorFile::Entry* inputOf(const TensorFile& file, const Tensor& t, size_t number) {
  const TensorFile::Entry* e = file.find(t.name);
  return e != nullptr ? e : file.find("inputs." + std::to_string(number));
}

/// The sizes of the symbols, from the command line and the inputs' shapes.
inline std::vector<i64> bindSizes(const Step& step, const Options& o, const TensorFile& file) {
  std::vector<i64> sizes(step.symbols.size(), -1);
  const std::vector<Tensor> names = step.shapes(std::vector<i64>(sizes.size(), 1)).inputs;
  for (const Binding& b : step.bindings) {
    const TensorFile::Entry* e = inputOf(file, names[b.input], b.input);
    if (e != nullptr && b.dim < e->tensor.shape.size()) sizes[b.symbol] = e->tensor.shape[b.dim];
  }
  for (const auto& [name, size] : o.sizes) {
    const auto same = [&name = name](const Symbol& s) { return s.name == name; };
    const auto found = std::find_if(step.symbols.begin(), step.symbols.end(), same);
    if (found == step.symbols.end()) fail("this step has no size named %s", name.c_str());
    sizes[static_cast<size_t>(found - step.symbols.begin())] = size;
  }
  for (size_t k = 0; k < sizes.size(); ++k) {
    const Symbol& s = step.symbols[k];
    if (sizes[k] < 0)
      fail("no input tells the size of %s: give %s=N", s.name.c_str(), s.name.c_str());
    if (sizes[k] < s.low || sizes[k] > s.high) {
      fail("%s is %lld, outside of %lld..%lld", s.name.c_str(), static_cast<long long>(sizes[k]),
           static_cast<long long>(s.low), static_cast<long long>(s.high));
    }
  }
  return sizes;
}

/// Sizes that memory is planned for: the next powers of two, within the symbols' ranges.
inline std::vector<i64> capacity(const Step& step, const std::vector<i64>& sizes) {
  std::vector<i64> out;
  for (size_t k = 0; k < sizes.size(); ++k) {
    i64 n = 1;
    while (n < sizes[k]) n *= 2;
    out.push_back(std::min(step.symbols[k].high, n));
  }
  return out;
}

/// Offset of every buffer in the arena; the last number is the arena's size. Greedy by size: each
/// buffer at the lowest offset that none alive at the same time covers.
inline std::vector<i64> planArena(std::vector<Buffer> buffers) {
  const size_t n = buffers.size();
  const auto root = [&buffers](size_t i) {
    while (buffers[i].shares >= 0) i = static_cast<size_t>(buffers[i].shares);
    return i;
  };
  std::vector<size_t> order;
  for (size_t i = 0; i < n; ++i) {
    buffers[i].bytes = (std::max<i64>(buffers[i].bytes, 1) + kAlign - 1) / kAlign * kAlign;
    if (root(i) == i) order.push_back(i);
  }
  for (size_t i = 0; i < n; ++i) {  // who shares a buffer extends its life
    Buffer& owner = buffers[root(i)];
    owner.first = std::min(owner.first, buffers[i].first);
    owner.last = std::max(owner.last, buffers[i].last);
  }
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return buffers[a].bytes > buffers[b].bytes; });
  std::vector<i64> offsets(n, 0);
  i64 total = 0;
  for (size_t k = 0; k < order.size(); ++k) {
    const Buffer& b = buffers[order[k]];
    std::vector<std::pair<i64, i64>> busy;
    for (size_t j = 0; j < k; ++j) {
      const Buffer& other = buffers[order[j]];
      if (other.first <= b.last && b.first <= other.last) {
        busy.emplace_back(offsets[order[j]], offsets[order[j]] + other.bytes);
      }
    }
    std::sort(busy.begin(), busy.end());
    i64 at = 0;
    for (const auto& [low, high] : busy) {
      if (at + b.bytes <= low) break;
      at = std::max(at, high);
    }
    offsets[order[k]] = at;
    total = std::max(total, at + b.bytes);
  }
  for (size_t i = 0; i < n; ++i) offsets[i] = offsets[root(i)];
  offsets.push_back(total);
  return offsets;
}

/// Device memory that lives as long as this.
class Memory {
 public:
  ~Memory() {
    for (void* p : blocks_) aclrtFree(p);
  }
  char* take(i64 bytes) {
    void* p = nullptr;
    check(aclrtMalloc(&p, static_cast<size_t>(std::max(bytes, kAlign)), ACL_MEM_MALLOC_HUGE_FIRST),
          "aclrtMalloc");
    blocks_.push_back(p);
    return static_cast<char*>(p);
  }

 private:
  std::vector<void*> blocks_;
};

inline void upload(void* to, const void* from, i64 bytes) {
  if (bytes == 0) return;
  const auto n = static_cast<size_t>(bytes);
  check(aclrtMemcpy(to, n, from, n, ACL_MEMCPY_HOST_TO_DEVICE), "aclrtMemcpy");
}

/// A tensor of a file on the device; zeros without an entry.
inline char* load(Memory& memory, const TensorFile& file, const Tensor& want,
                  const TensorFile::Entry* e) {
  char* const to = memory.take(want.bytes());
  if (e != nullptr && (e->tensor.dtype != want.dtype || e->tensor.shape != want.shape)) {
    fail("%s: '%s' is %s, expected %s", file.at(), want.name.c_str(), e->tensor.type().c_str(),
         want.type().c_str());
  }
  std::vector<char> piece(static_cast<size_t>(std::min<i64>(want.bytes(), i64{64} << 20)), 0);
  for (i64 done = 0; done < want.bytes();) {
    const i64 n = std::min<i64>(static_cast<i64>(piece.size()), want.bytes() - done);
    if (e != nullptr) file.read(*e, done, piece.data(), n);
    upload(to + done, piece.data(), n);
    done += n;
  }
  return to;
}

inline XcCores cores(int device, XcCores most) {
  int64_t cube = 0, vector = 0;
  const auto id = static_cast<uint32_t>(device);
  check(aclrtGetDeviceInfo(id, ACL_DEV_ATTR_CUBE_CORE_NUM, &cube), "aclrtGetDeviceInfo");
  check(aclrtGetDeviceInfo(id, ACL_DEV_ATTR_VECTOR_CORE_NUM, &vector), "aclrtGetDeviceInfo");
  const uint32_t v = std::min(static_cast<uint32_t>(vector), most.vector);
  return {std::min({static_cast<uint32_t>(cube), most.cube, v / 2}), v};
}

/// Runs the step as the command line says.
inline int run(const Step& step, int argc, char** argv) {
  const Options o = parseOptions(argc, argv);
  const TensorFile file(o.inputs), weights(o.weights);
  const std::vector<i64> sizes = bindSizes(step, o, file);
  const Shapes now = step.shapes(sizes);
  const std::vector<i64> at = planArena(step.shapes(capacity(step, sizes)).buffers);

  check(aclInit(nullptr), "aclInit");
  check(aclrtSetDevice(o.device), "aclrtSetDevice");
  aclrtStream stream = nullptr;
  check(aclrtCreateStream(&stream), "aclrtCreateStream");
  {
    Memory memory;
    const XcCores team = cores(o.device, step.most);
    std::vector<void*> consts;
    for (const Tensor& t : step.consts) {
      const TensorFile::Entry* e = weights.find(t.name);
      if (e == nullptr) fail("%s has no tensor '%s'", weights.at(), t.name.c_str());
      consts.push_back(load(memory, weights, t, e));
    }
    std::vector<void*> pointers{memory.take(at.back()), consts.data()};
    for (size_t k = 0; k < now.inputs.size(); ++k) {
      const TensorFile::Entry* e = inputOf(file, now.inputs[k], k);
      if (e == nullptr)
        std::printf("%s: not in %s, zeros\n", now.inputs[k].name.c_str(), file.at());
      pointers.push_back(load(memory, file, now.inputs[k], e));
    }
    for (const Tensor& t : now.outputs) pointers.push_back(memory.take(t.bytes()));
    char* const sizesAt = memory.take(static_cast<i64>(8 * sizes.size()));
    upload(sizesAt, sizes.data(), static_cast<i64>(8 * sizes.size()));
    std::vector<void*> table(xc_table_bytes() / sizeof(void*));
    char* const tables = memory.take(static_cast<i64>(xc_table_bytes()));
    xc_tables(pointers.data(), at.data(), table.data());
    upload(tables, table.data(), static_cast<i64>(xc_table_bytes()));

    void* graph = nullptr;
    if (o.capture) {
      check(xc_capture(stream, &team, pointers.data(), at.data(), sizesAt, tables, &graph),
            "the capture");
    }
    const auto once = [&] {
      check(o.capture ? xc_replay(graph, stream)
                      : xc_step(stream, &team, pointers.data(), at.data(), sizesAt, tables),
            "the step");
    };
    once();
    check(aclrtSynchronizeStream(stream), "aclrtSynchronizeStream");

    std::vector<Tensor> results = now.outputs;
    std::vector<void*> where(pointers.end() - static_cast<std::ptrdiff_t>(now.outputs.size()),
                             pointers.end());
    for (const size_t k : step.state) {
      results.push_back(now.inputs[k]);
      results.back().name += " (updated)";
      where.push_back(pointers[2 + k]);
    }
    std::vector<char> data;
    for (size_t k = 0; k < results.size(); ++k) {
      const auto n = static_cast<size_t>(results[k].bytes()), old = data.size();
      data.resize(old + n);
      if (n == 0) continue;
      check(aclrtMemcpy(&data[old], n, where[k], n, ACL_MEMCPY_DEVICE_TO_HOST), "aclrtMemcpy");
    }
    if (!o.output.empty()) writeTensors(o.output, results, data);

    aclrtEvent begin = nullptr, end = nullptr;
    check(aclrtCreateEvent(&begin), "aclrtCreateEvent");
    check(aclrtCreateEvent(&end), "aclrtCreateEvent");
    check(aclrtRecordEvent(begin, stream), "aclrtRecordEvent");
    for (i64 k = 0; k < o.repeat; ++k) once();
    check(aclrtRecordEvent(end, stream), "aclrtRecordEvent");
    check(aclrtSynchronizeStream(stream), "aclrtSynchronizeStream");
    float ms = 0;
    if (o.repeat > 0) check(aclrtEventElapsedTime(&ms, begin, end), "aclrtEventElapsedTime");
    if (o.repeat > 0) {
      std::printf("%.2f us per step (%lld steps%s)\n", 1e3 * ms / static_cast<double>(o.repeat),
                  static_cast<long long>(o.repeat), o.capture ? ", captured" : "");
    }
    aclrtDestroyEvent(begin);
    aclrtDestroyEvent(end);
    if (graph != nullptr) xc_release(graph);
  }
  aclrtDestroyStream(stream);
  aclrtResetDevice(o.device);
  aclFinalize();
  return 0;
}
}  // namespace xc::host
